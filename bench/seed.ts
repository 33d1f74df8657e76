import { randomUUID } from 'node:crypto';
import type { Insertable } from 'kysely';
import { nowText } from '../src/common/clock.ts';
import { writing, type NovaDb } from '../src/common/db/connect.ts';
import { sql } from '../src/common/db/kysely.ts';
import type { InstancesTable } from '../src/common/db/schema.ts';
import { aNetwork, anImage, aProject } from '../test/builders.ts';

export const SECRET = (user: string): string => `${user}-secret`;
export const ACCESS = (user: string): string => `${user}-access`;

/** What instances need: an image and a network. */
export async function seedCloud(db: NovaDb): Promise<void> {
  await anImage(db);
  await aNetwork(db, { cidr: '10.0.0.0/8', netmask: '255.0.0.0', broadcast: '10.255.255.255' });
}

/** A project with its manager, a user of the same name; only managers may use all of the APIs without further roles. */
export const seedProject = (db: NovaDb, name: string): Promise<void> => aProject(db, name, name);

/**
 * Running instances with all that running ones have: an address, a card, a security group and a pair of metadata. Written
 * by the database itself, as a hundred thousand of them would take a minute one by one.
 */
export async function seedInstances(db: NovaDb, project: string, count: number): Promise<void> {
  const created_at = nowText();
  const instance: Insertable<InstancesTable> = {
    uuid: '', // below
    user_id: project,
    project_id: project,
    reservation_id: `r-${randomUUID().slice(0, 8)}`,
    launch_index: 0,
    image_id: 1,
    instance_type_id: 1,
    memory_mb: 512,
    vcpus: 1,
    local_gb: 0,
    key_name: 'mykey',
    hostname: 'web-server',
    host: 'node1',
    launched_on: 'node1',
    availability_zone: null,
    display_name: 'web-server',
    display_description: 'web-server',
    power_state: 1,
    vm_state: 'active',
    created_at,
    updated_at: created_at,
    scheduled_at: created_at,
    launched_at: created_at,
  };
  const { uuid: _, ...same } = instance;
  const columns = sql.join(Object.keys(same).map((name) => sql.ref(name)));
  const values = sql.join(Object.values(same).map((value) => sql.lit(value)));
  const mine = sql`from instances where project_id = ${project}`;
  await writing(db, async (tx) => {
    const { id: group } = await tx
      .insertInto('security_groups')
      .values({ name: 'default', description: 'default', user_id: project, project_id: project, created_at })
      .returning('id')
      .executeTakeFirstOrThrow();
    const statements = [
      sql`insert into instances (uuid, ${columns})
        with recursive n(i) as (select 1 union all select i + 1 from n where i < ${sql.lit(count)})
        select ${sql.lit(randomUUID().slice(0, 24))} || (100000000000 + i), ${values} from n`,
      sql`insert into virtual_interfaces (address, network_id, instance_id, uuid, created_at)
        select '02:16:3e:' || (10000000 + id), 1, id, 'card of ' || uuid, created_at ${mine}`,
      sql`insert into fixed_ips (address, address_number, network_id, virtual_interface_id, instance_id, allocated, created_at)
        select '10.' || (instance_id / 65536) || '.' || ((instance_id / 256) % 256) || '.' || (instance_id % 256),
          167772160 + instance_id, 1, id, instance_id, 1, created_at
        from virtual_interfaces where instance_id in (select id ${mine})`,
      sql`insert into security_group_instance_association (security_group_id, instance_id, created_at)
        select ${sql.lit(group)}, id, created_at ${mine}`,
      sql`insert into instance_metadata (instance_id, key, value, created_at) select id, 'role', 'web', created_at ${mine}`,
    ];
    for (const statement of statements) await statement.execute(tx);
  });
  await sql`analyze`.execute(db);
}
