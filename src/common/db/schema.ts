import type { Generated } from 'kysely';
import type { Base } from './schema_base.ts';
import type {
  VolumesTable,
  VolumeMetadataTable,
  VolumeTypesTable,
  VolumeTypeExtraSpecsTable,
  VolumeAttachmentsTable,
  SnapshotsTable,
  IscsiTargetsTable,
  VolumeNodesTable,
} from './schema_volumes.ts';

/**
 * Every table. Times are UTC ISO text, booleans are 0 or 1, `deleted = 0` are the live rows (partial indexes hold only
 * those). Column names are Nova's where Nova had the column. Source: Nova 2011.3 nova/db/sqlalchemy/models.py.
 */
export interface ServicesTable extends Base {
  host: string;
  binary: string;
  topic: string;
  /** Heartbeats so far. */
  report_count: Generated<number>;
  /** When the heartbeats began that came without a break up to now. */
  reporting_since: string | null;
  disabled: Generated<number>;
  availability_zone: string;
  /** One process life: a job leased to another incarnation of this host belongs to a process that is gone. */
  incarnation: string;
  /** JSON: the flags that must be the same on all hosts, as this process has them. */
  agreed_flags: string;
}

export interface ComputeNodesTable extends Base {
  host: string;
  vcpus: number;
  memory_mb: number;
  local_gb: number;
  /** Claimed by the scheduler in the transaction that places an instance, given back when it is deleted. */
  vcpus_used: Generated<number>;
  memory_mb_used: Generated<number>;
  local_gb_used: Generated<number>;
  hypervisor_type: string;
  hypervisor_version: number;
  cpu_info: string;
  /** Why its hypervisor takes no guests, and since when; both null while it answers. */
  fault: Generated<string | null>;
  fault_since: Generated<string | null>;
}

export interface InstancesTable extends Base {
  uuid: string;
  user_id: string;
  project_id: string;
  reservation_id: string;
  launch_index: number;
  image_id: number;
  kernel_id: number | null;
  ramdisk_id: number | null;
  instance_type_id: number;
  memory_mb: number;
  vcpus: number;
  local_gb: number;
  key_name: string | null;
  key_data: string | null;
  /** Base64, as the user sent it. */
  user_data: string | null;
  hostname: string;
  host: string | null;
  launched_on: string | null;
  /** As asked for: a zone, `zone:host` for admins, or null. */
  availability_zone: string | null;
  display_name: string;
  display_description: string;
  /** compute/logic/power_state.ts */
  power_state: Generated<number>;
  /** common/instance_state.ts */
  vm_state: string;
  task_state: string | null;
  /** When the sweep looks into a task_state that did not end; null when none is under way. */
  task_deadline: string | null;
  /** Why the instance is in error, for its owner. */
  fault: string | null;
  locked: Generated<number>;
  scheduled_at: string | null;
  launched_at: string | null;
  terminated_at: string | null;
  /** `required`: the metadata service answers only requests with a session token; `optional`; null: as --metadata_require_token says. */
  http_tokens: string | null;
  /** `disabled`: the metadata service answers it nothing; `enabled`, or null, which is the same. */
  http_endpoint: string | null;
}

export interface InstanceMetadataTable extends Base {
  instance_id: number;
  key: string;
  value: string;
}

/** One RunInstances; the unique (project_id, client_token) makes a retried request the same request. */
export interface ReservationsTable {
  id: Generated<number>;
  reservation_id: string;
  project_id: string;
  client_token: string | null;
  /** sha256 of the parameters, to tell a retry from another use of the token. */
  request_hash: string | null;
  created_at: string;
}

export interface InstanceTypesTable extends Base {
  name: string;
  memory_mb: number;
  vcpus: number;
  local_gb: number;
  flavorid: number;
  swap: Generated<number>;
  rxtx_quota: Generated<number>;
  rxtx_cap: Generated<number>;
}

export interface ImagesTable extends Base {
  name: string;
  project_id: string;
  user_id: string | null;
  is_public: Generated<number>;
  /** queued, saving, active, error */
  status: string;
  /** Of a queued one: when the sweep looks. */
  task_deadline: string | null;
  /** Why the status is error. */
  fault: string | null;
  /** ami, aki, ari, bare */
  container_format: string;
  /** raw, qcow2, ami, aki, ari */
  disk_format: string;
  architecture: string;
  kernel_id: number | null;
  ramdisk_id: number | null;
  /** `bucket/key`, or `local`. */
  location: string;
  size_bytes: number | null;
  /** sha256, hex; null until the bytes are there. */
  checksum: string | null;
  /** JSON object of text to text. */
  properties: string;
}

export interface KeyPairsTable extends Base {
  name: string;
  user_id: string;
  fingerprint: string;
  public_key: string;
}

export interface SecurityGroupsTable extends Base {
  name: string;
  description: string;
  user_id: string;
  project_id: string;
}

export interface SecurityGroupRulesTable extends Base {
  parent_group_id: number;
  protocol: string;
  /** For icmp: type and code; -1 is any. */
  from_port: number | null;
  to_port: number | null;
  cidr: string | null;
  /** The group whose members are let in, instead of a cidr. */
  group_id: number | null;
}

/** Traffic that is dropped before any security group is asked. */
export interface ProviderFwRulesTable extends Base {
  /** tcp, udp or icmp. */
  protocol: string;
  /** Ports, or type and code of ICMP; -1 and null are any. */
  from_port: number | null;
  to_port: number | null;
  cidr: string;
}
export interface SecurityGroupInstanceAssociationTable extends Base {
  security_group_id: number;
  instance_id: number;
}

export interface NetworksTable extends Base {
  label: string;
  injected: Generated<number>;
  cidr: string;
  cidr_v6: string | null;
  gateway_v6: string | null;
  netmask_v6: number | null;
  netmask: string;
  bridge: string;
  bridge_interface: string | null;
  gateway: string | null;
  broadcast: string;
  dns1: string | null;
  dns2: string | null;
  vlan: number | null;
  vpn_public_address: string | null;
  vpn_public_port: number | null;
  vpn_private_address: string | null;
  /** First address for guests. */
  dhcp_start: string;
  project_id: string | null;
  /** When the project took it by itself, at its first instance; null: an operator gave it, or nobody has it. */
  claimed_at: string | null;
  host: string | null;
  multi_host: Generated<number>;
  priority: number | null;
  uuid: string;
}

export interface VirtualInterfacesTable {
  id: Generated<number>;
  /** MAC, lower case with colons; unique. */
  address: string;
  network_id: number;
  instance_id: number;
  uuid: string;
  created_at: string;
}

/** Rows exist only for addresses in use, reserved or in quarantine; unique (network_id, address_number) is the allocator. */
export interface FixedIpsTable {
  id: Generated<number>;
  /** Dotted; `address_number` is the same as a number, for order and gaps. */
  address: string;
  address_number: number;
  network_id: number;
  virtual_interface_id: number | null;
  instance_id: number | null;
  /** Bound to a live instance. */
  allocated: Generated<number>;
  leased: Generated<number>;
  reserved: Generated<number>;
  /** multi_host: the host that serves it. */
  host: string | null;
  /** When it was given up; the row goes after the quarantine. */
  released_at: string | null;
  created_at: string;
  updated_at: string | null;
}

/** Public addresses; of the live rows each address has one. */
export interface FloatingIpsTable extends Base {
  /** Dotted; `address_number` is the same as a number, for order and blocks. */
  address: string;
  address_number: number;
  /** What it leads to; a row that is gone, or not allocated any more, is as none. */
  fixed_ip_id: number | null;
  /** Whose it is; null is free. */
  project_id: string | null;
  /** Given by --auto_assign_floating_ip: it goes back to the pool with its instance. */
  auto_assigned: Generated<number>;
}

export interface JobsTable {
  id: Generated<number>;
  request_id: string;
  topic: string;
  /** null: any worker of the topic. */
  host: string | null;
  method: string;
  /** JSON object. */
  args: string;
  /** JSON, the caller's context in its wire form. */
  context: string;
  project_id: string | null;
  /** `instance:12`: jobs of one resource run one after the other on a host. */
  resource: string | null;
  /** queued, running, done, failed */
  state: string;
  /** Claims so far. */
  attempt: Generated<number>;
  max_attempts: number;
  /** `<topic>.<host>:<incarnation>` */
  lease_owner: string | null;
  lease_until: string | null;
  run_after: string;
  deadline: string | null;
  error: string | null;
  /** Since when whom it needs does not answer. */
  away_since: Generated<string | null>;
  created_at: string;
  updated_at: string | null;
}

/** Append-only story of every resource. */
export interface EventsTable {
  id: Generated<number>;
  request_id: string;
  project_id: string | null;
  user_id: string | null;
  /** `instance:12` */
  resource: string;
  /** e.g. `scheduled`, `run_instance started`, `run_instance failed`. */
  event: string;
  host: string | null;
  at: string;
  /** JSON object. */
  details: string;
}

export interface UsersTable {
  id: string;
  name: string;
  access_key: string;
  secret_key: string;
  is_admin: Generated<number>;
  created_at: string;
}
export interface ProjectsTable {
  id: string;
  name: string;
  description: string;
  project_manager: string;
  created_at: string;
}
export interface UserProjectAssociationTable {
  user_id: string;
  project_id: string;
}
export interface UserRoleAssociationTable {
  user_id: string;
  role: string;
}
export interface UserProjectRoleAssociationTable extends UserProjectAssociationTable {
  role: string;
}
export interface AuthTokensTable {
  /** sha256 of the token, hex. */
  token_hash: string;
  user_id: string;
  project_id: string;
  expires_at: string;
  created_at: string;
}
export interface QuotasTable {
  id: Generated<number>;
  project_id: string;
  resource: string;
  /** null: unlimited. */
  hard_limit: number | null;
}
export interface MigrationsAppliedTable {
  version: number;
  name: string;
  applied_at: string;
}

export interface Schema {
  services: ServicesTable;
  compute_nodes: ComputeNodesTable;
  instances: InstancesTable;
  instance_metadata: InstanceMetadataTable;
  reservations: ReservationsTable;
  instance_types: InstanceTypesTable;
  images: ImagesTable;
  key_pairs: KeyPairsTable;
  security_groups: SecurityGroupsTable;
  security_group_rules: SecurityGroupRulesTable;
  provider_fw_rules: ProviderFwRulesTable;
  security_group_instance_association: SecurityGroupInstanceAssociationTable;
  networks: NetworksTable;
  virtual_interfaces: VirtualInterfacesTable;
  fixed_ips: FixedIpsTable;
  floating_ips: FloatingIpsTable;
  volumes: VolumesTable;
  volume_metadata: VolumeMetadataTable;
  volume_types: VolumeTypesTable;
  volume_type_extra_specs: VolumeTypeExtraSpecsTable;
  volume_attachments: VolumeAttachmentsTable;
  snapshots: SnapshotsTable;
  iscsi_targets: IscsiTargetsTable;
  volume_nodes: VolumeNodesTable;
  jobs: JobsTable;
  events: EventsTable;
  users: UsersTable;
  projects: ProjectsTable;
  user_project_association: UserProjectAssociationTable;
  user_role_association: UserRoleAssociationTable;
  user_project_role_association: UserProjectRoleAssociationTable;
  auth_tokens: AuthTokensTable;
  quotas: QuotasTable;
  migrations_applied: MigrationsAppliedTable;
}
