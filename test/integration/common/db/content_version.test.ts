import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connectDb, writing } from '../../../../src/common/db/connect.ts';
import { contentVersion } from '../../../../src/common/db/content_version.ts';
import { syncDb } from '../../../../src/common/db/migrate.ts';
import { anInstance } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { startPostgres } from '../../../rigs/postgres.ts';
import { tempDir } from '../../../rigs/tmp.ts';

const skip = needs('postgres', 'initdb');
const postgres = skip ? undefined : await startPostgres({ after });

for (const [where, url, skipped] of [
  ['SQLite in memory', async () => 'sqlite://', false],
  ['a SQLite file', async () => `sqlite:///${join(tempDir({ after }, 'version'), 'nova.sqlite')}`, false],
  ['PostgreSQL', async () => (await postgres?.createDatabase()) ?? '', skip],
] as const)
  test(`every commit changes the version of ${where}, and nothing else does`, { skip: skipped }, async (t) => {
    const given = await url();
    const db = await connectDb(given);
    t.after(() => db.destroy());
    await syncDb(db);
    const version = contentVersion(db);
    const seen = [await version()];
    const changes = async () => {
      const now = await version();
      const is_new = !seen.includes(now);
      seen.push(now);
      return is_new;
    };

    await db.selectFrom('instances').selectAll().execute();
    assert.equal(await changes(), false, 'a look');
    const id = await anInstance(db);
    assert.equal(await changes(), true, 'one statement');
    await writing(db, async (tx) => {
      await tx.updateTable('instances').set({ task_state: 'x' }).where('id', '=', id).execute();
      await tx.updateTable('instances').set({ vm_state: 'y' }).where('id', '=', id).execute();
    });
    assert.equal(await changes(), true, 'a transaction');
    assert.equal(await changes(), false, 'another look');
    if (given === 'sqlite://') return;
    const other = await connectDb(given);
    t.after(() => other.destroy());
    await anInstance(other);
    assert.equal(await changes(), true, 'another process');
  });

test('a PostgreSQL transaction that commits late changes the version again', { skip }, async (t) => {
  const db = await connectDb((await postgres?.createDatabase()) ?? '');
  t.after(() => db.destroy());
  await syncDb(db);
  const version = contentVersion(db);
  const before = await version();
  let during = '';

  await writing(db, async (tx) => {
    await anInstance(tx as unknown as typeof db);
    await anInstance(db); // commits first, with the later number
    during = await version();
  });

  assert.equal(new Set([before, during, await version()]).size, 3);
});
