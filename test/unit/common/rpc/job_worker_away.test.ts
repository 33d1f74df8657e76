import assert from 'node:assert/strict';
import { test } from 'node:test';
import { textIn } from '../../../../src/common/clock.ts';
import { RpcTimeout, RpcUnavailable } from '../../../../src/common/errors.ts';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { later } from '../../../clock.ts';
import { aWorker } from './a_worker.ts';

test('a peer that is away is no attempt of the job, however often it is asked meanwhile', async (t) => {
  let back = false;
  const asked = [new RpcUnavailable('nobody serves the queue network'), new RpcTimeout('network did not answer')];
  const run = async () => {
    if (!back) throw asked.shift() ?? new RpcUnavailable('nobody serves the queue network');
  };
  const rig = await aWorker(t, { run });
  const id = await rig.ask('run', 1);
  await rig.worker.start();
  await rig.untilBegun(1);

  for (let ask = 0; ask < 10; ask++) {
    assert.equal((await rig.settled(id, 'queued')).attempt, 0); // of at most 2
    later(t, 11);
    await rig.worker.poll();
    await rig.untilBegun(ask + 2);
  }
  back = true;
  later(t, 11);
  await rig.worker.poll();

  assert.deepEqual(await rig.settled(id, 'done'), { state: 'done', error: null, attempt: 1 });
  assert.deepEqual(rig.failed, []);
  const told = (await eventsOf(rig.db, 'instance:1')).map(
    ({ details }) => (JSON.parse(details) as { error: string }).error,
  );
  assert.deepEqual(told, [
    'nobody serves the queue network',
    'network did not answer',
    'nobody serves the queue network',
  ]);
});

test('a peer that stays away for longer than the job is patient ends it, with the reason and the time', async (t) => {
  const rig = await aWorker(t, { run: () => Promise.reject(new RpcUnavailable('nobody serves the queue network')) });
  const id = await rig.ask('run', 1);
  await rig.worker.start();
  await rig.untilBegun(1);
  await rig.settled(id, 'queued');

  later(t, 301);
  await rig.worker.poll();

  const { error } = await rig.settled(id, 'failed');
  assert.match(error ?? '', /^nobody serves the queue network \(asked again and again for 30\d s\)$/);
  assert.deepEqual(rig.failed, [`run 1: ${error}`]);
});

for (const end of ['stopped', 'killed'])
  test(`the time in which a worker was ${end} and nobody asked does not count against a job's patience`, async (t) => {
    const run = () => Promise.reject(new RpcUnavailable('nobody serves the queue network'));
    const before = await aWorker(t, { run });
    const { db } = before;
    const id = await before.ask('run', 1);
    await before.worker.start();
    await before.untilBegun(1);
    await before.settled(id, 'queued');
    await before.worker.stop(0, 5000);
    if (end === 'killed')
      await db
        .updateTable('jobs')
        .set({ state: 'running', lease_owner: 'guest.hostA:one', lease_until: textIn(30) })
        .execute();

    later(t, 600);
    const after = await aWorker(t, { run }, { db, incarnation: 'two' });
    await after.worker.start();
    await after.untilBegun(1);

    assert.equal((await after.settled(id, 'queued', 'failed')).state, 'queued');
    later(t, 301);
    await after.worker.poll();
    assert.match((await after.settled(id, 'failed')).error ?? '', /asked again and again for 30\d s/);
  });

test('the time in which nobody could look into the job table does not count against a job either', async (t) => {
  const run = () => Promise.reject(new RpcUnavailable('nobody serves the queue network'));
  const rig = await aWorker(t, { run }, { poll_interval_s: 10 });
  const id = await rig.ask('run', 1);
  await rig.worker.start();
  await rig.untilBegun(1);
  await rig.settled(id, 'queued');

  later(t, 600);
  await rig.worker.poll();
  await rig.untilBegun(2);

  assert.equal((await rig.settled(id, 'queued', 'failed')).state, 'queued');
});
