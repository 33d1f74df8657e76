import type { RequestContext } from '../../common/context.ts';
import type { InstanceView } from '../../common/db/instance_views.ts';
import { ec2GroupId } from '../../common/db/security_groups.ts';
import { formatId } from './ids.ts';
import type { XmlObject } from './xml.ts';

/** AWS's states: its tools wait for these names and codes. */
const STATES = {
  pending: 0,
  running: 16,
  'shutting-down': 32,
  terminated: 48,
  stopping: 64,
  stopped: 80,
  /** Nova's own word; the code is stopped's, since there is no guest. */
  error: 80,
} as const;
export type StateName = keyof typeof STATES;

export function stateName({ vm_state, task_state }: Pick<InstanceView, 'vm_state' | 'task_state'>): StateName {
  if (vm_state === 'deleted') return 'terminated';
  if (task_state === 'deleting') return 'shutting-down';
  switch (vm_state) {
    case 'building':
      return 'pending';
    case 'active':
      return 'running';
    case 'stopped':
      return 'stopped';
    default:
      return 'error';
  }
}

export function viewState(instance: Pick<InstanceView, 'vm_state' | 'task_state'>): { code: number; name: StateName } {
  const name = stateName(instance);
  return { code: STATES[name], name };
}

/** The database's ISO time without its fraction. */
export const ec2Time = (text: string | null): string | null => (text === null ? null : `${text.slice(0, 19)}Z`);

export const privateIp = ({ addresses }: InstanceView): string | null => addresses[0]?.address ?? null;
export const publicIp = ({ addresses }: InstanceView): string | null =>
  addresses.find(({ floating }) => floating.length > 0)?.floating[0] ?? null;
export const zoneOf = ({ availability_zone }: InstanceView): string => availability_zone ?? 'unknown zone';

/** Groups got ids in this version of AWS's API; a client of an earlier one reads the name where the id is now. */
const GROUP_IDS_SINCE = '2011-01-01';

export const viewGroups = ({ security_groups }: InstanceView, { version }: Pick<Shown, 'version'>) =>
  security_groups.map(({ id, name }) => ({
    groupId: version < GROUP_IDS_SINCE ? name : ec2GroupId(id),
    groupName: name,
  }));

/** Of the volume that it boots from; else Nova's name for a disk made of the image. */
export const rootDeviceName = ({ volumes }: InstanceView): string =>
  volumes.find(({ boot }) => boot)?.device ?? '/dev/sda1';

export const viewDevices = ({ volumes, created_at }: InstanceView): XmlObject[] =>
  volumes.map((volume) => ({
    deviceName: volume.device,
    ebs: {
      volumeId: formatId('vol', volume.volume_id),
      status: volume.status,
      attachTime: ec2Time(volume.attached_at ?? created_at),
      deleteOnTermination: volume.delete_on_termination,
    },
  }));

/** What is not said at the launch is as the flag has it. */
export const viewMetadataOptions = (
  { http_tokens, http_endpoint }: Pick<InstanceView, 'http_tokens' | 'http_endpoint'>,
  { metadata_require_token }: Pick<Shown, 'metadata_require_token'>,
): XmlObject => ({
  state: 'applied',
  httpTokens: http_tokens ?? (metadata_require_token ? 'required' : 'optional'),
  httpEndpoint: http_endpoint ?? 'enabled',
  httpProtocolIpv6: 'disabled',
  instanceMetadataTags: 'disabled',
});

/** What an instance's item depends on, besides the instance: the version that the client speaks, and flags. */
export interface Shown {
  version: string;
  metadata_require_token: boolean;
}

export const viewTags = (tags: Readonly<Record<string, string>>) =>
  Object.entries(tags).map(([key, value]) => ({ key, value }));

/**
 * An item of `instancesSet`, with what Nova sent and what AWS's tools read beside it.
 * Source: Nova 2011.3 nova/api/ec2/cloud.py, _format_instances
 */
export function viewInstance(ctx: RequestContext, instance: InstanceView, shown: Shown): XmlObject {
  const [fixed, floating] = [privateIp(instance), publicIp(instance)];
  const v6 = instance.addresses[0]?.address_v6 ?? undefined;
  const failure = instance.fault === null ? null : { code: 'Server.InternalError', message: instance.fault };
  return {
    instanceId: formatId('i', instance.id),
    imageId: formatId('ami', instance.image_id),
    kernelId: instance.kernel_id === null ? undefined : formatId('aki', instance.kernel_id),
    ramdiskId: instance.ramdisk_id === null ? undefined : formatId('ari', instance.ramdisk_id),
    instanceState: viewState(instance),
    privateDnsName: fixed,
    publicDnsName: floating,
    dnsName: floating ?? fixed,
    privateIpAddress: fixed ?? undefined,
    ipAddress: floating ?? fixed ?? undefined,
    dnsNameV6: v6, // Nova's name
    ipv6Address: v6,
    reason: instance.fault,
    stateReason: failure ?? undefined,
    // As Nova did: an administrator, who sees all projects, sees here whose it is and where it runs.
    keyName: ctx.is_admin
      ? `${instance.key_name ?? 'None'} (${instance.project_id}, ${instance.host ?? 'None'})`
      : instance.key_name,
    amiLaunchIndex: instance.launch_index,
    productCodesSet: [],
    instanceType: instance.instance_type,
    launchTime: ec2Time(instance.created_at),
    placement: { availabilityZone: zoneOf(instance), tenancy: 'default' },
    monitoring: { state: 'disabled' },
    displayName: instance.display_name,
    displayDescription: instance.display_description,
    groupSet: viewGroups(instance, shown),
    rootDeviceName: rootDeviceName(instance),
    rootDeviceType: instance.volumes.some(({ boot }) => boot) ? 'ebs' : 'instance-store',
    blockDeviceMapping: viewDevices(instance),
    virtualizationType: 'hvm',
    metadataOptions: viewMetadataOptions(instance, shown),
    tagSet: viewTags(instance.metadata),
  };
}

/** Instances of one reservation, as RunInstances answers and DescribeInstances lists. */
export function viewReservation(ctx: RequestContext, instances: readonly InstanceView[], shown: Shown): XmlObject {
  const [first] = instances;
  return {
    reservationId: first?.reservation_id,
    ownerId: first?.project_id,
    groupSet: first ? viewGroups(first, shown) : [],
    instancesSet: instances.map((instance) => viewInstance(ctx, instance, shown)),
  };
}

/** Reservations in the order of their first instance. */
export function viewReservations(ctx: RequestContext, instances: readonly InstanceView[], shown: Shown): XmlObject[] {
  const reservations = new Map<string, InstanceView[]>();
  for (const instance of instances) {
    const of_same = reservations.get(instance.reservation_id);
    if (of_same) of_same.push(instance);
    else reservations.set(instance.reservation_id, [instance]);
  }
  return [...reservations.values()].map((of_same) => viewReservation(ctx, of_same, shown));
}
