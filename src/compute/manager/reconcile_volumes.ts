import { adminContext } from '../../common/context.ts';
import { writing, type NovaDb } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { instancesOfHost } from '../../common/db/instances.ts';
import { castJob, jobUnderWay } from '../../common/db/jobs.ts';
import { attachmentsOfComputeHost } from '../../common/db/volume_attachments.ts';
import { ec2VolumeId, volumeIdOf } from '../../common/db/volumes.ts';
import type { Log } from '../../common/log.ts';
import { castClient, instanceResource } from '../../common/rpc/contract.ts';
import type { ComputeDriver } from '../drivers/driver.ts';
import { computeContract } from '../rpc.ts';
import { guestName } from './guest_spec.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  host: string;
  driver: ComputeDriver;
  template: string;
}

/**
 * Compares the disks of running guests with the live attachments, at start and every period. A disk that no attachment
 * wants goes; an attached volume that its guest is without comes again. Both by jobs, which come in turn with whatever
 * else is asked of the instance and look again.
 */
export async function reconcileVolumes(deps: Deps): Promise<void> {
  const { db, host, driver, template } = deps;
  const there = await driver.listVolumes(); // before the rows are read: what comes meanwhile has an attachment already
  const attachments = await attachmentsOfComputeHost(db, host);
  for (const { id, project_id, vm_state, task_state } of await instancesOfHost(db, host)) {
    const has = there.get(guestName(template, id));
    if (has === undefined || task_state !== null || vm_state !== 'active') continue;
    const wanted = attachments.filter(({ instance_id }) => instance_id === id);
    for (const serial of has) {
      const volume_id = volumeIdOf(serial);
      if (volume_id === undefined || wanted.some((attachment) => attachment.volume_id === volume_id)) continue;
      await ask(deps, project_id, { instance_id: id, volume_id }, 'detach');
    }
    for (const { volume_id, status } of wanted)
      if (status === 'attached' && !has.includes(ec2VolumeId(volume_id)))
        await ask(deps, project_id, { instance_id: id, volume_id }, 'attach');
  }
}

async function ask(
  { db, log, host }: Deps,
  project_id: string,
  args: { instance_id: number; volume_id: number },
  what: 'attach' | 'detach',
): Promise<void> {
  const resource = instanceResource(args.instance_id);
  const compute = castClient(computeContract).at(host);
  const ctx = { ...adminContext(), project_id };
  await writing(db, async (tx) => {
    if (await jobUnderWay(tx, resource, `${what}_volume`)) return; // the next period looks again
    const event = what === 'attach' ? 'volume missing at its guest' : 'left-over volume at its guest';
    await recordEvent(tx, ctx, resource, event, host, { volume: ec2VolumeId(args.volume_id) });
    if (what === 'attach') await castJob(tx, ctx, compute.attachVolume, { ...args, mountpoint: '' });
    else await castJob(tx, ctx, compute.detachVolume, { ...args, force: true });
  });
  log.info({ ...args, what }, 'a guest does not have the volumes of its attachments');
}
