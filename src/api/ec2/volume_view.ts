import type { Snapshot } from '../../common/db/snapshots.ts';
import type { AttachmentView, VolumeView } from '../../common/db/volume_views.ts';
import { formatId } from './ids.ts';
import { ec2Time, viewTags } from './instance_view.ts';
import type { Fields } from './filters.ts';
import type { XmlObject } from './xml.ts';

/** AWS's words: its tools wait for these. A volume that is being attached or detached is in use, its attachment says how far. */
const STATES: Readonly<Record<string, string>> = { attaching: 'in-use', detaching: 'in-use', error_deleting: 'error' };
export const volumeState = ({ status }: Pick<VolumeView, 'status'>): string => STATES[status] ?? status;

const SNAPSHOT_STATES: Readonly<Record<string, string>> = {
  creating: 'pending',
  available: 'completed',
  error_deleting: 'error',
};
export const snapshotState = ({ status }: Pick<Snapshot, 'status'>): string => SNAPSHOT_STATES[status] ?? status;

export function viewAttachment(volume_id: number, attachment: AttachmentView): XmlObject {
  return {
    volumeId: formatId('vol', volume_id),
    instanceId: formatId('i', attachment.instance_id),
    device: attachment.device,
    status: attachment.status,
    attachTime: ec2Time(attachment.attached_at ?? attachment.created_at),
    deleteOnTermination: attachment.delete_on_termination,
  };
}

/**
 * An item of `volumeSet`, and the answer of CreateVolume. Nova told an administrator more within `status`, on which today's
 * tools wait in vain; here that stands beside it.
 * Source: Nova 2011.3 nova/api/ec2/cloud.py, _format_volume
 */
export const viewVolume = (volume: VolumeView, is_admin: boolean): XmlObject => ({
  volumeId: formatId('vol', volume.id),
  size: volume.size,
  snapshotId: volume.snapshot_id === null ? null : formatId('snap', volume.snapshot_id),
  availabilityZone: volume.availability_zone,
  status: volumeState(volume),
  stateReason: volume.fault === null ? undefined : { code: 'Server.InternalError', message: volume.fault },
  createTime: ec2Time(volume.created_at),
  attachmentSet: volume.attachment === null ? [] : [viewAttachment(volume.id, volume.attachment)],
  displayName: volume.display_name,
  displayDescription: volume.display_description,
  tagSet: viewTags(volume.metadata),
  volumeType: volume.volume_type ?? 'standard',
  encrypted: false,
  multiAttachEnabled: false,
  projectId: is_admin ? volume.project_id : undefined,
  host: is_admin ? volume.host : undefined,
});

const ofAttachment =
  (look: (attachment: AttachmentView) => string | boolean | null) =>
  ({ attachment }: VolumeView) =>
    attachment === null ? null : look(attachment);

export const VOLUME_FIELDS: Fields<VolumeView> = {
  'volume-id': ({ id }) => formatId('vol', id),
  status: volumeState,
  size: ({ size }) => size,
  'availability-zone': ({ availability_zone }) => availability_zone,
  'snapshot-id': ({ snapshot_id }) => (snapshot_id === null ? null : formatId('snap', snapshot_id)),
  'create-time': ({ created_at }) => ec2Time(created_at),
  'volume-type': ({ volume_type }) => volume_type ?? 'standard',
  encrypted: () => false,
  'attachment.instance-id': ofAttachment(({ instance_id }) => formatId('i', instance_id)),
  'attachment.device': ofAttachment(({ device }) => device),
  'attachment.status': ofAttachment(({ status }) => status),
  'attachment.attach-time': ofAttachment(({ attached_at }) => ec2Time(attached_at)),
  'attachment.delete-on-termination': ofAttachment(({ delete_on_termination }) => delete_on_termination),
};

/** An item of `snapshotSet`, and the answer of CreateSnapshot. */
export const viewSnapshot = (snapshot: Snapshot): XmlObject => ({
  snapshotId: formatId('snap', snapshot.id),
  volumeId: formatId('vol', snapshot.volume_id),
  status: snapshotState(snapshot),
  statusMessage: snapshot.fault ?? undefined,
  startTime: ec2Time(snapshot.created_at),
  progress: snapshot.progress,
  ownerId: snapshot.project_id,
  volumeSize: snapshot.volume_size,
  description: snapshot.display_description,
  displayName: snapshot.display_name,
  displayDescription: snapshot.display_description,
  encrypted: false,
  tagSet: [],
});

export const SNAPSHOT_FIELDS: Fields<Snapshot> = {
  'snapshot-id': ({ id }) => formatId('snap', id),
  'volume-id': ({ volume_id }) => formatId('vol', volume_id),
  status: snapshotState,
  'volume-size': ({ volume_size }) => volume_size,
  'owner-id': ({ project_id }) => project_id,
  'start-time': ({ created_at }) => ec2Time(created_at),
  progress: ({ progress }) => progress,
  description: ({ display_description }) => display_description,
  encrypted: () => false,
};
