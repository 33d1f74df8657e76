/**
 * Status of a volume. Source: Nova 2011.3 nova/volume/manager.py; `attaching` and `detaching` are of later releases, since
 * without them a second request passes while the first is under way.
 *
 *   creating ──scheduler, volume──> available ──attach──> attaching ──compute──> in-use ──detach──> detaching ──compute──> available
 *      └──> error                      │                      └──compute fails──> available
 *   available, error, error_deleting ──> deleting ──volume──> (the row is no longer live), or error_deleting
 */
export type VolumeStatus =
  'creating' | 'available' | 'attaching' | 'in-use' | 'detaching' | 'deleting' | 'error' | 'error_deleting';
export type SnapshotStatus = 'creating' | 'available' | 'deleting' | 'error' | 'error_deleting';

/** A status that is under way: who is at work, and when the sweep looks. */
export interface VolumeTask {
  owner: 'scheduler' | 'volume' | 'compute';
  /** Seconds until the sweep looks. */
  deadline_s: number;
  /** Wire name of the job that does it, which the sweep casts again when there is none. */
  job: 'create_volume' | 'delete_volume' | 'attach_volume' | 'detach_volume' | 'create_snapshot' | 'delete_snapshot';
  /**
   * When the deadline passed and the host at work is down. `wait`: only that host has the bytes, so the job waits for it.
   * `available`: the attachment ends without the compute host, whose access to the export ends with it.
   */
  host_down: 'error' | 'wait' | 'available';
}

/** `creating` is the scheduler's while the volume has no host. */
export const VOLUME_TASKS: Record<'creating' | 'attaching' | 'detaching' | 'deleting', VolumeTask> = {
  creating: { owner: 'volume', deadline_s: 600, job: 'create_volume', host_down: 'error' },
  attaching: { owner: 'compute', deadline_s: 120, job: 'attach_volume', host_down: 'available' },
  detaching: { owner: 'compute', deadline_s: 120, job: 'detach_volume', host_down: 'available' },
  deleting: { owner: 'volume', deadline_s: 600, job: 'delete_volume', host_down: 'wait' },
};
export const SNAPSHOT_TASKS: Record<'creating' | 'deleting', VolumeTask> = {
  creating: { owner: 'volume', deadline_s: 600, job: 'create_snapshot', host_down: 'error' },
  deleting: { owner: 'volume', deadline_s: 600, job: 'delete_snapshot', host_down: 'wait' },
};
