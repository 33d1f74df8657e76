import { textIn } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb, type Tx } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import {
  ec2InstanceId,
  finishDelete,
  moveInstance,
  overdueInstances,
  type Instance,
} from '../../common/db/instances.ts';
import { castJob, jobUnderWay, purgeJobs } from '../../common/db/jobs.ts';
import { hostsUp, type Liveness } from '../../common/db/services.ts';
import { endAttachmentsOfInstance } from '../../common/db/volume_attachments.ts';
import { InstanceBusy } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import { launchFailed, TASKS, type TaskState } from '../../common/instance_state.ts';
import { computeClient } from '../../compute/rpc.ts';
import { tellStorage } from '../../volume/rpc.ts';
import { schedulerClient } from '../rpc.ts';
import { sweepImages } from './sweep_images.ts';
import { sweepVolumes } from './sweep_volumes.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  bus: RpcBus;
  host: string;
  liveness: Liveness;
  retention_days: number;
}
const BATCH = 200;

/**
 * Looks into every task whose deadline passed (common/instance_state.ts says what may be done):
 *
 *   its host is down          ──> the task's `host_down`: error with the reason, as before, or deleted
 *   its job waits or runs     ──> a new deadline, and an event that says what it waits for
 *   it has no job any more    ──> the job is cast again
 *
 * Every change is guarded by the state that was seen, so several schedulers may sweep at once.
 */
export async function sweep(deps: Deps, ctx: RequestContext): Promise<void> {
  const { db, liveness } = deps;
  await purgeJobs(db, textIn(-deps.retention_days * 24 * 3600));
  const up = { compute: await hostsUp(db, 'compute', liveness), volume: await hostsUp(db, 'volume', liveness) };
  await sweepInstances(deps, ctx, up.compute);
  await sweepVolumes(deps, ctx, up);
  await sweepImages(deps, ctx);
}

async function sweepInstances(deps: Deps, ctx: RequestContext, up: ReadonlySet<string>): Promise<void> {
  const { db, log } = deps;
  const overdue = await overdueInstances(db, BATCH);
  for (const instance of overdue) {
    ctx.signal.throwIfAborted();
    try {
      await writing(db, (tx) => sweepOne(tx, deps, ctx, instance, instance.host === null || up.has(instance.host)));
    } catch (err) {
      if (!(err instanceof InstanceBusy)) log.error({ err, instance_id: instance.id }, 'not swept'); // busy: it moved on
    }
  }
}

async function sweepOne(tx: Tx, deps: Deps, ctx: RequestContext, instance: Instance, host_up: boolean): Promise<void> {
  const task = instance.task_state as TaskState;
  const rule = TASKS[task];
  const resource = instanceResource(instance.id);
  const who = { ...ctx, project_id: instance.project_id };
  if (rule.owner === 'compute' && !host_up) {
    await withoutHost(tx, deps, who, instance, task);
    return;
  }
  await moveInstance(tx, instance.id, { from: [task], to: { task_state: task }, deadline_s: rule.deadline_s });
  const job = await jobUnderWay(tx, resource, rule.job);
  if (job) {
    await recordEvent(tx, who, resource, `still ${task}`, instance.host, {
      job: job.id,
      job_state: job.state,
      attempt: job.attempt,
      error: job.error,
    });
    return;
  }
  await recordEvent(tx, who, resource, `${task} had no job, cast again`, instance.host);
  const args = { instance_id: instance.id };
  if (rule.owner === 'scheduler') await castJob(tx, who, schedulerClient(deps.bus).runInstance, args);
  else {
    const compute = computeClient(deps.bus).at(instance.host ?? '');
    const again = {
      run_instance: compute.runInstance,
      reboot_instance: compute.rebootInstance,
      terminate_instance: compute.terminateInstance,
    };
    await castJob(tx, who, again[rule.job], args);
  }
}

async function withoutHost(
  tx: Tx,
  { log }: Deps,
  ctx: RequestContext,
  instance: Instance,
  task: TaskState,
): Promise<void> {
  const resource = instanceResource(instance.id);
  const fault = `host ${instance.host} went down while ${ec2InstanceId(instance.id)} was ${task}`;
  const to = TASKS[task].host_down;
  if (to === 'deleted') {
    // Its addresses stay taken for --fixed_ip_disassociate_timeout: the guest may still answer on them.
    const ended = await finishDelete(tx, instance);
    if (ended) {
      await recordEvent(tx, ctx, resource, 'deleted without its host, which is down', instance.host);
      await tellStorage(tx, ctx, ended, 'its instance was deleted without its host, which is down');
    }
  } else {
    const vm_state = to === 'as_before' ? instance.vm_state : to;
    await moveInstance(tx, instance.id, { from: [task], to: { task_state: null, vm_state, fault } });
    await recordEvent(tx, ctx, resource, `given up: host down while ${task}`, instance.host, { error: fault });
    if (launchFailed({ vm_state })) {
      // Not left to its host, which may never return: they count against the quota, or are wanted elsewhere.
      const ended = await endAttachmentsOfInstance(tx, instance.id, 'launch failed');
      await tellStorage(tx, ctx, ended, `given back: host ${instance.host} went down during the launch`);
    }
  }
  log.warn(
    { instance_id: instance.id, host: instance.host, task_state: task, vm_state: to },
    'host down, task ended without it',
  );
}
