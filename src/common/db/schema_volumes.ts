import type { Generated } from 'kysely';
import type { Base } from './schema_base.ts';

/** Block devices that outlive their instances. `status`: common/volume_state.ts. */
export interface VolumesTable extends Base {
  user_id: string;
  project_id: string;
  /** What its bytes come from; null is an empty volume. */
  snapshot_id: number | null;
  /** Whose nova-volume has it; null until the scheduler chose, which is the claim on that host's room. */
  host: string | null;
  /** GiB. */
  size: number;
  availability_zone: string;
  status: string;
  /** When the sweep looks into a status that is under way; null when it rests. */
  task_deadline: string | null;
  /** Why the status is error or error_deleting, for its owner. */
  fault: string | null;
  /** Attachments so far; the number of the newest one. Only that one's secret opens the export. */
  epoch: Generated<number>;
  volume_type_id: number | null;
  display_name: string;
  display_description: string;
  /** Where the driver has it, in the driver's own words (a file's path, `vg/name`); null until it is made. */
  provider_location: string | null;
  scheduled_at: string | null;
  launched_at: string | null;
  terminated_at: string | null;
  /** The unique (project_id, client_token) makes a retried request the same request. */
  client_token: string | null;
  request_hash: string | null;
}

export interface VolumeMetadataTable extends Base {
  volume_id: number;
  key: string;
  value: string;
}

export interface VolumeTypesTable extends Base {
  name: string;
}

export interface VolumeTypeExtraSpecsTable extends Base {
  volume_type_id: number;
  key: string;
  value: string;
}

/**
 * One attachment of a volume to an instance; a live row (`deleted = 0`) holds volume and device name by unique indexes
 * (volume_id), (instance_id, device). Its end frees both.
 */
export interface VolumeAttachmentsTable extends Base {
  volume_id: number;
  instance_id: number;
  /** `volumes.epoch` when it was made. */
  epoch: number;
  /** attaching, attached, detaching */
  status: string;
  /** As asked for: `/dev/vdb`. */
  device: string;
  /** The volume is deleted with the instance. */
  delete_on_termination: Generated<number>;
  /** The instance boots from it. */
  boot: Generated<number>;
  /** The launch of the instance made the volume, which goes when that launch fails. */
  made_for_launch: Generated<number>;
  /** CHAP of this attachment alone. Never in a log. */
  auth_username: string;
  auth_password: string;
  /** When the guest had it. */
  attached_at: string | null;
}

/** `status`: creating, available, deleting, error, error_deleting. */
export interface SnapshotsTable extends Base {
  user_id: string;
  project_id: string;
  volume_id: number;
  /** The volume's host, which keeps it. */
  host: string;
  /** GiB of the volume when it was taken. */
  volume_size: number;
  status: string;
  task_deadline: string | null;
  fault: string | null;
  /** `0%` to `100%` */
  progress: string;
  display_name: string;
  display_description: string;
  provider_location: string | null;
}

/** iSCSI target numbers in use; unique (host, target_num) gives them out, unique (volume_id) one for each volume. */
export interface IscsiTargetsTable {
  id: Generated<number>;
  host: string;
  target_num: number;
  volume_id: number;
}

/** Room for volumes on a host, as its nova-volume last saw it. What is promised is counted from live volumes and snapshots. */
export interface VolumeNodesTable extends Base {
  host: string;
  /** GiB that volumes of any number may take in all: what the store has, free or used by volumes. */
  total_gb: number;
  /** GiB free now. */
  free_gb: number;
  /** Promised for each GiB there is, as that host's --volume_overcommit_ratio says. */
  overcommit_ratio: number;
  /** The driver's dotted name. */
  driver: string;
}
