import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { connectDb, type NovaDb } from '../src/common/db/connect.ts';
import { syncDb } from '../src/common/db/migrate.ts';
import { atEnd, tempDir } from './rigs/tmp.ts';

/** One new database, opened as by several processes; the first is enough where nothing happens at once. */
export type Connections = readonly [NovaDb, ...NovaDb[]];

/** A kind of database that a contract is held against. */
export interface Database {
  name: string;
  skip: string | false;
  open(t: TestContext): Promise<Connections>;
}

const PROCESSES = 4;

export const sqliteInMemory: Database = {
  name: 'SQLite in memory',
  skip: false,
  open: (t) => opened(t, ['sqlite://']), // it belongs to its connection
};

export const sqliteFile: Database = {
  name: 'SQLite in a file',
  skip: false,
  open: (t) => opened(t, several(`sqlite:///${join(tempDir(t, 'db'), 'nova.sqlite')}`)),
};

/** @param createDatabase makes an empty database. @returns its URL */
export const postgresql = (createDatabase: () => Promise<string>, skip: string | false): Database => ({
  name: 'PostgreSQL',
  skip,
  open: async (t) => opened(t, several(await createDatabase())),
});

const several = (url: string): string[] => Array.from({ length: PROCESSES }, () => url);

async function opened(t: TestContext, urls: string[]): Promise<Connections> {
  const connections = await Promise.all(urls.map((url) => connectDb(url, { max_connections: 6 })));
  atEnd(t, async () => {
    for (const db of connections) await db.destroy();
  });
  await syncDb(connections[0] as NovaDb);
  return connections as unknown as Connections;
}

/** Declares tests that hold on every database. */
export const contractOf =
  ({ name, skip, open }: Database) =>
  (sentence: string, run: (db: NovaDb, all: Connections, t: TestContext) => Promise<void>): void =>
    void test(`${name}: ${sentence}`, { skip }, async (t) => {
      const all = await open(t);
      await run(all[0], all, t);
    });

/** Runs `work` so many times at once, spread over the connections. @returns what each came to, in order */
export const atOnce = <T>(
  all: Connections,
  times: number,
  work: (db: NovaDb, i: number) => Promise<T>,
): Promise<PromiseSettledResult<T>[]> =>
  Promise.allSettled(Array.from({ length: times }, (_, i) => work(all[i % all.length] as NovaDb, i)));

/** Values of those that succeeded. @throws the first error that is not of `allowed` */
export function succeeded<T>(
  results: readonly PromiseSettledResult<T>[],
  ...allowed: (new (...args: never[]) => Error)[]
): T[] {
  return results.flatMap((result) => {
    if (result.status === 'fulfilled') return [result.value];
    if (allowed.some((Kind) => result.reason instanceof Kind)) return [];
    throw result.reason;
  });
}
