import assert from 'node:assert/strict';
import { writing, type Db, type NovaDb } from '../src/common/db/connect.ts';
import { leftoverInstanceIds } from '../src/common/db/fixed_ips.ts';
import { overdueImages, visibleImages } from '../src/common/db/images.ts';
import { viewInstances } from '../src/common/db/instance_views.ts';
import { overdueInstances } from '../src/common/db/instances.ts';
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
import { joinGroup, sourceGroupsOf } from '../src/common/db/security_groups.ts';
import { viewVolumes } from '../src/common/db/volume_views.ts';
import { overdueVolumes } from '../src/common/db/volumes.ts';
import { aContext, anImage, anInstance, aProject, aVolume } from './builders.ts';
import { contractOf, type Database } from './databases.ts';
import { scansOf } from './plans.ts';

const MANY = 20_000;
const KEEPS_DELETED = ['instances', 'volumes', 'images', 'security_group_instance_association'] as const;
const AT = '2011-04-15T00:00:00.000Z';
const LONG_AGO = '2000-01-01T00:00:00.000Z';

const numbers = sql`with recursive numbers(i) as (select 1 union all select i + 1 from numbers where i < ${sql.lit(MANY)})`;

async function manyFinishedJobs(db: NovaDb): Promise<void> {
  await sql`${numbers}
    insert into jobs (request_id, topic, host, method, args, context, resource, state, max_attempts, run_after, created_at, updated_at)
    select 'req-' || i, 'guest', 'node' || (i % 50), 'run', '{}', '{}', 'instance:' || i, 'done', 5, ${sql.lit(AT)},
      ${sql.lit(AT)}, ${sql.lit(AT)} from numbers`.execute(db);
  if (db.dialect === 'postgresql') await sql`analyze jobs`.execute(db);
}

/** Many deleted rows beside the one that is there. */
async function manyDeleted(
  db: NovaDb,
  table: (typeof KEEPS_DELETED)[number],
  over: Record<string, string> = {},
): Promise<void> {
  const { id: _id, ...row } = await db.selectFrom(table).selectAll().executeTakeFirstOrThrow();
  const values: Record<string, string> = { ...over, deleted: '1', deleted_at: `'${AT}'` };
  const columns = Object.keys(row).map((column) => sql.ref(column));
  const copied = Object.keys(row).map((column) => (values[column] ? sql.raw(values[column]) : sql.ref(column)));
  await sql`${numbers} insert into ${sql.table(table)} (${sql.join(columns)})
    select ${sql.join(copied)} from ${sql.table(table)}, numbers`.execute(db);
  if (db.dialect === 'postgresql') await sql`analyze`.execute(db);
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
    'listing queued jobs': (db) => listJobs(db, { state: 'queued' }),
    'listing running jobs': (db) => listJobs(db, { state: 'running' }),
    'listing failed jobs': (db) => listJobs(db, { state: 'failed' }),
  };

  it('no question about jobs goes through those that are over', async (db) => {
    await manyFinishedJobs(db);

    for (const [what, ask] of Object.entries(questions)) assert.deepEqual(await scansOf(db, ['jobs'], ask), [], what);
  });

  it('no question about what is there goes through what is deleted', async (db) => {
    await aProject(db);
    await anImage(db);
    await aVolume(db);
    const id = await anInstance(db);
    await writing(db, (tx) => joinGroup(tx, 1, id));
    await manyDeleted(db, 'instances', { uuid: "uuid || '-' || i" });
    await manyDeleted(db, 'volumes');
    await manyDeleted(db, 'images');
    await manyDeleted(db, 'security_group_instance_association', { instance_id: 'instance_id + i' });
    const [admin, ann] = [aContext({ is_admin: true }), aContext()];

    const asked: Record<string, (on: Db) => Promise<unknown>> = {
      "an admin's list of instances": (on) => viewInstances(on, admin, {}),
      "a user's list of instances": (on) => viewInstances(on, ann, {}),
      "an admin's list of volumes": (on) => viewVolumes(on, admin),
      "a user's list of volumes": (on) => viewVolumes(on, ann),
      "a user's list of images": (on) => visibleImages(on, ann).orderBy('id').execute(),
      'instances past their deadline': (on) => overdueInstances(on, 100),
      'volumes past their deadline': (on) => overdueVolumes(on, 100),
      'images past their deadline': (on) => overdueImages(on, 100),
      'addresses that a dead host left': (on) => leftoverInstanceIds(on, AT),
      'groups of an instance that let others in': (on) => sourceGroupsOf(on, id),
    };
    for (const [what, ask] of Object.entries(asked)) assert.deepEqual(await scansOf(db, KEEPS_DELETED, ask), [], what);
  });
}
