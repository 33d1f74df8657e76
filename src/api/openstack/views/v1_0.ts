import type { Image } from '../../../common/db/images.ts';
import type { InstanceType } from '../../../common/db/instance_types.ts';
import type { InstanceView } from '../../../common/db/instance_views.ts';
import type { RateState } from '../rate_limits.ts';
import { hostId, isoSeconds } from './servers.ts';
import { imageStatus, serverStatus } from './status.ts';

/** The words of 1.0: no links, ids instead of references. Source: Nova 2011.3 nova/api/openstack/views/, ViewBuilderV10 */

export const viewServerName10 = ({ id, uuid, display_name }: InstanceView): object => ({
  id,
  uuid,
  name: display_name,
});

export function viewServer10(server: InstanceView): Record<string, unknown> {
  const status = serverStatus(server);
  return {
    ...viewServerName10(server),
    status,
    ...(status === 'ACTIVE' ? { progress: 100 } : status === 'BUILD' ? { progress: 0 } : {}),
    ...(status === 'ERROR' && server.fault !== null ? { fault: { code: 500, message: server.fault } } : {}),
    user_id: server.user_id,
    tenant_id: server.project_id,
    hostId: hostId(server.host),
    imageId: server.image_id,
    flavorId: server.flavorid,
    metadata: server.metadata,
    addresses: viewAddresses10(server),
  };
}

export const viewAddresses10 = ({ addresses }: InstanceView): { public: string[]; private: string[] } => ({
  public: addresses.flatMap(({ floating }) => floating),
  private: addresses.map(({ address }) => address),
});

export const viewFlavorName10 = ({ flavorid, name }: InstanceType): object => ({ id: flavorid, name });
export const viewFlavor10 = (type: InstanceType): object => ({
  ...viewFlavorName10(type),
  ram: type.memory_mb,
  disk: type.local_gb,
});

export const viewImageName10 = ({ id, name }: Image): object => ({ id, name });
export function viewImage10(image: Image): object {
  const status = imageStatus(image.status);
  return {
    ...viewImageName10(image),
    created: isoSeconds(image.created_at),
    updated: isoSeconds(image.updated_at ?? image.created_at),
    status,
    progress: status === 'ACTIVE' ? 100 : 0,
  };
}

export const viewRate10 = ({ verb, uri, regex, value, remaining, unit, next_available }: RateState): object => ({
  verb,
  URI: uri,
  regex,
  value,
  remaining,
  unit,
  resetTime: Math.ceil(Date.parse(next_available) / 1000),
});
