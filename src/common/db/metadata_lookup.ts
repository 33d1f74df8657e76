import { type Db } from './connect.ts';

/** All that the metadata service tells an instance about itself. */
export interface InstanceFacts {
  id: number;
  project_id: string;
  image_id: number;
  kernel_id: number | null;
  ramdisk_id: number | null;
  instance_type: string;
  launch_index: number;
  reservation_id: string;
  hostname: string;
  key_name: string | null;
  key_data: string | null;
  /** Base64, as the user sent it. */
  user_data: string | null;
  /** Null while it has no host. */
  availability_zone: string | null;
  /** Names, in order of the alphabet. */
  security_groups: string[];
  /** The address that was looked up. */
  local_ipv4: string;
  /** See InstancesTable. */
  http_tokens: string | null;
  http_endpoint: string | null;
  public_ipv4: string | null;
}

/**
 * The live instance that an allocated fixed ip belongs to. Two networks may hold the same address; when it belongs to
 * more than one instance the answer is none of them, since user data is not for the neighbour's eyes.
 */
export async function instanceAt(db: Db, address: string): Promise<InstanceFacts | undefined> {
  const rows = await db
    .selectFrom('fixed_ips as ip')
    .innerJoin('instances as i', 'i.id', 'ip.instance_id')
    .innerJoin('instance_types as t', 't.id', 'i.instance_type_id')
    .select([
      'ip.id as fixed_ip_id',
      'i.id',
      'i.project_id',
      'i.image_id',
      'i.kernel_id',
      'i.ramdisk_id',
      't.name as instance_type',
      'i.launch_index',
      'i.reservation_id',
      'i.hostname',
      'i.key_name',
      'i.key_data',
      'i.user_data',
      'i.host',
      'i.http_tokens',
      'i.http_endpoint',
    ])
    .where('ip.address', '=', address)
    .where('ip.allocated', '=', 1)
    .where('i.deleted', '=', 0)
    .limit(2)
    .execute();
  const [row] = rows;
  if (row === undefined || rows.length > 1) return undefined;
  const { host, fixed_ip_id, ...instance } = row;
  const [availability_zone, security_groups, public_ipv4] = await Promise.all([
    zoneOfHost(db, host),
    groupNames(db, row.id),
    floatingIpOf(db, fixed_ip_id),
  ]);
  return { ...instance, availability_zone, security_groups, local_ipv4: address, public_ipv4 };
}

/** Of several the one that the guest's own traffic leaves with. */
async function floatingIpOf(db: Db, fixed_ip_id: number): Promise<string | null> {
  const row = await db
    .selectFrom('floating_ips')
    .select('address')
    .where('fixed_ip_id', '=', fixed_ip_id)
    .orderBy('id')
    .executeTakeFirst();
  return row?.address ?? null;
}

async function zoneOfHost(db: Db, host: string | null): Promise<string | null> {
  if (host === null) return null;
  const service = await db
    .selectFrom('services')
    .select('availability_zone')
    .where('host', '=', host)
    .where('binary', '=', 'nova-compute')
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return service?.availability_zone ?? null;
}

async function groupNames(db: Db, instance_id: number): Promise<string[]> {
  const groups = await db
    .selectFrom('security_group_instance_association as link')
    .innerJoin('security_groups as g', 'g.id', 'link.security_group_id')
    .select('g.name')
    .where('link.instance_id', '=', instance_id)
    .where('link.deleted', '=', 0)
    .where('g.deleted', '=', 0)
    .orderBy('g.name')
    .execute();
  return groups.map((group) => group.name);
}

export interface MpiHost {
  /** The instances' key pair. */
  key_name: string | null;
  address: string;
  vcpus: number;
}

/** Every address of a project's live instances: what an MPI job started with one key can run on. */
export const mpiHosts = (db: Db, project_id: string): Promise<MpiHost[]> =>
  db
    .selectFrom('instances as i')
    .innerJoin('fixed_ips as ip', 'ip.instance_id', 'i.id')
    .select(['i.key_name', 'ip.address', 'i.vcpus'])
    .where('i.project_id', '=', project_id)
    .where('i.deleted', '=', 0)
    .where('ip.allocated', '=', 1)
    .orderBy('i.id')
    .orderBy('ip.id')
    .execute();
