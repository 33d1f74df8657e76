import { randomUUID } from 'node:crypto';
import type { Insertable } from 'kysely';
import type { TestContext } from 'node:test';
import { makeContext, type RequestContext } from '../src/common/context.ts';
import { nowText } from '../src/common/clock.ts';
import { connectDb, type NovaDb } from '../src/common/db/connect.ts';
import { createUser, type User } from '../src/common/db/users.ts';
import { syncDb } from '../src/common/db/migrate.ts';
import { registerService } from '../src/common/db/services.ts';
import type { ComputeNodesTable, ImagesTable, InstancesTable, NetworksTable } from '../src/common/db/schema.ts';
import type { SnapshotsTable, VolumesTable } from '../src/common/db/schema_volumes.ts';
import { reportRoom } from '../src/common/db/volume_nodes.ts';

/** Rows with defaults, so that a test names only what it is about. */

/** SQLite in memory with the real migrations, closed when the test ends. */
export async function aDatabase(t: Pick<TestContext, 'after'>): Promise<NovaDb> {
  const db = await connectDb('sqlite://');
  t.after(() => db.destroy());
  await syncDb(db);
  return db;
}

/** User ann of project apollo. */
export const aContext = (over: Partial<RequestContext> = {}): RequestContext =>
  makeContext({ user_id: 'ann', project_id: 'apollo', roles: ['projectmanager'], ...over });

/** A user whose keys are NAME-access and NAME-secret. */
export const aUser = (db: NovaDb, name = 'ann', over: { is_admin?: boolean } = {}): Promise<User> =>
  createUser(db, { name, access_key: `${name}-access`, secret_key: `${name}-secret`, ...over });

/** A project with its manager, who is made too. */
export async function aProject(db: NovaDb, id = 'apollo', user = 'ann'): Promise<void> {
  const created_at = nowText();
  await db
    .insertInto('users')
    .values({ id: user, name: user, access_key: `${user}-access`, secret_key: `${user}-secret`, created_at })
    .execute();
  await db
    .insertInto('projects')
    .values({ id, name: id, description: id, project_manager: user, created_at })
    .execute();
  await db.insertInto('user_project_association').values({ user_id: user, project_id: id }).execute();
}

/** @returns its id */
export async function anImage(db: NovaDb, over: Partial<Insertable<ImagesTable>> = {}): Promise<number> {
  const { id } = await db
    .insertInto('images')
    .values({
      name: 'tiny',
      project_id: 'apollo',
      user_id: 'ann',
      is_public: 1,
      status: 'active',
      container_format: 'bare',
      disk_format: 'raw',
      architecture: 'x86_64',
      kernel_id: null,
      ramdisk_id: null,
      location: 'local',
      size_bytes: 1024,
      checksum: 'a'.repeat(64),
      properties: '{}',
      created_at: nowText(),
      ...over,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** An active m1.tiny on host `node1`. @returns its id */
export async function anInstance(db: NovaDb, over: Partial<Insertable<InstancesTable>> = {}): Promise<number> {
  const { id } = await db
    .insertInto('instances')
    .values({
      uuid: randomUUID(),
      user_id: 'ann',
      project_id: 'apollo',
      reservation_id: 'r-12345678',
      launch_index: 0,
      image_id: 1,
      instance_type_id: 1,
      memory_mb: 512,
      vcpus: 1,
      local_gb: 0,
      hostname: 'web',
      host: 'node1',
      display_name: 'web',
      display_description: 'web',
      power_state: 1,
      vm_state: 'active',
      created_at: nowText(),
      ...over,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** @returns its id */
export async function aNetwork(db: NovaDb, over: Partial<Insertable<NetworksTable>> = {}): Promise<number> {
  const { id } = await db
    .insertInto('networks')
    .values({
      label: 'private',
      cidr: '10.0.0.0/24',
      netmask: '255.255.255.0',
      bridge: 'br100',
      broadcast: '10.0.0.255',
      gateway: '10.0.0.1',
      dhcp_start: '10.0.0.2',
      uuid: randomUUID(),
      created_at: nowText(),
      ...over,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** An address of a network bound to an instance, with its card. */
export async function aFixedIp(
  db: NovaDb,
  { network_id, instance_id, address }: { network_id: number; instance_id: number; address: string },
): Promise<void> {
  const created_at = nowText();
  const mac = `02:16:3e:${[2, 3, 4].map((i) => (Number(address.split('.')[i - 1]) & 255).toString(16).padStart(2, '0')).join(':')}`;
  const { id } = await db
    .insertInto('virtual_interfaces')
    .values({ address: mac, network_id, instance_id, uuid: randomUUID(), created_at })
    .returning('id')
    .executeTakeFirstOrThrow();
  const address_number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  await db
    .insertInto('fixed_ips')
    .values({ address, address_number, network_id, virtual_interface_id: id, instance_id, allocated: 1, created_at })
    .execute();
}

/** A host whose nova-compute just reported 8 processors, 16 GB of memory and 100 GB of disk. */
export async function aComputeHost(
  db: NovaDb,
  host: string,
  over: Partial<Insertable<ComputeNodesTable>> = {},
): Promise<void> {
  await registerService(db, {
    host,
    binary: 'nova-compute',
    topic: 'compute',
    availability_zone: 'nova',
    incarnation: randomUUID(),
    agreed_flags: {},
    enabled: true,
  });
  const hypervisor = { hypervisor_type: 'QEMU', hypervisor_version: 7002000, cpu_info: '{}' };
  await db
    .insertInto('compute_nodes')
    .values({ host, vcpus: 8, memory_mb: 16384, local_gb: 100, ...hypervisor, created_at: nowText(), ...over })
    .execute();
}

/** All daemons of the host fell silent long ago, while a scheduler `judge` reports without a break. */
export async function goesDown(db: NovaDb, host: string): Promise<void> {
  const judge = { binary: 'nova-scheduler', topic: 'scheduler', availability_zone: 'nova', agreed_flags: {} };
  await registerService(db, { host: 'judge', ...judge, incarnation: 'a', enabled: true });
  await db.updateTable('services').set({ reporting_since: LONG_AGO }).where('host', '=', 'judge').execute();
  await db.updateTable('services').set({ updated_at: LONG_AGO }).where('host', '=', host).execute();
}
const LONG_AGO = '2011-04-15T00:00:00.000Z';

/** A host `store1` whose nova-volume is up, and `node1` with its nova-compute. */
export async function aVolumeHost(db: NovaDb): Promise<void> {
  const rest = { availability_zone: 'nova', incarnation: 'a', agreed_flags: {}, enabled: true };
  await registerService(db, { host: 'node1', binary: 'nova-compute', topic: 'compute', ...rest });
  await registerService(db, { host: 'store1', binary: 'nova-volume', topic: 'volume', ...rest });
}

/** A host whose nova-volume just reported room for 100 GiB. */
export async function aStorageHost(db: NovaDb, host = 'store1', total_gb = 100, zone = 'nova'): Promise<void> {
  await registerService(db, {
    host,
    binary: 'nova-volume',
    topic: 'volume',
    availability_zone: zone,
    incarnation: randomUUID(),
    agreed_flags: {},
    enabled: true,
  });
  await reportRoom(db, host, { total_gb, free_gb: total_gb, overcommit_ratio: 1, driver: 'fake' });
}

/** An available volume of 1 GiB on host `store1`. @returns its id */
export async function aVolume(db: NovaDb, over: Partial<Insertable<VolumesTable>> = {}): Promise<number> {
  const { id } = await db
    .insertInto('volumes')
    .values({
      user_id: 'ann',
      project_id: 'apollo',
      host: 'store1',
      size: 1,
      availability_zone: 'nova',
      status: 'available',
      display_name: '',
      display_description: '',
      created_at: nowText(),
      ...over,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** An available snapshot of 1 GiB on host `store1`. @returns its id */
export async function aSnapshot(
  db: NovaDb,
  volume_id: number,
  over: Partial<Insertable<SnapshotsTable>> = {},
): Promise<number> {
  const { id } = await db
    .insertInto('snapshots')
    .values({
      user_id: 'ann',
      project_id: 'apollo',
      host: 'store1',
      volume_id,
      volume_size: 1,
      status: 'available',
      progress: '100%',
      display_name: '',
      display_description: '',
      created_at: nowText(),
      ...over,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}
