import type { NovaDb } from '../src/common/db/connect.ts';
import type { Scope } from '../test/rigs/tmp.ts';
import type { Bench } from './bench.ts';
import { startCloud } from './cloud.ts';
import { figure, interleaved, type Measured } from './figure.ts';
import { seedCloud, seedInstances, seedProject } from './seed.ts';
import type { Ask } from './workers/http_get.ts';
import { WorkerProcess } from './worker_process.ts';

const LISTED = 1000;
const FOREIGN = 100_000;

/** Answers of nova-api beside a bare node:http server that sends the same bytes. */
export const http: Bench = {
  name: 'http',
  async *run(scope, { quick }) {
    const seed = async (db: NovaDb) => {
      await seedCloud(db);
      for (const name of ['empty', 'full']) await seedProject(db, name);
      await seedInstances(db, 'full', LISTED);
    };
    const api = await startCloud(scope, { daemons: ['nova-api'], seed });
    const client = WorkerProcess.start(scope, 'http_client');
    const raw = await startRaw(scope);
    const servers = '/servers/detail';
    const cases = [
      { title: 'openstack, empty', ask: await api.openstack('empty', servers), in_flight: 16, floor: 0.2 },
      { title: 'ec2, empty', ask: api.ec2('empty', 'DescribeInstances'), in_flight: 16, floor: 0.2 },
      { title: 'openstack, 1000', ask: await api.openstack('full', servers), in_flight: 4, floor: 0.6 },
      { title: 'ec2, 1000', ask: api.ec2('full', 'DescribeInstances'), in_flight: 4, floor: 0.3 },
    ];
    const ms = quick ? 500 : 1000;
    for (const { title, ask, in_flight, floor } of cases) {
      const bare = await raw(ask);
      const rate = (of: Ask, for_ms = ms) => client.ask<number>('rate', { asks: [of], in_flight, ms: for_ms });
      await rate(ask, 1500); // warm
      await rate(bare, 500);
      const measured = await interleaved(
        quick ? 3 : 5,
        () => rate(ask),
        () => rate(bare),
      );
      yield figure(`http ${title}, ${in_flight} in flight`, '/s', measured, { of: 'ratio', at_least: floor });
    }
    for (const { title, ask } of cases) {
      const pair = { asks: [ask, await raw(ask)], changing: [api.sql_connection, api.sql_connection] } as const;
      yield figure(`http ${title}, after each change, p50`, 'ms', await p50(client, pair, quick ? 30 : 80));
    }
  },
};

/** @returns what makes of a request one that gets the same bytes from node:http alone */
export async function startRaw(scope: Scope): Promise<(ask: Ask) => Promise<Ask>> {
  const raw = WorkerProcess.start(scope, 'http_raw');
  const origin = await raw.ask<string>('listen');
  let copies = 0;
  return async (ask) => {
    const path = `/${++copies}`;
    await raw.ask('copy', { ask, as: path });
    return { origin, path, headers: ask.headers };
  };
}

async function p50(
  client: WorkerProcess,
  pair: { asks: readonly [Ask, Ask]; changing: readonly [string, string] },
  count: number,
): Promise<Measured> {
  const [value, limit] = await client.ask<[number, number]>('latencies', { ...pair, count });
  return { value, limit };
}

/** The same list with and without a hundred thousand instances of other projects in the database. */
export const foreignRows: Bench = {
  name: 'foreign rows',
  async *run(scope, { quick }) {
    const start = (foreign: number) =>
      startCloud(scope, { daemons: ['nova-api'], seed: (db) => seedForeign(db, foreign) });
    const crowded = await start(FOREIGN);
    const alone = await start(0);
    const client = WorkerProcess.start(scope, 'http_client');
    for (const [user, listed, count] of [
      ['few', 10, 500],
      ['many', LISTED, 100],
    ] as const) {
      const path = '/servers/detail';
      const asks = [await crowded.openstack(user, path), await alone.openstack(user, path)] as const;
      const pair = { asks, changing: [crowded.sql_connection, alone.sql_connection] } as const;
      await p50(client, pair, count / 5); // warm
      const measured = await p50(client, pair, quick ? count / 5 : count);
      yield figure(`list of ${listed} beside 100,000 foreign instances, p50`, 'ms', measured, {
        of: 'ratio',
        at_most: 1.2,
      });
    }
  },
};

/** Half of them before and half after those that are listed. */
async function seedForeign(db: NovaDb, foreign: number): Promise<void> {
  await seedCloud(db);
  for (const [name, count] of [
    ['before', foreign / 2],
    ['few', 10],
    ['many', LISTED],
    ['after', foreign / 2],
  ] as const) {
    await seedProject(db, name);
    if (count > 0) await seedInstances(db, name, count);
  }
}
