import assert from 'node:assert/strict';
import type { Db, NovaDb } from '../src/common/db/connect.ts';
import {
  claimableJobs,
  claimJob,
  hasOpenJob,
  jobUnderWay,
  listJobs,
  openJobs,
  purgeJobs,
  renewLeases,
  retryJob,
  settleJob,
  takeBackJobs,
  type Worker,
} from '../src/common/db/jobs.ts';
import { sql } from '../src/common/db/kysely.ts';
import { contractOf, type Database } from './databases.ts';
import { scansOf } from './plans.ts';

const MANY = 20_000;
const AT = '2011-04-15T00:00:00.000Z';
const LONG_AGO = '2000-01-01T00:00:00.000Z';

async function manyJobs(db: NovaDb, state: string, count = MANY): Promise<void> {
  await sql`with recursive numbers(i) as (select 1 union all select i + 1 from numbers where i < ${sql.lit(count)})
    insert into jobs (request_id, topic, host, method, args, context, resource, state, max_attempts, run_after, created_at, updated_at)
    select 'req-' || i, 'guest', 'node' || (i % 50), 'run', '{}', '{}', 'instance:' || i, ${sql.lit(state)}, 5, ${sql.lit(AT)},
      ${sql.lit(AT)}, ${sql.lit(AT)} from numbers`.execute(db);
  if (db.dialect === 'postgresql') await sql`analyze jobs`.execute(db);
}

/** What grows without bound is not gone through by what is asked again and again; on every database. */
export function plansContract(database: Database): void {
  const it = contractOf(database);
  const worker: Worker = { topic: 'guest', host: 'node1', owner: 'guest.node1:1', lease_s: 30 };
  const questions: Record<string, (db: Db) => Promise<unknown>> = {
    'looking for work': (db) => claimableJobs(db, worker, 200),
    'claiming a job': (db) => claimJob(db, worker, 7),
    'ending a job': (db) => settleJob(db, worker, 7, { state: 'done', error: null }),
    'renewing leases': (db) => renewLeases(db, worker, [7, 8]),
    'taking back jobs': (db) => takeBackJobs(db, worker),
    'asking for open work': (db) => hasOpenJob(db, 'instance:7'),
    'listing open work': (db) => openJobs(db, 'instance:7'),
    'finding a job under way': (db) => jobUnderWay(db, 'instance:7', 'run'),
    'throwing old jobs away': (db) => purgeJobs(db, LONG_AGO),
    'letting a job run again': (db) => retryJob(db, 7),
    'listing jobs of a resource': (db) => listJobs(db, { resource: 'instance:7' }),
    'listing jobs of a request': (db) => listJobs(db, { request_id: 'req-7' }),
  };

  it('no question about jobs goes through those that are over', async (db) => {
    await manyJobs(db, 'done');

    for (const [what, ask] of Object.entries(questions)) assert.deepEqual(await scansOf(db, ask), [], what);
  });
}
