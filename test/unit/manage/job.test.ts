import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writing, type NovaDb } from '../../../src/common/db/connect.ts';
import { castJob, claimJob, settleJob, type Worker } from '../../../src/common/db/jobs.ts';
import { Conflict, NotFound } from '../../../src/common/errors.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { computeClient } from '../../../src/compute/rpc.ts';
import { jobCommands } from '../../../src/manage/job.ts';
import { aContext, aDatabase, anInstance, aVolume } from '../../builders.ts';
import { run } from './a_manage.ts';

const compute = computeClient(new MemoryBus());
const worker: Worker = { topic: 'compute', host: 'node1', owner: 'compute.node1:i1', lease_s: 30 };
const aJob = (db: NovaDb, instance_id: number): Promise<number> =>
  writing(db, (tx) => castJob(tx, aContext(), compute.at('node1').runInstance, { instance_id }));

test('job list prints the newest first, narrowed to a state or a resource', async (t) => {
  const db = await aDatabase(t);
  for (const instance_id of [10, 11, 11]) await aJob(db, instance_id);
  await claimJob(db, worker, 2);
  const ids = async (args: Record<string, unknown>) =>
    (await run(db, jobCommands, 'list', { limit: 50, ...args })).slice(1).map((line) => line.trim().split(' ')[0]);

  assert.deepEqual(await ids({}), ['3', '2', '1']);
  assert.deepEqual(await ids({ state: 'running' }), ['2']);
  assert.deepEqual(await ids({ resource: 'i-0000000a' }), ['1']);
  assert.deepEqual(await ids({ resource: 'instance:11', limit: 1 }), ['3']);
});

test('job retry lets a failed job be claimed again from its first attempt, and no other', async (t) => {
  const db = await aDatabase(t);
  const id = await aJob(db, await anInstance(db, { vm_state: 'building', task_state: 'networking' }));
  await assert.rejects(run(db, jobCommands, 'retry', { id }), Conflict);
  await claimJob(db, worker, id);
  await settleJob(db, worker, id, { state: 'failed', error: 'no space left on device' });

  await run(db, jobCommands, 'retry', { id });

  assert.equal((await claimJob(db, worker, id))?.attempt, 1);
  await assert.rejects(run(db, jobCommands, 'retry', { id }), /job 1 is running; only a failed job can be retried/);
  await assert.rejects(run(db, jobCommands, 'retry', { id: 99 }), NotFound);
});

test('job retry refuses what would do nothing, says what to do, and keeps the failure', async (t) => {
  const db = await aDatabase(t);
  const instance_id = await anInstance(db, { vm_state: 'error', task_state: null });
  const volume_id = await aVolume(db);
  const fails = async (id: number) => {
    await claimJob(db, worker, id);
    await settleJob(db, worker, id, { state: 'failed', error: 'no space left on device' });
    return id;
  };
  const launch = await fails(await aJob(db, instance_id));
  const at = compute.at('node1');
  const detaching = await fails(
    await writing(db, (tx) => castJob(tx, aContext(), at.detachVolume, { instance_id, volume_id })),
  );
  const forced = await fails(
    await writing(db, (tx) => castJob(tx, aContext(), at.detachVolume, { instance_id, volume_id, force: true })),
  );

  await assert.rejects(run(db, jobCommands, 'retry', { id: launch }), {
    message:
      'job 1 would do nothing: i-00000001 is error, and run_instance does something only while it is ' +
      'scheduling or networking or spawning; terminate it and launch again. It failed: no space left on device',
  });
  await assert.rejects(
    run(db, jobCommands, 'retry', { id: detaching }),
    /vol-00000001 is available, and detach_volume does something only while it is detaching; ask for it again/,
  );
  await run(db, jobCommands, 'retry', { id: forced });

  assert.deepEqual(
    (await db.selectFrom('jobs').select(['state', 'error']).orderBy('id').execute()).map((job) => job.state),
    ['failed', 'failed', 'queued'],
  );
});
