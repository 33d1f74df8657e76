import { clock } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import type { InstanceView } from '../../common/db/instance_views.ts';
import { ec2GroupId } from '../../common/db/security_groups.ts';
import { InstanceNotFound } from '../../common/errors.ts';
import type { Ec2Deps } from './deps.ts';
import { matcher, type Fields, type Filter } from './filters.ts';
import { formatId } from './ids.ts';
import { privateIp, publicIp, rootDeviceName, viewState, zoneOf } from './instance_view.ts';
import { afterId, cutPage, type Paging } from './paging.ts';

/** How long a terminated instance can still be asked for by its id, as with AWS: tools wait to see it terminated. */
const SEEN_AFTER_END_MS = 3600 * 1000;

/**
 * These instances, in the order of their ids, each once; terminated ones for an hour after their end.
 * @throws InstanceNotFound naming the first that is not there
 */
export async function instancesById(
  ctx: RequestContext,
  { compute }: Pick<Ec2Deps, 'compute'>,
  ids: readonly number[],
): Promise<InstanceView[]> {
  const since = clock.now().getTime() - SEEN_AFTER_END_MS;
  const found = (await compute.list(ctx, { ids, deleted: true })).filter(
    ({ deleted, terminated_at }) => !deleted || Date.parse(terminated_at ?? '') > since,
  );
  const known = new Set(found.map(({ id }) => id));
  const missing = ids.find((id) => !known.has(id));
  if (missing === undefined) return found;
  throw new InstanceNotFound(
    `there is no instance ${formatId('i', missing)}; describe your instances to see their ids`,
  );
}

/** Those with these ids, or all that live, that the filters let through, cut to a page. */
export async function instancePage(
  ctx: RequestContext,
  deps: Pick<Ec2Deps, 'compute'>,
  asked: Paging & { ids: readonly number[]; filters: readonly Filter[] },
): Promise<{ page: readonly InstanceView[]; nextToken: string | undefined }> {
  const matches = matcher(asked.filters, FIELDS, ({ metadata }) => metadata);
  const marker = afterId(asked);
  if (asked.ids.length > 0) {
    const named = await instancesById(ctx, deps, asked.ids);
    return cutPage(
      named.filter((instance) => instance.id > marker && matches(instance)),
      asked,
    );
  }
  // One more than the page shows whether there is another; filters need all, since the database does not know them.
  const limit = asked.MaxResults !== undefined && asked.filters.length === 0 ? { limit: asked.MaxResults + 1 } : {};
  return cutPage((await deps.compute.list(ctx, { marker, ...limit })).filter(matches), asked);
}

const groupIds = ({ security_groups }: InstanceView) => security_groups.map(({ id }) => ec2GroupId(id));
const groupNames = ({ security_groups }: InstanceView) => security_groups.map(({ name }) => name);

const FIELDS: Fields<InstanceView> = {
  'instance-id': ({ id }) => formatId('i', id),
  'instance-state-name': (instance) => viewState(instance).name,
  'instance-state-code': (instance) => viewState(instance).code,
  'instance-type': ({ instance_type }) => instance_type,
  'image-id': ({ image_id }) => formatId('ami', image_id),
  'kernel-id': ({ kernel_id }) => (kernel_id === null ? null : formatId('aki', kernel_id)),
  'ramdisk-id': ({ ramdisk_id }) => (ramdisk_id === null ? null : formatId('ari', ramdisk_id)),
  'key-name': ({ key_name }) => key_name,
  'reservation-id': ({ reservation_id }) => reservation_id,
  'owner-id': ({ project_id }) => project_id,
  'launch-index': ({ launch_index }) => launch_index,
  'availability-zone': zoneOf,
  'private-ip-address': privateIp,
  'private-dns-name': privateIp,
  'ip-address': publicIp,
  'dns-name': (instance) => publicIp(instance) ?? privateIp(instance),
  'group-id': groupIds,
  'instance.group-id': groupIds,
  'group-name': groupNames,
  'instance.group-name': groupNames,
  'root-device-name': rootDeviceName,
  'block-device-mapping.device-name': ({ volumes }) => volumes.map(({ device }) => device),
  'block-device-mapping.volume-id': ({ volumes }) => volumes.map(({ volume_id }) => formatId('vol', volume_id)),
  'block-device-mapping.status': ({ volumes }) => volumes.map(({ status }) => status),
};
