import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { adminContext } from '../../../../src/common/context.ts';
import { writing } from '../../../../src/common/db/connect.ts';
import { castJob } from '../../../../src/common/db/jobs.ts';
import { BackendUnavailable, DatabaseUnavailable, InvalidInput } from '../../../../src/common/errors.ts';
import { type Log } from '../../../../src/common/log.ts';
import { aContext, aDatabase } from '../../../builders.ts';
import { until } from '../../../until.ts';
import { aWorker, client } from './a_worker.ts';

test('a job whose message was lost is found in the table and runs once', async (t) => {
  const ran: number[] = [];
  const rig = await aWorker(t, { run: async (_ctx, { instance_id }) => void ran.push(instance_id) });
  const id = await rig.ask('run', 7);

  await rig.worker.start();
  await rig.worker.offer({ id, resource: 'instance:7', method: 'run' });
  await rig.settled(id, 'done');
  await rig.worker.offer({ id, resource: 'instance:7', method: 'run' }); // the message comes a second time

  assert.deepEqual(ran, [7]);
});

test('jobs of one instance run one after the other, those of others side by side', async (t) => {
  const log: string[] = [];
  const rig = await aWorker(t, {
    run: async (_ctx, { instance_id }) => {
      log.push(`begin ${instance_id}`);
      await new Promise((resolve) => setTimeout(resolve, 30));
      log.push(`end ${instance_id}`);
    },
  });
  const ids = [await rig.ask('run', 1), await rig.ask('run', 1), await rig.ask('run', 2)];

  await rig.worker.start();
  for (const id of ids) await rig.settled(id, 'done');

  const of_one = log.filter((line) => line.endsWith(' 1'));
  assert.deepEqual(of_one, ['begin 1', 'end 1', 'begin 1', 'end 1']);
  assert.ok(log.indexOf('begin 2') < log.indexOf('end 1'));
});

test('a delete aborts what runs on its instance and runs next', async (t) => {
  const log: string[] = [];
  const rig = await aWorker(t, {
    run: (ctx) =>
      new Promise((_, reject) =>
        ctx.signal.addEventListener('abort', () => (log.push('aborted'), reject(ctx.signal.reason as Error))),
      ),
    end: async () => void log.push('ended'),
  });
  const run = await rig.ask('run', 1);
  await rig.worker.start();
  await rig.settled(run, 'running');

  const end = await rig.ask('end', 1);
  await rig.worker.poll();

  assert.equal((await rig.settled(run, 'failed')).error, 'given up for end');
  await rig.settled(end, 'done');
  assert.deepEqual(log, ['aborted', 'ended']);
  assert.deepEqual(rig.failed, []);
});

test('an error that may pass is tried again, and the last attempt fails with the reason', async (t) => {
  const rig = await aWorker(t, { run: () => Promise.reject(new BackendUnavailable('the store is full')) });
  const id = await rig.ask('run', 1);

  await rig.worker.start();
  const row = await rig.settled(id, 'failed');

  assert.equal(row.attempt, 2);
  assert.equal(row.error, 'the store is full');
  assert.deepEqual(rig.failed, ['run 1: the store is full']);
});

test('an error of the request itself fails at once', async (t) => {
  const rig = await aWorker(t, { run: () => Promise.reject(new InvalidInput('the image is empty')) });
  const id = await rig.ask('run', 1);

  await rig.worker.start();

  assert.equal((await rig.settled(id, 'failed')).attempt, 1);
});

test('a failure whose consequences could not be written is seen to again', async (t) => {
  let away = true;
  const onFailed = async () => {
    if (!away) return;
    away = false;
    throw new DatabaseUnavailable('the database is away for now');
  };
  const rig = await aWorker(t, { run: () => Promise.reject(new InvalidInput('the image is empty')) }, { onFailed });
  const id = await rig.ask('run', 1);

  await rig.worker.start();

  assert.deepEqual(await rig.settled(id, 'failed'), { state: 'failed', error: 'the image is empty', attempt: 1 });
  assert.deepEqual(rig.failed, ['run 1: the image is empty', 'run 1: the image is empty']);
});

test('a database that is away is no attempt of the job', async (t) => {
  let outages = 3;
  const run = async () => {
    if (outages-- > 0) throw new DatabaseUnavailable('the database is away for now');
  };
  const rig = await aWorker(t, { run });
  const id = await rig.ask('run', 1);

  await rig.worker.start();

  assert.deepEqual(await rig.settled(id, 'done'), { state: 'done', error: null, attempt: 1 }); // of at most 2
  assert.deepEqual(rig.failed, []);
});

test('a restarted worker takes its own jobs back at once, and no job of another host', async (t) => {
  const db = await aDatabase(t);
  const dead = await aWorker(t, { run: () => new Promise(() => undefined) }, { db });
  const mine = await dead.ask('run', 1);
  const other = await dead.ask('run', 2);
  await db
    .updateTable('jobs')
    .set({ state: 'running', lease_owner: 'guest.hostA:dead', lease_until: '9999' })
    .where('id', '=', mine)
    .execute();
  await db
    .updateTable('jobs')
    .set({ state: 'running', lease_owner: 'guest.hostAB:dead', lease_until: '9999', host: 'hostAB' })
    .where('id', '=', other)
    .execute();

  const ran: number[] = [];
  const alive = await aWorker(
    t,
    { run: async (_ctx, { instance_id }) => void ran.push(instance_id) },
    { db, incarnation: 'two' },
  );
  await alive.worker.start();
  await alive.settled(mine, 'done');

  assert.deepEqual(ran, [1]);
  assert.equal((await alive.settled(other, 'running')).state, 'running');
});

test('a job whose workers died too often fails instead of killing the next one', async (t) => {
  const rig = await aWorker(t, { run: () => Promise.reject(new Error('never reached')) });
  const id = await rig.ask('run', 1);
  await rig.db
    .updateTable('jobs')
    .set({ state: 'running', lease_owner: 'x', lease_until: '2000', attempt: 2 })
    .where('id', '=', id)
    .execute();

  await rig.worker.start();

  assert.match((await rig.settled(id, 'failed')).error ?? '', /given up after 2 attempts: the worker died each time/);
  assert.match(rig.failed[0] ?? '', /given up after 2 attempts/);
});

test('a job that is found after its deadline fails at once, and says so', async (t) => {
  const rig = await aWorker(t, { run: () => Promise.reject(new Error('never reached')) });
  const id = await writing(rig.db, (tx) =>
    castJob(tx, aContext(), client.at('hostA').run, { instance_id: 1 }, { deadline_s: -1 }),
  );

  await rig.worker.start();

  const { error, attempt } = await rig.settled(id, 'failed');
  assert.match(error ?? '', /^not started before its deadline /);
  assert.equal(attempt, 1);
});

test('the lease of a job is renewed while the worker that stops waits for its end', async (t) => {
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const rig = await aWorker(t, { run: () => finished }, { lease_s: 1 });
  const id = await rig.ask('run', 1);
  await rig.worker.start();
  await rig.settled(id, 'running');
  const lease = async () =>
    (await rig.db.selectFrom('jobs').select('lease_until').executeTakeFirstOrThrow()).lease_until ?? '';

  const stopped = rig.worker.stop(600_000, 5000);
  const before = await lease();
  await until('the lease is renewed', async () => (await lease()) > before);

  finish();
  await stopped;
  assert.equal((await rig.settled(id, 'done')).attempt, 1);
});

test('a job that does not heed its abort does not keep the worker from stopping', async (t) => {
  const rig = await aWorker(t, { run: () => new Promise(() => undefined) });
  const id = await rig.ask('run', 1);
  await rig.worker.start();
  await rig.settled(id, 'running');

  await rig.worker.stop(0, 50);
});

test('a job table that is away is told of once, and once more when it is back', async (t) => {
  const told: string[] = [];
  const log: Log = pino(
    { level: 'info' },
    { write: (line: string) => void told.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const rig = await aWorker(t, { run: async () => undefined }, { log });
  await rig.worker.start();
  await rig.worker.poll();

  await rig.db.schema.alterTable('jobs').renameTo('away').execute();
  for (let look = 0; look < 3; look++) await rig.worker.poll();
  await rig.db.schema.alterTable('away').renameTo('jobs').execute();
  for (let look = 0; look < 3; look++) await rig.worker.poll();

  assert.deepEqual(told, ['job table not reached, trying on', 'job table reached again']);
});

test('a transaction that fails leaves no job', async (t) => {
  const rig = await aWorker(t, { run: async () => undefined });

  await assert.rejects(
    writing(rig.db, async (tx) => {
      await castJob(tx, adminContext(), client.at('hostA').run, { instance_id: 1 });
      throw new InvalidInput('second thoughts');
    }),
    InvalidInput,
  );

  assert.deepEqual(await rig.db.selectFrom('jobs').select('id').execute(), []);
});
