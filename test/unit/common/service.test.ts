import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { sleep } from '../../../src/common/clock.ts';
import type { RequestContext } from '../../../src/common/context.ts';
import { writing, type NovaDb } from '../../../src/common/db/connect.ts';
import { castJob } from '../../../src/common/db/jobs.ts';
import { DatabaseUnavailable, FlagMismatch, NotFound, RpcUnavailable } from '../../../src/common/errors.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog, type Log } from '../../../src/common/log.ts';
import type { Manager } from '../../../src/common/manager.ts';
import { call, cast, rpcClient, rpcContract } from '../../../src/common/rpc/contract.ts';
import type { Handler } from '../../../src/common/rpc/bus.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { publishCasts, Service } from '../../../src/common/service.ts';
import { aContext, aDatabase } from '../../builders.ts';
import { until } from '../../until.ts';

interface EchoRpc {
  echo(ctx: RequestContext, args: { word: string }): Promise<string>;
  note(ctx: RequestContext, args: { word: string }): Promise<void>;
}
const contract = rpcContract<EchoRpc>('echo', { echo: call('echo_word'), note: cast('note_word') });

class EchoManager implements EchoRpc, Manager {
  readonly notes: string[] = [];
  letGo: () => void = () => undefined;
  readonly #let_go = new Promise<void>((resolve) => (this.letGo = resolve));
  /** Of the periods to come, one each. */
  failures = ['the first period goes wrong'];
  readonly initHost: () => Promise<void>;
  constructor(initHost = async (): Promise<void> => undefined) {
    this.initHost = initHost;
  }
  async periodicTasks(): Promise<void> {
    const failure = this.failures.shift();
    if (failure !== undefined) throw new Error(failure);
  }
  async echo(ctx: RequestContext, { word }: { word: string }): Promise<string> {
    if (word === 'for long') await sleep(60_000, ctx.signal);
    return `${ctx.user_id} said ${word}`;
  }
  async note(ctx: RequestContext, { word }: { word: string }): Promise<void> {
    if (word === 'for long') await sleep(60_000, ctx.signal);
    if (word === 'until it is let go') await this.#let_go;
    this.notes.push(word);
  }
  /** Not in the contract, so out of the queue's reach. */
  async secret(): Promise<string> {
    return 'never';
  }
}

async function start(
  t: TestContext,
  over: {
    db?: NovaDb;
    bus?: MemoryBus;
    host?: string;
    binary?: string;
    flags?: Record<string, unknown>;
    log?: Log;
    initHost?: () => Promise<void>;
  } = {},
) {
  const db = over.db ?? (await aDatabase(t));
  const bus = over.bus ?? new MemoryBus();
  const manager = new EchoManager(over.initHost);
  publishCasts(db, bus, silentLog);
  const service = await Service.start({
    db,
    bus,
    log: over.log ?? silentLog,
    host: over.host ?? 'node1',
    binary: over.binary ?? 'nova-echo',
    flags: Flags.of({ report_interval: 1, periodic_interval: 1, ...over.flags }),
    contract,
    manager,
    agree: ['network_manager'],
  });
  let stopped = false;
  const stop = async () => {
    if (!stopped) await service.stop();
    stopped = true;
  };
  t.after(stop);
  return { db, bus, manager, stop, echo: rpcClient(contract, bus) };
}

const serviceRow = (db: NovaDb) => db.selectFrom('services').selectAll().executeTakeFirstOrThrow();

test('a service answers its contract by the wire names, and nothing else of its manager', async (t) => {
  const { echo, bus } = await start(t);

  assert.equal(await echo.at('node1').echo(aContext(), { word: 'hello' }), 'ann said hello');
  for (const method of ['secret', 'initHost', 'constructor'])
    await assert.rejects(bus.call({ topic: 'echo', host: null }, { method, args: {}, context: aContext() }), NotFound);
});

test('a database that goes away during the start is waited for, as long as --sql_max_retries says', async (t) => {
  let outages = 2;
  const initHost = async () => {
    if (outages-- > 0) throw new DatabaseUnavailable('away', { details: { reason: 'refused', remedy: 'start it' } });
  };
  const { echo } = await start(t, { initHost, flags: { sql_max_retries: 2, sql_retry_interval: 0 } });
  assert.equal(await echo.at('node1').echo(aContext(), { word: 'here' }), 'ann said here');

  outages = 2;
  await assert.rejects(
    start(t, { initHost, flags: { sql_max_retries: 1, sql_retry_interval: 0 } }),
    /--sql_connection=sqlite:.*: refused .*; start it/,
  );
  assert.equal(outages, 0);
});

test('a cast of a committed transaction reaches the manager', async (t) => {
  const { db, echo, manager } = await start(t);

  await writing(db, (tx) => castJob(tx, aContext(), echo.note, { word: 'kept' }));

  await until('noted', () => manager.notes.length === 1);
  await until('done', async () => (await db.selectFrom('jobs').select('state').executeTakeFirst())?.state === 'done');
});

test('the message of a job is answered at once, however long the job takes', async (t) => {
  const bus = new MemoryBus();
  let answered = 0;
  t.mock.method(bus, 'consume', (topic: string, host: string, handler: Handler) =>
    MemoryBus.prototype.consume.call(bus, topic, host, (message) => {
      const answer = handler(message);
      if (message.job_id !== undefined) void answer.then(() => answered++);
      return answer;
    }),
  );
  const flags = { job_poll_interval: 1000, graceful_stop_timeout: 0 };
  const { db, echo, manager } = await start(t, { bus, flags });

  await writing(db, (tx) => castJob(tx, aContext(), echo.note, { word: 'until it is let go' }));
  await until('its message is answered', () => answered === 1);

  assert.deepEqual(manager.notes, []);
  manager.letGo();
  await until('noted', () => manager.notes.length === 1);
});

test('a job that outlives --graceful_stop_timeout is given up and put back for the next start', async (t) => {
  const { db, echo, stop } = await start(t, { flags: { graceful_stop_timeout: 0 } });
  const job = () => db.selectFrom('jobs').select(['state', 'attempt', 'lease_owner']).executeTakeFirst();
  await writing(db, (tx) => castJob(tx, aContext(), echo.note, { word: 'for long' }));
  await until('it runs', async () => (await job())?.state === 'running');

  await stop();

  assert.deepEqual(await job(), { state: 'queued', attempt: 0, lease_owner: null });
});

test('a service that stops is signed off while its jobs end, and goes on reporting without a word of error', async (t) => {
  const told: string[] = [];
  const log: Log = pino(
    { level: 'warn' },
    { write: (line: string) => void told.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const { db, echo, stop, manager } = await start(t, { log, flags: { graceful_stop_timeout: 600 } });
  await until('the period that goes wrong', () => told.includes('periodic work failed'));
  told.length = 0;
  await writing(db, (tx) => castJob(tx, aContext(), echo.note, { word: 'until it is let go' }));
  await until(
    'it runs',
    async () => (await db.selectFrom('jobs').select('state').executeTakeFirst())?.state === 'running',
  );

  const stopped = stop();
  await until('signed off', async () => (await serviceRow(db)).incarnation === '');
  const { report_count } = await serviceRow(db);
  await until('two more reports', async () => (await serviceRow(db)).report_count > report_count + 1);
  manager.letGo();
  await stopped;

  assert.equal((await serviceRow(db)).incarnation, '');
  assert.deepEqual(manager.notes, ['until it is let go']);
  assert.deepEqual(told, []);
});

test('a call that a stopping service gives up is one to ask again, and does not end the job of who asks', async (t) => {
  const { bus, stop } = await start(t, { flags: { graceful_stop_timeout: 0 } });
  const asked = bus.call(
    { topic: 'echo', host: 'node1' },
    { method: 'echo_word', args: { word: 'for long' }, context: aContext() },
  );
  const told = assert.rejects(asked, (err: unknown) => {
    assert.ok(err instanceof RpcUnavailable);
    assert.match(err.message, /^nova-echo on node1 stopped before echo_word was done$/);
    return true;
  });

  await stop();

  await told;
});

test('the heartbeat counts reports, and makes the row again when somebody deleted it', async (t) => {
  const { db } = await start(t);
  assert.deepEqual(
    (({ host, binary, topic, report_count, disabled }) => ({ host, binary, topic, report_count, disabled }))(
      await serviceRow(db),
    ),
    {
      host: 'node1',
      binary: 'nova-echo',
      topic: 'echo',
      report_count: 0,
      disabled: 0,
    },
  );

  await until('a report', async () => (await serviceRow(db)).report_count > 0);
  await db.deleteFrom('services').execute();
  await until('the row again', async () => (await db.selectFrom('services').select('id').execute()).length === 1);
});

test('a restart takes the same row over, and a stopped service is down at once', async (t) => {
  const first = await start(t);
  await first.db.updateTable('services').set({ disabled: 1 }).execute();
  const before = await serviceRow(first.db);

  await first.stop();
  assert.equal((await serviceRow(first.db)).incarnation, '');
  await start(t, { db: first.db });

  const after = await serviceRow(first.db);
  assert.equal(after.id, before.id);
  assert.equal(after.disabled, 1);
  assert.notEqual(after.incarnation, before.incarnation);
});

test('new services start disabled where the operator wants to look at them first', async (t) => {
  const { db } = await start(t, { flags: { enable_new_services: false } });

  assert.equal((await serviceRow(db)).disabled, 1);
});

test('an exception in periodic tasks does not stop later runs; it is told once, and so is the next one', async (t) => {
  const told: string[] = [];
  const tell = (line: string) => {
    const { msg, err } = JSON.parse(line) as { msg: string; err?: { message: string } };
    if (msg.startsWith('periodic work')) told.push(err?.message ?? msg);
  };
  const { manager } = await start(t, { log: pino({}, { write: tell }) });
  manager.failures = ['no disk', 'no disk', 'no network'];

  await until('a period goes well', () => told.includes('periodic work goes on'));
  assert.deepEqual(told, ['no disk', 'no network', 'periodic work goes on']);
});

test('a service whose network manager differs from a live one refuses to start, naming both values and hosts', async (t) => {
  const flat = 'nova.network.manager.FlatManager';
  const dhcp = 'nova.network.manager.FlatDHCPManager';
  const first = await start(t, { binary: 'nova-network', flags: { network_manager: flat } });
  const other = { db: first.db, bus: first.bus, host: 'node2', binary: 'nova-compute' };

  await assert.rejects(start(t, { ...other, flags: { network_manager: dhcp } }), (err: unknown) => {
    assert.ok(err instanceof FlagMismatch);
    for (const word of [flat, dhcp, 'node1', 'node2', 'nova-network', 'nova-compute'])
      assert.ok(err.message.includes(word), `names ${word}`);
    return true;
  });
  await start(t, { ...other, flags: { network_manager: dhcp, ignore_flag_mismatch: true } });
});

test('after the others stopped in order, the network manager may be another one', async (t) => {
  const first = await start(t, {
    binary: 'nova-network',
    flags: { network_manager: 'nova.network.manager.FlatManager' },
  });
  await first.stop();

  await start(t, { db: first.db, host: 'node2', flags: { network_manager: 'nova.network.manager.FlatDHCPManager' } });
});
