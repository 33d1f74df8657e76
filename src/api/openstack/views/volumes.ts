import type { Snapshot } from '../../../common/db/snapshots.ts';
import type { AttachmentView, VolumeView } from '../../../common/db/volume_views.ts';
import type { Urls } from '../urls.ts';
import { isoSeconds } from './servers.ts';

/** 2.0 writes every id as text. */
const idOf = (id: number, { text_ids }: Urls): number | string => (text_ids ? String(id) : id);

/** Source: Nova 2011.3 nova/api/openstack/contrib/volumes.py, _translate_attachment_detail_view: an attachment's id is its volume's */
export const viewAttachment = (volume_id: number, attachment: AttachmentView, urls: Urls): object => ({
  id: idOf(volume_id, urls),
  volumeId: idOf(volume_id, urls),
  serverId: urls.text_ids ? attachment.instance_uuid : attachment.instance_id,
  device: attachment.device,
});

/** Without an attachment the list holds one empty object, as in Nova. `fault` says why its status is error. */
export const viewVolume = (volume: VolumeView, urls: Urls): object => ({
  id: idOf(volume.id, urls),
  status: volume.status,
  size: volume.size,
  availabilityZone: volume.availability_zone,
  createdAt: isoSeconds(volume.created_at),
  attachments: [volume.attachment === null ? {} : viewAttachment(volume.id, volume.attachment, urls)],
  displayName: volume.display_name,
  displayDescription: volume.display_description,
  volumeType: volume.volume_type,
  snapshotId: volume.snapshot_id === null ? null : idOf(volume.snapshot_id, urls),
  metadata: volume.metadata,
  ...(volume.fault === null ? {} : { fault: { message: volume.fault } }),
});

export const viewSnapshot = (snapshot: Snapshot, urls: Urls): object => ({
  id: idOf(snapshot.id, urls),
  volumeId: idOf(snapshot.volume_id, urls),
  status: snapshot.status,
  size: snapshot.volume_size,
  createdAt: isoSeconds(snapshot.created_at),
  displayName: snapshot.display_name,
  displayDescription: snapshot.display_description,
  ...(snapshot.fault === null ? {} : { fault: { message: snapshot.fault } }),
});
