import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { clock } from '../../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../../src/common/db/connect.ts';
import { allServices } from '../../../src/common/db/services.ts';
import { Flags } from '../../../src/common/flags.ts';
import { rpcContract } from '../../../src/common/rpc/contract.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { Service } from '../../../src/common/service.ts';
import { later } from '../../clock.ts';
import { needs } from '../../rigs/needs.ts';
import { startPostgres } from '../../rigs/postgres.ts';
import { until } from '../../until.ts';

const skip = needs('postgres', 'initdb');

async function aDatabase(t: TestContext): Promise<NovaDb> {
  const postgres = await startPostgres(t);
  const db = await connectDb(await postgres.createNovaDatabase());
  t.after(() => db.destroy());
  return db;
}

/** @returns `lines`: what it logged of clocks */
async function start(t: TestContext, db: NovaDb, flags: Record<string, unknown> = {}) {
  const lines: string[] = [];
  const stream = { write: (line: string) => void (line.includes('the clock of') && lines.push(line)) };
  const service = await Service.start({
    db,
    bus: new MemoryBus(),
    log: pino({}, stream),
    host: 'node1',
    binary: 'nova-echo',
    flags: Flags.of({ report_interval: 1, ...flags }),
    contract: rpcContract<Record<never, never>>('echo', {}),
    manager: { initHost: async () => undefined, periodicTasks: async () => undefined },
  });
  t.after(() => service.stop());
  return { lines };
}

test(
  "a daemon whose clock is not the database's does not start, and says both times and the remedy",
  { skip },
  async (t) => {
    const db = await aDatabase(t);
    const right = clock.now;

    later(t, -70);
    await assert.rejects(start(t, db), (err: Error) => {
      assert.equal(err.name, 'ClockDiffers');
      const [, mine = '', database = ''] =
        /clock of node1 says (\S+Z), the database's (\S+Z): /.exec(err.message) ?? [];
      assert.ok(Math.abs(Date.parse(database) - Date.parse(mine) - 70_000) < 10_000, err.message);
      assert.match(
        err.message,
        /: \d\d\.\d s behind, .* more than 5 s .* by NTP: install chrony or systemd-timesyncd$/,
      );
      return true;
    });
    assert.deepEqual(await allServices(db), []);

    clock.now = right;
    later(t, 3);
    await assert.rejects(start(t, db, { service_down_time: 8 }), /[23]\.\d s ahead, .* more than 2 s/);
    await start(t, db);
  },
);

test('a clock that goes wrong is told of once, and once more when it is right again', { skip }, async (t) => {
  const db = await aDatabase(t);
  const right = clock.now;
  const { lines } = await start(t, db);
  const reports = async () => (await allServices(db))[0]?.report_count ?? 0;
  const threeReports = async () => {
    const first = await reports();
    await until('there are three more reports', async () => (await reports()) >= first + 3);
  };

  later(t, -70);
  await threeReports();
  assert.equal(lines.length, 1, lines.join('\n'));
  assert.match(lines[0] ?? '', /"level":50.*"fault":"the clock of node1 says .* behind, /);
  clock.now = right;
  await threeReports();
  assert.equal(lines.length, 2, lines.join('\n'));
  assert.match(lines[1] ?? '', /right again/);
  await threeReports();
  assert.equal(lines.length, 2);
});
