import { randomBytes } from 'node:crypto';
import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { VolumeBusy } from '../errors.ts';
import { VOLUME_TASKS } from '../volume_state.ts';
import { changed, type Db, type Tx } from './connect.ts';
import type { VolumeAttachmentsTable } from './schema_volumes.ts';
import { ec2InstanceId } from './instance_names.ts';
import { snapshotCount } from './snapshots.ts';
import { ec2VolumeId, finishVolumeDelete, moveVolume, volumeById, type Volume } from './volumes.ts';

export type VolumeAttachment = Selectable<VolumeAttachmentsTable>;
export type AttachmentKey = Pick<VolumeAttachment, 'id' | 'volume_id'>;

/** The live attachment of a volume. */
export const attachmentOfVolume = (db: Db, volume_id: number): Promise<VolumeAttachment | undefined> =>
  db
    .selectFrom('volume_attachments')
    .selectAll()
    .where('volume_id', '=', volume_id)
    .where('deleted', '=', 0)
    .executeTakeFirst();

/** The live attachments of an instance, in the order of their devices. */
export const attachmentsOfInstance = (db: Db, instance_id: number): Promise<VolumeAttachment[]> =>
  db
    .selectFrom('volume_attachments')
    .selectAll()
    .where('instance_id', '=', instance_id)
    .where('deleted', '=', 0)
    .orderBy('device')
    .execute();

/** The live attachments of volumes that a storage host has. */
export const attachmentsOfStorageHost = (db: Db, host: string): Promise<VolumeAttachment[]> =>
  db
    .selectFrom('volume_attachments')
    .innerJoin('volumes', 'volumes.id', 'volume_attachments.volume_id')
    .selectAll('volume_attachments')
    .where('volumes.host', '=', host)
    .where('volumes.deleted', '=', 0)
    .where('volume_attachments.deleted', '=', 0)
    .execute();

/** 16 characters of base64url: what iSCSI's CHAP takes at most in Windows and on old targets, 96 bits. */
const newSecret = (): string => randomBytes(12).toString('base64url');

export interface NewAttachment {
  volume_id: number;
  instance_id: number;
  /** `/dev/vdb` */
  device: string;
  delete_on_termination?: boolean;
  boot?: boolean;
  made_for_launch?: boolean;
}

/**
 * The volume is this instance's from now on: `attaching`, with an epoch and a secret of its own. With `creating` it may
 * be one that is still being made: it goes from `creating` to `attaching` when it is there. @returns the attachment's id.
 * @throws VolumeBusy
 */
export async function beginAttachment(
  tx: Tx,
  attachment: NewAttachment,
  options: { creating?: boolean } = {},
): Promise<number> {
  const { volume_id, instance_id, device } = attachment;
  const { delete_on_termination = false, boot = false, made_for_launch = false } = attachment;
  const before = await volumeById(tx, volume_id);
  const still_creating = options.creating === true && before.status === 'creating';
  const rule = VOLUME_TASKS[still_creating ? 'creating' : 'attaching'];
  await moveVolume(tx, volume_id, {
    from: [still_creating ? 'creating' : 'available'],
    to: { status: still_creating ? 'creating' : 'attaching', fault: null },
    next_epoch: true,
    deadline_s: rule.deadline_s,
  });
  const { epoch } = await volumeById(tx, volume_id);
  const { id } = await tx
    .insertInto('volume_attachments')
    .values({
      volume_id,
      instance_id,
      epoch,
      device,
      status: 'attaching',
      delete_on_termination: delete_on_termination ? 1 : 0,
      boot: boot ? 1 : 0,
      made_for_launch: made_for_launch ? 1 : 0,
      auth_username: `${ec2VolumeId(volume_id)}-e${epoch}`,
      auth_password: newSecret(),
      created_at: nowText(),
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** The guest has it: `attached`, and the volume `in-use`. Twice is once. @throws VolumeBusy when it ended or is being detached */
export async function finishAttachment(tx: Tx, attachment: AttachmentKey): Promise<void> {
  const row = await tx.selectFrom('volume_attachments').selectAll().where('id', '=', attachment.id).executeTakeFirst();
  if (row?.deleted === 0 && row.status === 'attached') return;
  const done = await tx
    .updateTable('volume_attachments')
    .set({ status: 'attached', attached_at: nowText(), updated_at: nowText() })
    .where('id', '=', attachment.id)
    .where('deleted', '=', 0)
    .where('status', '=', 'attaching')
    .executeTakeFirst();
  if (changed(done) === 0)
    throw new VolumeBusy(
      `the attachment of ${ec2VolumeId(attachment.volume_id)} is ${row?.deleted === 0 ? row.status : 'over'}`,
    );
  await moveVolume(tx, attachment.volume_id, { from: ['attaching'], to: { status: 'in-use', fault: null } });
}

/** Its detaching begins. @throws VolumeBusy */
export async function beginDetachment(tx: Tx, attachment: AttachmentKey): Promise<void> {
  await moveVolume(tx, attachment.volume_id, {
    from: ['in-use'],
    to: { status: 'detaching', fault: null },
    deadline_s: VOLUME_TASKS.detaching.deadline_s,
  });
  await setStatus(tx, attachment, 'detaching');
}

/** The guest did not let go: attached as before, with the reason on the volume. @throws VolumeBusy */
export async function undoDetachment(tx: Tx, attachment: AttachmentKey, fault: string): Promise<void> {
  await moveVolume(tx, attachment.volume_id, { from: ['detaching'], to: { status: 'in-use', fault } });
  await setStatus(tx, attachment, 'attached');
}

async function setStatus(tx: Tx, { id, volume_id }: AttachmentKey, status: string): Promise<void> {
  const done = await tx
    .updateTable('volume_attachments')
    .set({ status, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(done) === 0) throw new VolumeBusy(`this attachment of ${ec2VolumeId(volume_id)} is over`);
}

/**
 * What ends an attachment. With `terminated` its delete-on-termination decides about the volume. With `launch failed` the
 * volume goes if it was made for that launch, and else stays: it may be full of its owner's data, who asked for no end.
 */
export type AttachmentEnd = 'detached' | 'terminated' | 'launch failed';

/** A volume whose attachment ended, and what its storage host has to do: see tellStorage in volume/rpc.ts. */
export interface EndedAttachment {
  volume_id: number;
  instance_id: number;
  project_id: string;
  /** The storage host; null when it never had one. */
  host: string | null;
  /** What the volume is now; `deleted` had no host, so nothing is left to do. */
  status: 'available' | 'creating' | 'deleting' | 'deleted' | 'error';
}

/**
 * Ends a live attachment, whatever its status: the volume is available, for its next attachment too, before the old
 * host let go, since that host's secret is void. @returns undefined when it was over
 */
export async function endAttachment(
  tx: Tx,
  attachment: VolumeAttachment,
  options: { fault?: string | null; why?: AttachmentEnd } = {},
): Promise<EndedAttachment | undefined> {
  const now = nowText();
  // The volume first: nova-volume, which makes it, looks for an attachment under a lock of that row.
  await tx.updateTable('volumes').set({ updated_at: now }).where('id', '=', attachment.volume_id).execute();
  const ended = await tx
    .updateTable('volume_attachments')
    .set({ deleted: 1, deleted_at: now, updated_at: now })
    .where('id', '=', attachment.id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(ended) === 0) return undefined;
  const { volume_id, instance_id } = attachment;
  const volume = await volumeById(tx, volume_id);
  const { host, project_id } = volume;
  const of = { volume_id, instance_id, host, project_id };
  const fault = options.fault ?? null;
  if (goesToo(attachment, options.why ?? 'detached')) {
    const snapshots = await snapshotCount(tx, volume_id);
    if (snapshots === 0) return { ...of, status: await deleteWithInstance(tx, volume) };
    await free(
      tx,
      volume,
      `kept, though it was to go with ${ec2InstanceId(instance_id)}: it has ${snapshots} snapshots`,
    );
  } else await free(tx, volume, fault);
  const { status } = await volumeById(tx, volume_id);
  return { ...of, status: status as EndedAttachment['status'] };
}

const goesToo = ({ delete_on_termination, made_for_launch }: VolumeAttachment, why: AttachmentEnd): boolean =>
  (why === 'terminated' && delete_on_termination === 1) || (why === 'launch failed' && made_for_launch === 1);

/** One that is being made, or could not be, stays as it is. */
async function free(tx: Tx, volume: Volume, fault: string | null): Promise<void> {
  if (volume.status === 'creating' || volume.status === 'error') return;
  await moveVolume(tx, volume.id, {
    from: ['available', 'attaching', 'in-use', 'detaching'],
    to: { status: 'available', fault },
  });
}

async function deleteWithInstance(tx: Tx, volume: Volume): Promise<'deleting' | 'deleted'> {
  await moveVolume(tx, volume.id, {
    from: ['creating', 'available', 'attaching', 'in-use', 'detaching', 'error'],
    to: { status: 'deleting', terminated_at: nowText() },
    deadline_s: VOLUME_TASKS.deleting.deadline_s,
  });
  if (volume.host !== null) return 'deleting';
  await finishVolumeDelete(tx, volume.id);
  return 'deleted';
}

/**
 * An attachment to an instance that is gone, or never came to be, is void. Volumes that go with it are `deleting`. The
 * caller tells the storage hosts (tellStorage in volume/rpc.ts).
 */
export async function endAttachmentsOfInstance(
  tx: Tx,
  instance_id: number,
  why: Exclude<AttachmentEnd, 'detached'>,
): Promise<EndedAttachment[]> {
  const ended: EndedAttachment[] = [];
  for (const attachment of await attachmentsOfInstance(tx, instance_id)) {
    const end = await endAttachment(tx, attachment, { why });
    if (end) ended.push(end);
  }
  return ended;
}

/** What a reconciler compares the guests of a compute host with. */
export interface HostAttachment extends VolumeAttachment {
  vm_state: string;
  task_state: string | null;
}
/** The live attachments of a compute host's live instances. */
export const attachmentsOfComputeHost = (db: Db, host: string): Promise<HostAttachment[]> =>
  db
    .selectFrom('volume_attachments')
    .innerJoin('instances', 'instances.id', 'volume_attachments.instance_id')
    .selectAll('volume_attachments')
    .select(['instances.vm_state', 'instances.task_state'])
    .where('instances.host', '=', host)
    .where('instances.deleted', '=', 0)
    .where('volume_attachments.deleted', '=', 0)
    .execute();
