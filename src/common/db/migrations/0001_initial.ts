import type { ColumnDataType, Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';
import type { Dialect } from '../connect.ts';

/** Column words: `name` is text, `name:integer` another type, a trailing `!` is NOT NULL, `=0` starts at 0. */
const BASE = 'id created_at! updated_at deleted_at deleted=0 ';
const TABLES: Record<string, string> = {
  services: `${BASE} host! binary! topic! report_count=0 disabled=0 availability_zone! incarnation! agreed_flags!`,
  compute_nodes: `${BASE} host! vcpus:integer! memory_mb:integer! local_gb:integer! vcpus_used=0 memory_mb_used=0
    local_gb_used=0 hypervisor_type! hypervisor_version:integer! cpu_info!`,
  instances: `${BASE} uuid! user_id! project_id! reservation_id! launch_index:integer! image_id:integer!
    kernel_id:integer ramdisk_id:integer instance_type_id:integer! memory_mb:integer! vcpus:integer! local_gb:integer!
    key_name key_data user_data hostname! host launched_on availability_zone display_name! display_description!
    power_state=0 vm_state! task_state task_deadline fault locked=0 scheduled_at launched_at terminated_at`,
  instance_metadata: `${BASE} instance_id:integer! key! value!`,
  reservations: 'id reservation_id! project_id! client_token request_hash created_at!',
  instance_types: `${BASE} name! memory_mb:integer! vcpus:integer! local_gb:integer! flavorid:integer! swap=0
    rxtx_quota=0 rxtx_cap=0`,
  images: `${BASE} name! project_id! user_id is_public=0 status! fault container_format! disk_format! architecture!
    kernel_id:integer ramdisk_id:integer location! size_bytes:bigint checksum properties!`,
  key_pairs: `${BASE} name! user_id! fingerprint! public_key!`,
  security_groups: `${BASE} name! description! user_id! project_id!`,
  security_group_rules: `${BASE} parent_group_id:integer! protocol from_port:integer to_port:integer cidr
    group_id:integer`,
  security_group_instance_association: `${BASE} security_group_id:integer! instance_id:integer!`,
  networks: `${BASE} label! injected=0 cidr! cidr_v6 gateway_v6 netmask_v6:integer netmask! bridge! bridge_interface
    gateway broadcast! dns1 dns2 vlan:integer vpn_public_address vpn_public_port:integer vpn_private_address dhcp_start!
    project_id host multi_host=0 priority:integer uuid!`,
  virtual_interfaces: 'id address! network_id:integer! instance_id:integer! uuid! created_at!',
  fixed_ips: `id address! address_number:bigint! network_id:integer! virtual_interface_id:integer instance_id:integer
    allocated=0 leased=0 reserved=0 host released_at created_at! updated_at`,
  jobs: `id request_id! topic! host method! args! context! project_id resource state! attempt=0 max_attempts:integer!
    lease_owner lease_until run_after! deadline error created_at! updated_at`,
  events: 'id request_id! project_id user_id resource! event! host at! details!',
  users: 'name! access_key! secret_key! is_admin=0 created_at!',
  projects: 'name! description! project_manager! created_at!',
  user_project_association: 'user_id! project_id!',
  user_role_association: 'user_id! role!',
  user_project_role_association: 'user_id! project_id! role!',
  auth_tokens: 'token_hash! user_id! project_id! expires_at! created_at!',
  quotas: 'id project_id! resource! hard_limit:integer',
};
/** Their key is the name itself. */
const NAMED = new Set(['users', 'projects']);

/** [table, columns, unique, condition]; live rows only where the table keeps deleted ones. */
const LIVE = 'deleted = 0';
const INDEXES: [string, string, boolean, string?][] = [
  ['services', 'host binary', true, LIVE],
  ['compute_nodes', 'host', true, LIVE],
  ['instances', 'project_id id', false, LIVE],
  ['instances', 'host', false, LIVE],
  ['instances', 'uuid', true],
  ['instances', 'reservation_id', false],
  ['instances', 'task_deadline', false, `${LIVE} and task_deadline is not null`],
  ['instance_metadata', 'instance_id key', true, LIVE],
  ['reservations', 'project_id client_token', true, 'client_token is not null'],
  ['instance_types', 'name', true, LIVE],
  ['instance_types', 'flavorid', true, LIVE],
  ['images', 'project_id', false, LIVE],
  ['images', 'checksum', false, LIVE],
  ['key_pairs', 'user_id name', true, LIVE],
  ['security_groups', 'project_id name', true, LIVE],
  ['security_group_rules', 'parent_group_id', false, LIVE],
  ['security_group_instance_association', 'instance_id security_group_id', true, LIVE],
  ['security_group_instance_association', 'security_group_id', false, LIVE],
  ['networks', 'cidr', true, LIVE],
  ['networks', 'project_id', false, LIVE],
  ['virtual_interfaces', 'address', true],
  ['virtual_interfaces', 'instance_id', false],
  ['fixed_ips', 'network_id address_number', true],
  ['fixed_ips', 'instance_id', false, 'instance_id is not null'],
  ['fixed_ips', 'address', false],
  ['fixed_ips', 'released_at', false, 'released_at is not null'],
  ['jobs', 'topic host id', false, "state = 'queued'"],
  ['jobs', 'lease_owner', false, "state = 'running'"],
  ['jobs', 'resource', false, "state in ('queued', 'running')"],
  ['jobs', 'updated_at', false, "state in ('done', 'failed')"],
  ['events', 'resource id', false],
  ['events', 'request_id', false],
  ['users', 'access_key', true],
  ['user_project_association', 'user_id project_id', true],
  ['user_role_association', 'user_id role', true],
  ['user_project_role_association', 'user_id project_id role', true],
  ['auth_tokens', 'token_hash', true],
  ['quotas', 'project_id resource', true],
];

/** Nova's five. Source: Nova 2011.2 migration 008. */
const INSTANCE_TYPES = [
  { name: 'm1.tiny', memory_mb: 512, vcpus: 1, local_gb: 0, flavorid: 1 },
  { name: 'm1.small', memory_mb: 2048, vcpus: 1, local_gb: 20, flavorid: 2 },
  { name: 'm1.medium', memory_mb: 4096, vcpus: 2, local_gb: 40, flavorid: 3 },
  { name: 'm1.large', memory_mb: 8192, vcpus: 4, local_gb: 80, flavorid: 4 },
  { name: 'm1.xlarge', memory_mb: 16384, vcpus: 8, local_gb: 160, flavorid: 5 },
];

export async function up(tx: Transaction<Schema>, dialect: Dialect): Promise<void> {
  const numbered = dialect === 'sqlite' ? 'primary key autoincrement' : 'primary key generated by default as identity';
  for (const [table, words] of Object.entries(TABLES)) {
    let create = tx.schema.createTable(table);
    if (NAMED.has(table)) create = create.addColumn('id', 'text', (c) => c.primaryKey());
    for (const word of words.trim().split(/\s+/)) {
      const [, name, type, must] = /^(\w+)(?::(\w+))?(!|=0)?$/.exec(word) as unknown as [
        string,
        string,
        string?,
        string?,
      ];
      if (name === 'id') create = create.addColumn('id', 'integer', (c) => c.modifyEnd(sql.raw(numbered)));
      else if (must === '=0') create = create.addColumn(name, 'integer', (c) => c.notNull().defaultTo(0));
      else create = create.addColumn(name, (type ?? 'text') as ColumnDataType, (c) => (must ? c.notNull() : c));
    }
    await create.execute();
  }
  for (const [table, columns, unique, where] of INDEXES) {
    const names = columns.split(' ');
    let index = tx.schema
      .createIndex(`${table}_${names.join('_')}`)
      .on(table)
      .columns(names);
    if (unique) index = index.unique();
    await (where ? index.where(sql<boolean>`${sql.raw(where)}`) : index).execute();
  }
  const created_at = new Date().toISOString();
  await tx
    .insertInto('instance_types')
    .values(INSTANCE_TYPES.map((type) => ({ ...type, created_at })))
    .execute();
}
