import type { Selectable } from 'kysely';
import type { RequestContext } from '../context.ts';
import { eui64Address } from '../eui64.ts';
import type { Db } from './connect.ts';
import type { InstancesTable } from './schema.ts';

/** What the HTTP APIs show of an instance. */
export interface InstanceView {
  id: number;
  uuid: string;
  user_id: string;
  project_id: string;
  reservation_id: string;
  launch_index: number;
  image_id: number;
  kernel_id: number | null;
  ramdisk_id: number | null;
  instance_type: string;
  flavorid: number;
  memory_mb: number;
  vcpus: number;
  local_gb: number;
  key_name: string | null;
  hostname: string;
  host: string | null;
  /** Of its host once it has one, as asked for until then; null when neither is known. */
  availability_zone: string | null;
  display_name: string;
  display_description: string;
  power_state: number;
  vm_state: string;
  task_state: string | null;
  fault: string | null;
  created_at: string;
  updated_at: string | null;
  launched_at: string | null;
  terminated_at: string | null;
  deleted: boolean;
  addresses: { network_label: string; address: string; mac: string; address_v6: string | null; floating: string[] }[];
  security_groups: { id: number; name: string }[];
  metadata: Record<string, string>;
  /** `required`, `optional`, or null: as --metadata_require_token says. */
  http_tokens: string | null;
  /** `disabled`, or else the metadata service answers it. */
  http_endpoint: string | null;
  /** What is attached or about to be, by device. */
  volumes: InstanceVolume[];
}

export interface InstanceVolume {
  volume_id: number;
  /** `/dev/vdb` */
  device: string;
  /** attaching, attached, detaching */
  status: string;
  /** The instance boots from it. */
  boot: boolean;
  delete_on_termination: boolean;
  attached_at: string | null;
}

/** What a list may be chosen by as it is stored. */
export type InstanceColumns = Partial<
  Pick<Row, 'user_id' | 'project_id' | 'host' | 'vm_state' | 'task_state' | 'power_state' | 'key_name' | 'hostname'>
>;

export interface InstanceFilter {
  ids?: readonly number[];
  uuid?: string;
  reservation_id?: string;
  /** After this id. */
  marker?: number;
  limit?: number;
  /** ISO; changed or deleted since. */
  changes_since?: string;
  /** Those that are gone, too; `only`: no others; false: none of them, not even with `changes_since`. */
  deleted?: boolean | 'only';
  /** Columns and what stands in them. */
  equal?: InstanceColumns;
  /** Guests of networks with an IPv6 block have an address of it. */
  use_ipv6?: boolean;
}

const COLUMNS = [
  'id',
  'uuid',
  'user_id',
  'project_id',
  'reservation_id',
  'launch_index',
  'image_id',
  'kernel_id',
  'ramdisk_id',
  'memory_mb',
  'vcpus',
  'local_gb',
  'key_name',
  'hostname',
  'host',
  'display_name',
  'display_description',
  'power_state',
  'vm_state',
  'task_state',
  'fault',
  'created_at',
  'updated_at',
  'launched_at',
  'terminated_at',
  'deleted',
  'instance_type_id',
  'availability_zone',
  'http_tokens',
  'http_endpoint',
] as const;

/** The caller's instances with all that belongs to them, in six queries however many they are. */
export async function viewInstances(db: Db, ctx: RequestContext, filter: InstanceFilter): Promise<InstanceView[]> {
  const chosen = chosenInstances(db, ctx, filter);
  const rows = await chosen.select(COLUMNS).orderBy('id').execute();
  if (rows.length === 0) return [];
  const [types, zones, addresses, groups, metadata, volumes] = await Promise.all([
    db.selectFrom('instance_types').select(['id', 'name', 'flavorid']).execute(),
    db
      .selectFrom('services')
      .select(['host', 'availability_zone'])
      .where('binary', '=', 'nova-compute')
      .where('deleted', '=', 0)
      .execute(),
    db
      .selectFrom('fixed_ips')
      .innerJoin('networks', 'networks.id', 'fixed_ips.network_id')
      .innerJoin('virtual_interfaces', 'virtual_interfaces.id', 'fixed_ips.virtual_interface_id')
      .leftJoin('floating_ips', 'floating_ips.fixed_ip_id', 'fixed_ips.id')
      .select(['fixed_ips.instance_id', 'fixed_ips.address', 'networks.label', 'virtual_interfaces.address as mac'])
      .select(['floating_ips.address as floating', 'networks.cidr_v6'])
      .where('fixed_ips.instance_id', 'in', chosen.select('id'))
      .where('fixed_ips.allocated', '=', 1)
      .orderBy('fixed_ips.id')
      .orderBy('floating_ips.id')
      .execute(),
    db
      .selectFrom('security_group_instance_association as link')
      .innerJoin('security_groups', 'security_groups.id', 'link.security_group_id')
      .select(['link.instance_id', 'security_groups.id', 'security_groups.name'])
      .where('link.instance_id', 'in', chosen.select('id'))
      .where('link.deleted', '=', 0)
      .execute(),
    db
      .selectFrom('instance_metadata')
      .select(['instance_id', 'key', 'value'])
      .where('instance_id', 'in', chosen.select('id'))
      .where('deleted', '=', 0)
      .execute(),
    db
      .selectFrom('volume_attachments')
      .select(['instance_id', 'volume_id', 'device', 'status', 'boot', 'delete_on_termination', 'attached_at'])
      .where('instance_id', 'in', chosen.select('id'))
      .where('deleted', '=', 0)
      .orderBy('device')
      .execute(),
  ]);
  const type_of = new Map(types.map((type) => [type.id, type]));
  const zone_of = new Map(zones.map((service) => [service.host, service.availability_zone]));
  const views = new Map<number, InstanceView>();
  for (const row of rows) {
    const zone = row.host === null ? undefined : zone_of.get(row.host);
    views.set(row.id, viewOf(row, type_of.get(row.instance_type_id), zone ?? row.availability_zone));
  }
  for (const ip of addresses) {
    const shown = views.get(ip.instance_id ?? 0)?.addresses;
    const floating = ip.floating === null ? [] : [ip.floating];
    const before = shown?.at(-1);
    if (before?.mac === ip.mac && before.address === ip.address) before.floating.push(...floating);
    else {
      const address_v6 =
        filter.use_ipv6 && ip.cidr_v6 !== null && !shown?.some(({ mac }) => mac === ip.mac)
          ? eui64Address(ip.cidr_v6, ip.mac)
          : null; // a card has one, however many others it has
      shown?.push({ network_label: ip.label, address: ip.address, mac: ip.mac, address_v6, floating });
    }
  }
  for (const { instance_id, ...group } of groups) views.get(instance_id)?.security_groups.push(group);
  for (const pair of metadata) {
    const view = views.get(pair.instance_id);
    if (view) view.metadata[pair.key] = pair.value;
  }
  for (const { instance_id, boot, delete_on_termination, ...volume } of volumes)
    views
      .get(instance_id)
      ?.volumes.push({ ...volume, boot: boot === 1, delete_on_termination: delete_on_termination === 1 });
  return [...views.values()];
}

type Row = Pick<Selectable<InstancesTable>, (typeof COLUMNS)[number]>;

/** Written out: a spread of thirty properties takes three times as long as the query, and lists are long. */
function viewOf(
  row: Row,
  type: { name: string; flavorid: number } | undefined,
  availability_zone: string | null,
): InstanceView {
  return {
    id: row.id,
    uuid: row.uuid,
    user_id: row.user_id,
    project_id: row.project_id,
    reservation_id: row.reservation_id,
    launch_index: row.launch_index,
    image_id: row.image_id,
    kernel_id: row.kernel_id,
    ramdisk_id: row.ramdisk_id,
    memory_mb: row.memory_mb,
    vcpus: row.vcpus,
    local_gb: row.local_gb,
    key_name: row.key_name,
    hostname: row.hostname,
    host: row.host,
    display_name: row.display_name,
    display_description: row.display_description,
    power_state: row.power_state,
    vm_state: row.vm_state,
    task_state: row.task_state,
    fault: row.fault,
    created_at: row.created_at,
    updated_at: row.updated_at,
    launched_at: row.launched_at,
    terminated_at: row.terminated_at,
    deleted: row.deleted === 1,
    http_tokens: row.http_tokens,
    http_endpoint: row.http_endpoint,
    instance_type: type?.name ?? '',
    flavorid: type?.flavorid ?? 0,
    availability_zone,
    addresses: [],
    security_groups: [],
    metadata: {},
    volumes: [],
  };
}

function chosenInstances(db: Db, ctx: RequestContext, filter: InstanceFilter) {
  let query = db.selectFrom('instances');
  const { deleted = filter.changes_since !== undefined, equal } = filter;
  if (deleted !== true) query = query.where('deleted', '=', deleted === 'only' ? 1 : 0);
  if (equal) query = query.where((e) => e.and(equal));
  if (!ctx.is_admin) query = query.where('project_id', '=', ctx.project_id ?? '');
  if (filter.ids) query = query.where('id', 'in', filter.ids.length > 0 ? [...filter.ids] : [-1]);
  if (filter.uuid !== undefined) query = query.where('uuid', '=', filter.uuid);
  if (filter.reservation_id !== undefined) query = query.where('reservation_id', '=', filter.reservation_id);
  if (filter.marker !== undefined) query = query.where('id', '>', filter.marker);
  const since = filter.changes_since;
  if (since !== undefined)
    query = query.where((e) => e.or([e('updated_at', '>=', since), e('created_at', '>=', since)]));
  return filter.limit === undefined ? query : query.orderBy('id').limit(filter.limit);
}
