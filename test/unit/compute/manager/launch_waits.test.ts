import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { sleep } from '../../../../src/common/clock.ts';
import { instanceById } from '../../../../src/common/db/instances.ts';
import { listJobs } from '../../../../src/common/db/jobs.ts';
import { aContext } from '../../../builders.ts';
import { later } from '../../../clock.ts';
import { aSmallCloud } from '../../../small_cloud.ts';

const mapping = { block_device_mapping: [{ device_name: '/dev/vdc', volume_size: 1 }] };

/** A cloud whose compute host does two things at a time, and whose storage host makes no volume before `go`. */
async function aCloud(t: TestContext) {
  const cloud = await aSmallCloud(t, { flags: { job_poll_interval: 1 } });
  await cloud.computeHost('node1', { max_concurrent_jobs: 2 });
  const { driver } = await cloud.storageHost('stor1');
  let go: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (go = resolve));
  const running = await cloud.launch();
  await cloud.until(running, 'active');
  driver.before = (operation) => (operation === 'create' ? gate : Promise.resolve());
  t.after(() => go());
  return { ...cloud, running, go };
}

test('launches that wait for their volumes keep nobody else waiting, and run as soon as they are there', async (t) => {
  const cloud = await aCloud(t);
  const waiting = [await cloud.launch(mapping), await cloud.launch(mapping), await cloud.launch(mapping)];
  for (const id of waiting) await cloud.untilTold(id, 'run_instance waits');

  await cloud.api.terminate(aContext(), cloud.running);
  await cloud.until(cloud.running, 'deleted');
  const [gone, ...stay] = waiting;
  assert.ok(gone !== undefined);
  await cloud.api.terminate(aContext(), gone);
  await cloud.until(gone, 'deleted');

  const [job] = await listJobs(cloud.db, { resource: `instance:${stay[0]}` });
  assert.match(job?.error ?? '', /^vol-00000002 is still being made$/);
  cloud.go();
  for (const id of stay) {
    await cloud.until(id, 'active');
    const story = (await cloud.story(id)).filter((event) => !event.startsWith('volume'));
    assert.deepEqual(story, ['asked for', 'scheduled', 'run_instance waits', 'running']);
    assert.deepEqual(
      (await cloud.settledJobs(id)).map(({ attempt, error }) => ({ attempt, error })),
      [
        { attempt: 1, error: null },
        { attempt: 1, error: null },
      ],
    );
  }
});

test('a launch waits past its deadline, and for --block_device_creation_timeout since it was placed', async (t) => {
  const cloud = await aCloud(t);
  const id = await cloud.launch(mapping);
  await cloud.untilTold(id, 'run_instance waits');

  later(t, 301);
  await cloud.report();
  await cloud.sweep();
  await cloud.untilTold(id, 'still networking');
  await sleep(1500);
  assert.equal((await instanceById(cloud.db, id)).task_state, 'networking');
  later(t, 300);

  const { fault } = await cloud.until(id, 'error');
  assert.equal(fault, 'vol-00000001 was still being made after 600 s (--block_device_creation_timeout)');
});
