import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { givenTwice, leftOver, startWriters } from '../../bench/fixed_ips.ts';
import type { Held } from '../../bench/workers/fixed_ips_writer.ts';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { needs } from '../rigs/needs.ts';
import { startPostgres } from '../rigs/postgres.ts';
import { atEnd, tempDir } from '../rigs/tmp.ts';

/** Allocations, each with its release; `npm run bench -- --only "fixed ips"` does 50,000. */
const ALLOCATIONS = 2000;

async function takeAndGive(t: TestContext, url: string): Promise<void> {
  const db = await connectDb(url);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  const writers = await startWriters(t, db, url);

  const held = (await writers<Held[]>('takeAndGive', ALLOCATIONS)).flat();

  assert.equal(held.length, ALLOCATIONS);
  assert.equal(givenTwice(held), 0, 'given twice');
  assert.equal(await leftOver(db), 0, 'left over');
}

test('SQLite: 64 writers in 4 processes never get the same fixed ip, and nothing is left when all gave theirs back', (t) =>
  takeAndGive(t, `sqlite:///${join(tempDir(t, 'db'), 'nova.sqlite')}`));

test(
  'PostgreSQL: 64 writers in 4 processes never get the same fixed ip, and nothing is left when all gave theirs back',
  { skip: needs('postgres') },
  async (t) => takeAndGive(t, await (await startPostgres(t)).createDatabase()),
);
