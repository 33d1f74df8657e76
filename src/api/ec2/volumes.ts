import type { VolumeView } from '../../common/db/volume_views.ts';
import { InvalidInput, VolumeNotFound } from '../../common/errors.ts';
import { action } from './deps.ts';
import { filters, matcher } from './filters.ts';
import { formatId } from './ids.ts';
import { afterId, cutPage, pagingParams } from './paging.ts';
import { bool, instanceId, int, list, optional, snapshotId, str, volumeId } from './params.ts';
import { tagsOf, tagSpecifications } from './tags.ts';
import { viewAttachment, viewVolume, VOLUME_FIELDS } from './volume_view.ts';
import type { XmlObject } from './xml.ts';

const roles = ['projectmanager', 'sysadmin'];

export const createVolume = action('CreateVolume', {
  about: 'Makes a volume of Size GiB, empty or with the bytes of a snapshot, whose size is then the default',
  params: {
    Size: optional(int({ min: 1 })),
    SnapshotId: optional(snapshotId()),
    AvailabilityZone: optional(str()),
    VolumeType: optional(str()),
    DisplayName: optional(str({ min: 0 }), ''),
    DisplayDescription: optional(str({ min: 0 }), ''),
    Encrypted: optional(bool(), false),
    MultiAttachEnabled: optional(bool(), false),
    ClientToken: optional(str({ max: 64 })),
    TagSpecification: tagSpecifications(),
  },
  not_offered: ['KmsKeyId'],
  roles,
  async run(ctx, asked, { volumes }) {
    if (asked.Encrypted) throw new InvalidInput('Encrypted: volumes are not encrypted here; leave it out');
    if (asked.MultiAttachEnabled) throw new InvalidInput('MultiAttachEnabled: a volume is attached once; leave it out');
    const volume = await volumes.create(ctx, {
      size: asked.Size ?? null,
      snapshot_id: asked.SnapshotId ?? null,
      availability_zone: asked.AvailabilityZone ?? null,
      volume_type: asked.VolumeType ?? null,
      display_name: asked.DisplayName,
      display_description: asked.DisplayDescription,
      metadata: tagsOf(asked.TagSpecification, 'volume'),
      client_token: asked.ClientToken ?? null,
    });
    return viewVolume(volume, ctx.is_admin);
  },
});

export const describeVolumes = action('DescribeVolumes', {
  about: "The project's volumes and what they are attached to (an administrator's: of all projects)",
  params: { VolumeId: list(volumeId()), Filter: filters(), ...pagingParams },
  roles,
  cached: true,
  async run(ctx, { VolumeId, Filter, ...paging }, { volumes }) {
    const matches = matcher(Filter, VOLUME_FIELDS, ({ metadata }) => metadata);
    const marker = afterId(paging);
    const known = await volumes.list(ctx, VolumeId.length > 0 ? { ids: VolumeId } : {});
    const missing = VolumeId.find((id) => !known.some((volume) => volume.id === id));
    if (missing !== undefined) throw new VolumeNotFound(`there is no volume ${formatId('vol', missing)}`);
    const asked = known.filter((volume) => volume.id > marker && matches(volume));
    const { page, nextToken } = cutPage(asked, paging);
    return { volumeSet: page.map((volume) => viewVolume(volume, ctx.is_admin)), nextToken };
  },
});

export const updateVolume = action('UpdateVolume', {
  about: 'Gives a volume another name or description; what is left out stays',
  params: {
    VolumeId: volumeId(),
    DisplayName: optional(str({ min: 0 })),
    DisplayDescription: optional(str({ min: 0 })),
  },
  roles,
  async run(ctx, { VolumeId, DisplayName, DisplayDescription }, { volumes }) {
    await volumes.update(ctx, VolumeId, {
      ...(DisplayName === undefined ? {} : { display_name: DisplayName }),
      ...(DisplayDescription === undefined ? {} : { display_description: DisplayDescription }),
    });
    return { return: true };
  },
});

export const deleteVolume = action('DeleteVolume', {
  about: 'Deletes a volume that is not attached and has no snapshots; its bytes are gone',
  params: { VolumeId: volumeId() },
  roles,
  async run(ctx, { VolumeId }, { volumes }) {
    await volumes.delete(ctx, VolumeId);
    return { return: true };
  },
});

export const attachVolume = action('AttachVolume', {
  about:
    'Plugs a volume into a running instance. Device is /dev/vdb or the like; guests name disks as they come, so look for the serial, which is the id of the volume',
  params: { VolumeId: volumeId(), InstanceId: instanceId(), Device: str({ max: 40 }) },
  roles,
  async run(ctx, { VolumeId, InstanceId, Device }, { volumes }) {
    const volume = await volumes.attach(ctx, { volume_id: VolumeId, instance: InstanceId, device: Device });
    return attachmentOf(volume);
  },
});

export const detachVolume = action('DetachVolume', {
  about: 'Unplugs a volume; with Force at once, even from a guest or a host that does not answer',
  params: {
    VolumeId: volumeId(),
    InstanceId: optional(instanceId()),
    Device: optional(str({ max: 40 })),
    Force: optional(bool(), false),
  },
  roles,
  async run(ctx, { VolumeId, InstanceId, Device, Force }, { volumes }) {
    const before = await volumes.get(ctx, VolumeId);
    const spec = { volume_id: VolumeId, instance: InstanceId ?? null, device: Device ?? null, force: Force };
    const after = await volumes.detach(ctx, spec);
    return attachmentOf(after.attachment === null ? ended(before) : after);
  },
});

const attachmentOf = ({ id, attachment }: VolumeView): XmlObject =>
  attachment === null ? { volumeId: formatId('vol', id), status: 'detached' } : viewAttachment(id, attachment);

/** Detached already, since its host is down or it was forced: what it was, as AWS says it. */
const ended = (before: VolumeView): VolumeView =>
  before.attachment === null ? before : { ...before, attachment: { ...before.attachment, status: 'detached' } };
