import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Client } from 'pg';
import { sql } from '../../../../src/common/db/kysely.ts';
import { sleep } from '../../../../src/common/clock.ts';
import { connectDb, writing, type Db, type NovaDb } from '../../../../src/common/db/connect.ts';
import { syncDb } from '../../../../src/common/db/migrate.ts';
import { DatabaseUnavailable } from '../../../../src/common/errors.ts';
import { execute } from '../../../../src/common/execute.ts';
import { aProject } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { startPostgres } from '../../../rigs/postgres.ts';
import { atEnd, tempDir } from '../../../rigs/tmp.ts';
import { until } from '../../../until.ts';

const users = (db: NovaDb) => db.selectFrom('users').select('id').execute();
const away = {
  name: 'DatabaseUnavailable',
  http_status: 503,
  message: /^the database is away for now \(.+\); try again/,
};

test(
  'a PostgreSQL that stops under queries and transactions fails them in words, and serves again when it is back',
  { skip: needs('postgres') },
  async (t) => {
    const postgres = await startPostgres(t);
    const db = await connectDb(await postgres.createNovaDatabase());
    atEnd(t, () => db.destroy());
    await aProject(db);

    const query = assert.rejects(sql`select pg_sleep(30)`.execute(db), away);
    const between_queries = assert.rejects(
      writing(db, async (tx) => {
        await users(db);
        await sleep(1500); // a transaction that has nothing under way when its connection breaks
        await tx.updateTable('users').set({ name: 'x' }).execute();
      }),
      away,
    );
    await sleep(500);
    await postgres.stop();
    await Promise.all([query, between_queries]);
    await assert.rejects(users(db), { ...away, message: /connection refused/ });

    await postgres.start();
    assert.equal((await users(db)).length, 1);
    await writing(db, (tx) => tx.updateTable('users').set({ name: 'y' }).execute());
  },
);

test(
  'a query that times out ends its PostgreSQL connection: nothing of its transaction stays, and later writes are kept',
  { skip: needs('postgres') },
  async (t) => {
    const url = await (await startPostgres(t)).createNovaDatabase();
    const db = await connectDb(url, { max_connections: 1, query_timeout_ms: 1000 });
    const other = await connectDb(url);
    atEnd(t, async () => void (await Promise.all([db.destroy(), other.destroy()])));
    await aProject(db, 'one', 'ann');
    await aProject(db, 'two', 'bob');
    const rename = (on: Db, id: string, name: string) =>
      on.updateTable('projects').set({ name }).where('id', '=', id).execute();
    const names = async () =>
      (await other.selectFrom('projects').select('name').orderBy('id').execute()).map((p) => p.name);
    const atWork = async () => {
      const of_others = sql<{ state: string }>`select state from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`;
      return (await of_others.execute(other)).rows;
    };

    const queries = t.mock.method(Client.prototype, 'query');
    await writing(other, async (tx) => {
      await rename(tx, 'two', 'theirs');
      const half = writing(db, async (mine) => {
        await rename(mine, 'one', 'half');
        await rename(mine, 'two', 'half'); // waits for the other transaction's lock
      });
      await assert.rejects(half, away);
      const ended = await Promise.allSettled(queries.mock.calls.map(({ result }) => result as unknown));
      const late = ended.filter((one) => one.status === 'rejected' && /read timeout/.test(String(one.reason)));
      assert.equal(late.length, 1, 'the rollback does not wait for a timeout of its own');
    });
    await until('the server has seen that we hung up', async () => (await atWork()).length === 0);
    assert.deepEqual(await names(), ['one', 'theirs']);

    await rename(db, 'one', 'kept');
    assert.deepEqual(await names(), ['kept', 'theirs']);
    await writing(db, (tx) => rename(tx, 'two', 'kept'));
    assert.deepEqual(await names(), ['kept', 'kept']);
  },
);

test(
  'a statement that PostgreSQL has prepared fails in words when its table has changed, and is prepared anew',
  { skip: needs('postgres') },
  async (t) => {
    const db = await connectDb(await (await startPostgres(t)).createNovaDatabase(), { max_connections: 1 });
    atEnd(t, () => db.destroy());
    await aProject(db, 'one', 'ann');
    const project = () => db.selectFrom('projects').selectAll().where('id', '=', 'one').executeTakeFirst();
    const prepared = async () =>
      (await sql`select 1 from pg_prepared_statements where statement like '%from "projects" where%'`.execute(db)).rows;

    for (let i = 0; i < 10; i++) await project();
    assert.equal((await prepared()).length, 1);
    await sql`alter table projects add column more text`.execute(db);

    await assert.rejects(project(), away);
    assert.equal((await project())?.id, 'one');
  },
);

test(
  'SQLite on a full disk refuses writes in words, reads on, and writes again when there is space',
  { skip: needs('root', 'mount', 'umount') },
  async (t) => {
    const dir = tempDir(t);
    await execute(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', dir]);
    atEnd(t, async () => void (await execute(['umount', dir])));
    const db = await connectDb(`sqlite:///${join(dir, 'nova.sqlite')}`);
    atEnd(t, () => db.destroy());
    await syncDb(db);
    await aProject(db);
    await execute(['sh', '-c', `cat /dev/zero >${dir}/ballast || true`]);

    // Some fit into what is allocated already; of those that do not, none leaves the handle in a transaction.
    const note = (i: number) =>
      writing(db, (tx) =>
        tx
          .insertInto('events')
          .values({ request_id: `req-${i}`, resource: 'x', event: 'y'.repeat(5000), at: 'z', details: '{}' })
          .execute(),
      );
    const ended = await Promise.allSettled(Array.from({ length: 200 }, (_, i) => note(i)));
    const refused = ended.filter((one) => one.status === 'rejected').map((one) => one.reason as Error);
    assert.ok(refused.length > 0);
    for (const err of refused) {
      assert.ok(err instanceof DatabaseUnavailable, String(err));
      assert.match(err.message, /its disk is full/);
    }
    assert.equal((await users(db)).length, 1);

    await execute(['rm', `${dir}/ballast`]);
    await note(1000);
    const rows = await db.selectFrom('events').select('request_id').execute();
    assert.equal(rows.length, ended.length - refused.length + 1, 'what was refused is not there, what was not is');
  },
);

test('a database file that another process holds for a while is waited for', { skip: needs('python3') }, async (t) => {
  const file = join(tempDir(t), 'nova.sqlite');
  const db = await connectDb(`sqlite:///${file}`);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  const hold = `import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('begin exclusive'); print('held', flush=True); time.sleep(2); c.execute('commit')`;
  const holder = execute(['/usr/bin/python3', '-c', hold, file]);
  await sleep(1000);

  await aProject(db); // waits

  assert.equal((await users(db)).length, 1);
  await holder;
});
