import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { sleep } from '../../../../src/common/clock.ts';
import { adminContext, type RequestContext } from '../../../../src/common/context.ts';
import { writing, type NovaDb } from '../../../../src/common/db/connect.ts';
import { castJob } from '../../../../src/common/db/jobs.ts';
import {
  BackendUnavailable,
  DatabaseUnavailable,
  InvalidInput,
  RpcTimeout,
  RpcUnavailable,
} from '../../../../src/common/errors.ts';
import { silentLog, type Log } from '../../../../src/common/log.ts';
import { cast, ofInstance, rpcClient, rpcContract } from '../../../../src/common/rpc/contract.ts';
import { JobWorker } from '../../../../src/common/rpc/job_worker.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { aContext, aDatabase } from '../../../builders.ts';
import { later } from '../../../clock.ts';

interface GuestRpc {
  run(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
  end(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
}
const contract = rpcContract<GuestRpc>('guest', {
  run: cast('run', { resource: ofInstance, max_attempts: 2 }),
  end: cast('end', { resource: ofInstance, wins: true }),
});
const client = rpcClient(contract, new MemoryBus());
type Method = (ctx: RequestContext, args: { instance_id: number }) => Promise<void>;

interface Rig {
  db: NovaDb;
  worker: JobWorker;
  failed: string[];
  ask(method: 'run' | 'end', instance_id: number): Promise<number>;
  /** Looks into the table until this job has one of the states. */
  settled(id: number, ...states: string[]): Promise<{ state: string; error: string | null; attempt: number }>;
  /** Until `run` was begun so often. */
  untilBegun(times: number): Promise<void>;
}

async function aWorker(
  t: TestContext,
  methods: { run: Method; end?: Method },
  over: { incarnation?: string; db?: NovaDb; onFailed?: () => Promise<void>; log?: Log; lease_s?: number } = {},
): Promise<Rig> {
  const db = over.db ?? (await aDatabase(t));
  const failed: string[] = [];
  let begun = 0;
  const nothing: Method = async () => undefined;
  const entry = (run: Method, wins: boolean) => ({
    run: (ctx: RequestContext, args: Record<string, unknown>) => run(ctx, args as never),
    wins,
    patience_s: 300,
  });
  const worker = new JobWorker({
    db,
    log: over.log ?? silentLog,
    topic: 'guest',
    host: 'hostA',
    owner: `guest.hostA:${over.incarnation ?? 'one'}`,
    lease_s: over.lease_s ?? 30,
    methods: new Map([
      ['run', entry((ctx, args) => (begun++, methods.run(ctx, args)), false)],
      ['end', entry(methods.end ?? nothing, true)],
    ]),
    onFailed: async (_ctx, method, args, err) => {
      failed.push(`${method} ${String(args['instance_id'])}: ${err.message}`);
      await over.onFailed?.();
    },
    max_concurrent: 4,
    poll_interval_s: 1000,
  });
  t.after(() => worker.stop(0, 5000));
  return {
    db,
    worker,
    failed,
    ask: (method, instance_id) =>
      writing(db, (tx) => castJob(tx, aContext(), client.at('hostA')[method], { instance_id })),
    async untilBegun(times) {
      for (let i = 0; begun < times; i++) {
        if (i > 6000) throw new Error(`run was begun ${begun} times, not ${times}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    async settled(id, ...states) {
      for (let i = 0; i < 6000; i++) {
        const row = await db
          .selectFrom('jobs')
          .select(['state', 'error', 'attempt'])
          .where('id', '=', id)
          .executeTakeFirstOrThrow();
        if (states.includes(row.state)) return row;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      throw new Error(`job ${id} is not ${states.join(' or ')}`);
    },
  };
}

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
  for (const until = Date.now() + 30_000; (await lease()) <= before && Date.now() < until;) await sleep(20);

  assert.ok((await lease()) > before);
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
