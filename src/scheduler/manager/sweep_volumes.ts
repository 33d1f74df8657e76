import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb, type Tx } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { instanceById, type Instance } from '../../common/db/instances.ts';
import { castJob, openJobs, type Job } from '../../common/db/jobs.ts';
import { ec2SnapshotId, moveSnapshot, overdueSnapshots, type Snapshot } from '../../common/db/snapshots.ts';
import { attachmentOfVolume, endAttachment, type VolumeAttachment } from '../../common/db/volume_attachments.ts';
import { ec2VolumeId, moveVolume, overdueVolumes, type Volume } from '../../common/db/volumes.ts';
import { SnapshotBusy, VolumeBusy } from '../../common/errors.ts';
import { launchFailed } from '../../common/instance_state.ts';
import type { Log } from '../../common/log.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import { SNAPSHOT_TASKS, VOLUME_TASKS } from '../../common/volume_state.ts';
import { computeClient } from '../../compute/rpc.ts';
import { snapshotResource, tellStorage, volumeClient, volumeResource } from '../../volume/rpc.ts';
import { schedulerClient } from '../rpc.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  bus: RpcBus;
}
export interface HostsUp {
  compute: ReadonlySet<string>;
  volume: ReadonlySet<string>;
}
const BATCH = 200;

/**
 * The sweep of volumes and snapshots, by the tables in common/volume_state.ts:
 *
 *   the host at work is down  ──> the table's `host_down`: error, wait for it, or the attachment ends without it
 *   its job waits or runs     ──> a new deadline, and an event that says what it waits for
 *   it has no job any more    ──> the job is cast again
 */
export async function sweepVolumes(deps: Deps, ctx: RequestContext, up: HostsUp): Promise<void> {
  const { db, log } = deps;
  for (const volume of await overdueVolumes(db, BATCH)) {
    ctx.signal.throwIfAborted();
    try {
      await writing(db, (tx) => sweepVolume(tx, deps, ctxOf(ctx, volume), volume, up));
    } catch (err) {
      if (!(err instanceof VolumeBusy)) log.error({ err, volume_id: volume.id }, 'not swept'); // busy: it moved on
    }
  }
  for (const snapshot of await overdueSnapshots(db, BATCH)) {
    ctx.signal.throwIfAborted();
    try {
      await writing(db, (tx) => sweepSnapshot(tx, deps, ctxOf(ctx, snapshot), snapshot, up));
    } catch (err) {
      if (!(err instanceof SnapshotBusy)) log.error({ err, snapshot_id: snapshot.id }, 'not swept');
    }
  }
}

const ctxOf = (ctx: RequestContext, { project_id }: { project_id: string }): RequestContext => ({ ...ctx, project_id });

async function sweepVolume(tx: Tx, deps: Deps, ctx: RequestContext, volume: Volume, up: HostsUp): Promise<void> {
  switch (volume.status) {
    case 'creating':
    case 'deleting':
      return sweepStorage(tx, deps, ctx, volume, volume.status, up);
    case 'attaching':
    case 'detaching':
      return sweepAttachment(tx, deps, ctx, volume, volume.status, up);
    default:
      return; // it rests
  }
}

/** What nova-volume, or before it the scheduler, is at. */
async function sweepStorage(
  tx: Tx,
  { bus, log }: Deps,
  ctx: RequestContext,
  volume: Volume,
  status: 'creating' | 'deleting',
  up: HostsUp,
): Promise<void> {
  const rule = VOLUME_TASKS[status];
  const { id, host } = volume;
  if (host !== null && !up.volume.has(host) && rule.host_down === 'error') {
    const fault = `host ${host} went down while ${ec2VolumeId(id)} was ${status}`;
    await moveVolume(tx, id, { from: [status], to: { status: 'error', fault } });
    await recordEvent(tx, ctx, volumeResource(id), `given up: host down while ${status}`, host, { error: fault });
    log.warn({ volume_id: id, host, status }, 'storage host down, volume given up');
    return;
  }
  await moveVolume(tx, id, { from: [status], to: { status }, deadline_s: rule.deadline_s });
  const job = (await openJobs(tx, volumeResource(id))).find((open) => open.method === rule.job);
  const told = { tx, ctx, resource: volumeResource(id), status, host };
  if (job) return tellStill(told, job, host !== null && !up.volume.has(host));
  await tellAgain(told);
  if (host === null) await castJob(tx, ctx, schedulerClient(bus).createVolume, { volume_id: id });
  else if (status === 'creating') await castJob(tx, ctx, volumeClient(bus).at(host).createVolume, { volume_id: id });
  else await castJob(tx, ctx, volumeClient(bus).at(host).deleteVolume, { volume_id: id });
}

/** What nova-compute is at. */
async function sweepAttachment(
  tx: Tx,
  deps: Deps,
  ctx: RequestContext,
  volume: Volume,
  status: 'attaching' | 'detaching',
  up: HostsUp,
): Promise<void> {
  const { id } = volume;
  const attachment = await attachmentOfVolume(tx, id);
  if (!attachment) {
    await moveVolume(tx, id, { from: [status], to: { status: 'available' } });
    await recordEvent(tx, ctx, volumeResource(id), `${status} without an attachment: available again`, volume.host);
    return;
  }
  const instance = await instanceById(tx, attachment.instance_id, { deleted: true });
  const rule = VOLUME_TASKS[status];
  const { host } = instance;
  const host_down = host === null || !up.compute.has(host);
  if (isLaunching(instance) || (launchFailed(instance) && !host_down)) {
    // Its launch attaches it, or its host is about to give back what a failed one took.
    await moveVolume(tx, id, { from: [status], to: { status }, deadline_s: rule.deadline_s });
    return;
  }
  if (host_down) {
    await withoutComputeHost(tx, deps, ctx, attachment, instance, status);
    return;
  }
  await moveVolume(tx, id, { from: [status], to: { status }, deadline_s: rule.deadline_s });
  const jobs = await openJobs(tx, instanceResource(instance.id));
  const job = jobs.find(({ method, args }) => method === rule.job && argOf(args, 'volume_id') === id);
  const told = { tx, ctx, resource: volumeResource(id), status, host };
  if (job) return tellStill(told, job, false);
  await tellAgain(told);
  const compute = computeClient(deps.bus).at(host);
  const args = { instance_id: instance.id, volume_id: id };
  if (status === 'attaching') await castJob(tx, ctx, compute.attachVolume, { ...args, mountpoint: attachment.device });
  else await castJob(tx, ctx, compute.detachVolume, args);
}

const isLaunching = ({ vm_state, task_state, deleted }: Instance): boolean =>
  deleted === 0 && vm_state === 'building' && task_state !== null && task_state !== 'deleting';

async function withoutComputeHost(
  tx: Tx,
  { log }: Deps,
  ctx: RequestContext,
  attachment: VolumeAttachment,
  instance: Instance,
  status: 'attaching' | 'detaching',
): Promise<void> {
  const { volume_id } = attachment;
  const { deadline_s } = VOLUME_TASKS[status];
  await moveVolume(tx, volume_id, { from: [status], to: { status }, deadline_s }); // not what its host just finished
  const { host } = instance;
  const why = host === null ? 'its instance was never started' : `host ${host} went down`;
  const ended = await endAttachment(tx, attachment, {
    fault: `${why} while ${status}`,
    why: launchFailed(instance) ? 'launch failed' : 'detached',
  });
  if (!ended) return;
  await tellStorage(tx, ctx, [ended], `given up ${status}: ${why}`);
  log.warn({ volume_id, host, status }, 'attachment ended without its compute host');
}

async function sweepSnapshot(
  tx: Tx,
  { bus, log }: Deps,
  ctx: RequestContext,
  snapshot: Snapshot,
  up: HostsUp,
): Promise<void> {
  const { id, host, volume_id, status } = snapshot;
  if (status !== 'creating' && status !== 'deleting') return; // it rests
  const rule = SNAPSHOT_TASKS[status];
  const resource = snapshotResource(id);
  if (!up.volume.has(host) && rule.host_down === 'error') {
    const fault = `host ${host} went down while ${ec2SnapshotId(id)} was ${status}`;
    await moveSnapshot(tx, id, { from: [status], to: { status: 'error', fault } });
    await recordEvent(tx, ctx, resource, `given up: host down while ${status}`, host, { error: fault });
    log.warn({ snapshot_id: id, host, status }, 'storage host down, snapshot given up');
    return;
  }
  await moveSnapshot(tx, id, { from: [status], to: { status }, deadline_s: rule.deadline_s });
  const job = (await openJobs(tx, resource)).find(({ method }) => method === rule.job);
  const told = { tx, ctx, resource, status, host };
  if (job) return tellStill(told, job, !up.volume.has(host));
  await tellAgain(told);
  const storage = volumeClient(bus).at(host);
  if (status === 'creating') await castJob(tx, ctx, storage.createSnapshot, { volume_id, snapshot_id: id });
  else await castJob(tx, ctx, storage.deleteSnapshot, { snapshot_id: id });
}

const argOf = (args: string, name: string): unknown => (JSON.parse(args) as Record<string, unknown>)[name];

interface Told {
  tx: Tx;
  ctx: RequestContext;
  resource: string;
  status: string;
  host: string | null;
}
const tellStill = ({ tx, ctx, resource, status, host }: Told, job: Job, host_down: boolean): Promise<void> =>
  recordEvent(tx, ctx, resource, `still ${status}${host_down ? ', its host is down' : ''}`, host, {
    job: job.id,
    job_state: job.state,
    attempt: job.attempt,
    error: job.error,
  });
const tellAgain = ({ tx, ctx, resource, status, host }: Told): Promise<void> =>
  recordEvent(tx, ctx, resource, `${status} had no job, cast again`, host);
