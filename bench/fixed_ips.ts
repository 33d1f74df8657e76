import { join } from 'node:path';
import { connectDb, type NovaDb } from '../src/common/db/connect.ts';
import { syncDb } from '../src/common/db/migrate.ts';
import { aNetwork, anInstance } from '../test/builders.ts';
import { startPostgres } from '../test/rigs/postgres.ts';
import { atEnd, tempDir, type Scope } from '../test/rigs/tmp.ts';
import type { Bench } from './bench.ts';
import { figure, interleaved } from './figure.ts';
import type { Held, Open } from './workers/fixed_ips_writer.ts';
import { WorkerProcess } from './worker_process.ts';

const PROCESSES = 4;
const WRITERS = 64;
const CIDR = '10.0.0.0/24';

/** 64 writers in 4 processes take fixed addresses and give them back: how fast, and whether one was given twice or stayed. */
export const fixedIps: readonly Bench[] = [
  fixedIpsOn('sqlite', async (scope) => `sqlite:///${join(tempDir(scope, 'bench'), 'nova.sqlite')}`),
  fixedIpsOn('postgresql', async (scope) => (await startPostgres(scope)).createDatabase()),
];

function fixedIpsOn(name: string, makeDatabase: (scope: Scope) => Promise<string>): Bench {
  return {
    name: `fixed ips, ${name}`,
    async *run(scope, { quick }) {
      const url = await makeDatabase(scope);
      const db = await connectDb(url);
      atEnd(scope, () => db.destroy());
      await syncDb(db);
      const all = await startWriters(scope, db, url);

      const rounds = 5;
      const taken = quick ? 500 : 10_000; // a round; each is an allocation and its release
      const bare = quick ? 1000 : 4000;
      const held: Held[] = [];
      const rate = await interleaved(
        rounds,
        async () => {
          const begin = performance.now();
          const answers = await all<Held[]>('takeAndGive', taken);
          const seconds = (performance.now() - begin) / 1000;
          for (const answer of answers) held.push(...answer);
          return taken / seconds;
        },
        async () => {
          const begin = performance.now();
          await all('insertAndDelete', bare);
          return (bare * 1000) / (performance.now() - begin);
        },
      );
      const title = `fixed ips, ${name}, 64 writers`;
      const none = { of: 'value', at_most: 0 } as const;
      yield figure(`${title}: taken and given back`, '/s', rate);
      yield figure(`${title}: given twice of ${held.length}`, '', { value: givenTwice(held) }, none);
      yield figure(`${title}: left over`, '', { value: await leftOver(db) }, none);
    },
  };
}

/** 64 writers in 4 processes. @returns how to have them share `count` of something */
export async function startWriters(scope: Scope, db: NovaDb, url: string) {
  const network = { id: await aNetwork(db, { cidr: CIDR }), cidr: CIDR };
  const writers: WorkerProcess[] = [];
  for (let process = 0; process < PROCESSES; process++) {
    const instance_ids: number[] = [];
    for (let i = 0; i < WRITERS / PROCESSES; i++) instance_ids.push(await anInstance(db));
    const writer = WorkerProcess.start(scope, 'fixed_ips_writer');
    await writer.ask('open', { url, network, instance_ids } satisfies Open);
    writers.push(writer);
  }
  return <T>(ask: string, count: number): Promise<T[]> =>
    Promise.all(writers.map((writer) => writer.ask<T>(ask, { count: count / PROCESSES })));
}

/** How often. Judged by who held an address when, and not by the table, whose index would not show it. */
export function givenTwice(held: readonly Held[]): number {
  const until = new Map<number, number>();
  let twice = 0;
  for (const [address, from, to] of held.toSorted((a, b) => a[1] - b[1])) {
    const longest = until.get(address) ?? 0;
    if (longest > from) twice++;
    until.set(address, Math.max(longest, to));
  }
  return twice;
}

/** Rows of addresses and cards. */
export async function leftOver(db: NovaDb): Promise<number> {
  let rows = 0;
  for (const table of ['fixed_ips', 'virtual_interfaces'] as const) {
    const { n } = await db
      .selectFrom(table)
      .select((e) => e.fn.countAll().as('n'))
      .executeTakeFirstOrThrow();
    rows += Number(n);
  }
  return rows;
}
