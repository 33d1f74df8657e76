import type { Tx } from '../common/db/connect.ts';
import { writing } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { ec2InstanceId } from '../common/db/instance_names.ts';
import { allServices } from '../common/db/services.ts';
import { ec2SnapshotId, finishSnapshotDelete, listSnapshots, lockVisibleSnapshot } from '../common/db/snapshots.ts';
import { attachmentOfVolume, endAttachment } from '../common/db/volume_attachments.ts';
import { ec2VolumeId, finishVolumeDelete, lockVisibleVolume } from '../common/db/volumes.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { Conflict } from '../common/errors.ts';
import { instanceResource } from '../common/rpc/contract.ts';
import { snapshotResource, volumeResource } from '../volume/rpc.ts';
import { silence } from './explain_advice.ts';
import type { Manage } from './noun.ts';

/** What is wrong with a host's nova-volume, in words; undefined while it reports. */
export async function silenceOfStorage(m: Manage, host: string): Promise<string | undefined> {
  const { service_down_time: service_down_time_s } = m.flags.read(serviceFlags);
  return silence({ services: await allServices(m.db), service_down_time_s }, 'volume', host);
}

/** @throws Conflict while its nova-volume reports */
async function checkGone(m: Manage, name: string, host: string): Promise<void> {
  if ((await silenceOfStorage(m, host)) === undefined)
    throw new Conflict(`nova-volume on ${host} is up, so it deletes ${name} itself: leave --host_is_gone out`);
}

const GONE = 'deleted by an operator: its storage host is gone';

/**
 * Ends the rows of a volume, its snapshots and its attachment without its storage host. nova-compute takes the dead
 * disk from the guest by itself; a host that comes back takes its bytes away by itself.
 * @returns what was ended, for people. @throws VolumeNotFound, Conflict
 */
export async function forgetVolume(m: Manage, id: number, host: string): Promise<string[]> {
  const name = ec2VolumeId(id);
  await checkGone(m, name, host);
  return writing(m.db, async (tx) => {
    const volume = await lockVisibleVolume(tx, m.db.dialect, m.ctx, id);
    const ctx = { ...m.ctx, project_id: volume.project_id };
    const ended: string[] = [];
    const attachment = await attachmentOfVolume(tx, id);
    if (attachment && (await endAttachment(tx, attachment))) {
      const { instance_id, device } = attachment;
      const instance = ec2InstanceId(instance_id);
      await recordEvent(tx, ctx, instanceResource(instance_id), `volume ${GONE}`, null, { volume: name, device });
      ended.push(`its attachment to ${instance} at ${device}`);
    }
    for (const snapshot of await listSnapshots(tx, m.ctx, { volume_id: id })) {
      await finishSnapshot(tx, m, snapshot.id, snapshot.project_id, host);
      ended.push(ec2SnapshotId(snapshot.id));
    }
    if (await finishVolumeDelete(tx, id)) await recordEvent(tx, ctx, volumeResource(id), GONE, host, { with: ended });
    return ended;
  });
}

/** @throws SnapshotNotFound, Conflict */
export async function forgetSnapshot(m: Manage, id: number, host: string): Promise<void> {
  await checkGone(m, ec2SnapshotId(id), host);
  await writing(m.db, async (tx) => {
    const { project_id } = await lockVisibleSnapshot(tx, m.db.dialect, m.ctx, id);
    await finishSnapshot(tx, m, id, project_id, host);
  });
}

async function finishSnapshot(tx: Tx, m: Manage, id: number, project_id: string, host: string): Promise<void> {
  if (await finishSnapshotDelete(tx, id))
    await recordEvent(tx, { ...m.ctx, project_id }, snapshotResource(id), GONE, host);
}
