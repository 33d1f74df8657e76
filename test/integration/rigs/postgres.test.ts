import assert from 'node:assert/strict';
import test from 'node:test';
import { Client } from 'pg';
import { needs } from '../../rigs/needs.ts';
import { startLan } from '../../rigs/netns.ts';
import { startPostgres } from '../../rigs/postgres.ts';
import { assertLeavesNothing } from './leftovers.ts';

const skip = needs('postgres', 'initdb');

async function query(connectionString: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString });
  try {
    await client.connect();
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
  }
}

test(
  'PostgreSQL gives databases of their own, keeps them over a crash, and leaves nothing behind',
  { skip },
  async () => {
    await assertLeavesNothing(async (scope) => {
      const postgres = await startPostgres(scope);
      const [a, b] = [await postgres.createDatabase(), await postgres.createDatabase()];
      await query(a, 'CREATE TABLE t AS SELECT 7 AS n');

      await postgres.kill();
      await assert.rejects(query(a, 'SELECT 1'), /ECONNREFUSED/);
      await postgres.start();

      assert.deepEqual(await query(a, 'SELECT n FROM t'), [{ n: 7 }]);
      await assert.rejects(query(b, 'SELECT n FROM t'), /does not exist/);
    });
  },
);

test('PostgreSQL in a host answers over its network', { skip: needs('root') || skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const lan = await startLan(scope, ['db']);
    const postgres = await startPostgres(scope, { host: lan.hosts[0]! });
    assert.match(postgres.url, /@198\.18\./);

    await postgres.restart();

    assert.deepEqual(await query(postgres.url, 'SELECT 1 AS one'), [{ one: 1 }]);
  });
});
