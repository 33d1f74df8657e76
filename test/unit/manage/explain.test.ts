import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { clock, nowText, textIn } from '../../../src/common/clock.ts';
import { writing, type NovaDb } from '../../../src/common/db/connect.ts';
import { recordEvent } from '../../../src/common/db/events.ts';
import { castJob } from '../../../src/common/db/jobs.ts';
import { registerService } from '../../../src/common/db/services.ts';
import { InstanceNotFound, NotFound } from '../../../src/common/errors.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { computeClient } from '../../../src/compute/rpc.ts';
import { explainCommands } from '../../../src/manage/explain.ts';
import { volumeClient } from '../../../src/volume/rpc.ts';
import { aContext, aDatabase, anInstance, aSnapshot, aVolume } from '../../builders.ts';
import { run } from './a_manage.ts';

/** Time stands at 10:00:00 and moves when told. */
function aClock(t: TestContext): { pass(seconds: number): void } {
  let ms = Date.parse('2011-04-15T10:00:00.000Z');
  t.mock.method(clock, 'now', () => new Date(ms));
  return { pass: (seconds) => void (ms += seconds * 1000) };
}

const compute = computeClient(new MemoryBus());
const aService = (db: NovaDb, host: string, topic: string) =>
  registerService(db, {
    host,
    topic,
    binary: `nova-${topic}`,
    availability_zone: 'nova',
    incarnation: 'i1',
    agreed_flags: {},
    enabled: true,
  });

async function explain(db: NovaDb, what: string): Promise<string> {
  return (await run(db, explainCommands, null, { what })).join('\n');
}

test('explain tells who asked, each step with its time and place, and that nothing is to be done', async (t) => {
  const time = aClock(t);
  const db = await aDatabase(t);
  await aService(db, 'node1', 'compute');
  const id = await anInstance(db, { created_at: nowText(), launched_at: textIn(7) });
  const ctx = aContext({ request_id: 'req-1' });
  await recordEvent(db, ctx, `instance:${id}`, 'asked for', null, { image: 'ami-00000001', from: '10.1.2.3' });
  time.pass(0.5);
  await recordEvent(db, ctx, `instance:${id}`, 'scheduled', 'ctl', { to: 'node1' });
  time.pass(6.5);
  await recordEvent(db, ctx, `instance:${id}`, 'running', 'node1', { addresses: ['10.0.0.3'], spawn_ms: 6200 });
  time.pass(30);

  const text = await explain(db, 'i-00000001');

  assert.match(text, /^i-00000001 web \(/);
  assert.match(text, /state +active, launched 30 s ago/);
  assert.match(text, /req-1 by ann in apollo, 37 s ago/);
  assert.match(text, /2011-04-15 10:00:00\.000 +api +asked for +image ami-00000001, from 10\.1\.2\.3/);
  assert.match(text, /2011-04-15 10:00:00\.500 +\+500 ms +ctl +scheduled +to node1/);
  assert.match(text, /2011-04-15 10:00:07\.000 +\+6\.5 s +node1 +running +addresses 10\.0\.0\.3, spawn took 6\.2 s/);
  assert.match(text, /Now\n {4}Nothing to do\.$/);
});

test('explain says why no host took an instance, host by host', async (t) => {
  aClock(t);
  const db = await aDatabase(t);
  const fault = 'no host has room for it';
  const id = await anInstance(db, { host: null, vm_state: 'error', fault });
  await recordEvent(db, aContext(), `instance:${id}`, 'no valid host', 'ctl', {
    error: fault,
    hosts: { node1: 'memory_mb: 512 wanted, 0 free of 2048', node2: 'disabled by the operator' },
  });

  const text = await explain(db, String(id));

  assert.match(text, /no valid host +no host has room for it\n +not node1: memory_mb: 512 wanted, 0 free of 2048\n/);
  assert.match(text, /\n +not node2: disabled by the operator\n/);
  assert.match(text, /Now\n {4}It failed: no host has room for it\n {4}It has no host and takes no capacity\./);
});

test('explain finds the job that waits, the daemon that is down, and the last error', async (t) => {
  const time = aClock(t);
  const db = await aDatabase(t);
  await aService(db, 'node1', 'compute');
  const id = await anInstance(db, { vm_state: 'building', task_state: 'spawning', task_deadline: textIn(900) });
  await writing(db, (tx) => castJob(tx, aContext(), compute.at('node1').runInstance, { instance_id: id }));
  await db.updateTable('jobs').set({ attempt: 1, error: 'no space left on device' }).execute();
  time.pass(300);
  await aService(db, 'ctl', 'scheduler');

  const text = await explain(db, `i-${id}`);

  assert.match(
    text,
    /job 1 +compute\.run_instance on node1 +queued for 5 min +attempt 1 of 5 +no space left on device/,
  );
  assert.match(
    text,
    /nova-compute on node1 is down \(last report 5 min ago\): start it, and the job goes on by itself\./,
  );
  assert.match(text, /The attempt before failed: no space left on device/);
  assert.match(text, /The sweep in nova-scheduler looks into it in 10 min\.$/);
});

test('explain says who gives back what a failed launch took on its host', async (t) => {
  const time = aClock(t);
  const db = await aDatabase(t);
  await aService(db, 'node1', 'compute');
  const id = await anInstance(db, { vm_state: 'error', fault: 'no space left on device' });

  assert.match(await explain(db, String(id)), /What it took on node1 is given back by nova-compute there within/);
  time.pass(300);
  assert.match(
    await explain(db, String(id)),
    /nova-compute on node1 is down \(last report 5 min ago\): what the instance took there is given back when it is up/,
  );
});

test('explain takes the ids of volumes, snapshots and images as every list prints them', async (t) => {
  aClock(t);
  const db = await aDatabase(t);
  for (const resource of ['volume:10', 'snapshot:3', 'image:4'])
    await recordEvent(db, aContext(), resource, `made ${resource}`, null);

  for (const [called, resource] of [
    ['vol-0000000a', 'volume:10'],
    ['SNAP-3', 'snapshot:3'],
    ['ami-00000004', 'image:4'],
    ['aki-00000004', 'image:4'],
    ['ari-00000004', 'image:4'],
    ['image:4', 'image:4'],
  ] as const)
    assert.match(await explain(db, called), new RegExp(`^${called}\\n[^]*made ${resource}`));
  await assert.rejects(explain(db, 'vol-0000000b'), /nothing is recorded of vol-0000000b/);
});

test('explain shows the next attempt, and a task that has no job', async (t) => {
  aClock(t);
  const db = await aDatabase(t);
  await aService(db, 'node1', 'compute');
  await aService(db, 'ctl', 'scheduler');
  const task = { vm_state: 'building', task_state: 'spawning', task_deadline: textIn(60) };
  const [waiting, forgotten] = [await anInstance(db, task), await anInstance(db, task)];
  await writing(db, (tx) => castJob(tx, aContext(), compute.at('node1').runInstance, { instance_id: waiting }));
  await db
    .updateTable('jobs')
    .set({ attempt: 2, run_after: textIn(8), error: 'busy' })
    .execute();

  assert.match(
    await explain(db, `${waiting}`),
    /Job 1 \(compute.run_instance, attempt 2 of 5\) runs again in 8\.0 s\./,
  );
  assert.match(
    await explain(db, `${forgotten}`),
    /No job is there for it\.\n {4}The sweep in nova-scheduler casts the job again in 1 min\.$/,
  );
});

test('explain knows instances that are gone, by number and uuid, and says which it never knew', async (t) => {
  const time = aClock(t);
  const db = await aDatabase(t);
  const uuid = '00000000-0000-4000-8000-00000000000a';
  await anInstance(db, { uuid, deleted: 1, vm_state: 'deleted', terminated_at: nowText() });
  time.pass(60);

  assert.match(await explain(db, uuid.toUpperCase()), /It was deleted 1 min ago\. Nothing to do\.$/);
  await assert.rejects(explain(db, 'i-00000009'), InstanceNotFound);
  await assert.rejects(explain(db, 'req-0'), NotFound);
});

test('explain tells a request by all that it caused', async (t) => {
  aClock(t);
  const db = await aDatabase(t);
  const ctx = aContext({ request_id: 'req-2' });
  for (const id of [await anInstance(db), await anInstance(db)]) {
    await recordEvent(db, ctx, `instance:${id}`, 'asked for', null);
    await writing(db, (tx) => castJob(tx, ctx, compute.at('node1').runInstance, { instance_id: id }));
  }

  const text = await explain(db, 'req-2');

  for (const id of ['i-00000001', 'i-00000002']) {
    assert.match(text, new RegExp(`api +${id} +asked for`));
    assert.match(text, new RegExp(`compute.run_instance on node1 +${id} +queued`));
  }
});

test('explain tells of a volume and a snapshot what they are, what has them and what they wait for', async (t) => {
  const time = aClock(t);
  const db = await aDatabase(t);
  await aService(db, 'store1', 'volume');
  await aService(db, 'ctl', 'scheduler');
  const held = await aVolume(db, { status: 'in-use', fault: 'the guest did not let go' });
  const instance_id = await anInstance(db);
  await db
    .insertInto('volume_attachments')
    .values({
      volume_id: held,
      instance_id,
      epoch: 1,
      status: 'attached',
      device: '/dev/vdc',
      auth_username: 'user',
      auth_password: 'secretsecret12',
      created_at: nowText(),
    })
    .execute();
  const snapshot_id = await aSnapshot(db, held, { status: 'deleting', task_deadline: textIn(600) });
  const storage = volumeClient(new MemoryBus());
  await writing(db, async (tx) => {
    await recordEvent(tx, aContext(), `volume:${held}`, 'asked for', null);
    await castJob(tx, aContext(), storage.at('store1').deleteSnapshot, { snapshot_id });
  });

  const volume = await explain(db, `volume:${held}`);
  assert.match(volume, /Now\n {4}It is in-use, on store1\.\n {4}Its fault: the guest did not let go\n/);
  assert.match(volume, /It is attached at \/dev\/vdc of i-00000001\.$/);
  time.pass(120);
  assert.match(await explain(db, `volume:${held}`), /nova-volume on store1 is down .*; what is asked of it waits/);
  const snapshot = await explain(db, `snapshot:${snapshot_id}`);
  assert.match(snapshot, /It is deleting, on store1\.\n.*volume\.delete_snapshot, attempt 0 of 20\) is queued\./);
  assert.match(snapshot, /nova-volume on store1 is down \(last report .*\): start it, and the job goes on by itself/);
});
