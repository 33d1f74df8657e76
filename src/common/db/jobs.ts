import type { Selectable } from 'kysely';
import { nowText, textIn } from '../clock.ts';
import { contextToWire, type RequestContext } from '../context.ts';
import type { RpcMethod } from '../rpc/contract.ts';
import { changed, publishAfterCommit, type Db, type Tx } from './connect.ts';
import { sql } from './kysely.ts';
import type { JobsTable } from './schema.ts';

export type Job = Selectable<JobsTable>;
export const JOB_STATES = ['queued', 'running', 'done', 'failed'] as const;
export type JobState = (typeof JOB_STATES)[number];

/** In the words of the partial indexes: SQLite does not see that a list of bound values says the same. */
const IS_OPEN = sql<boolean>`state in ('queued', 'running')`;
const IS_OVER = sql<boolean>`state in ('done', 'failed')`;

/** Not the caller's now, which may be later than the worker's. */
const AT_ONCE = '1970-01-01T00:00:00.000Z';

/** Asks for work, in the transaction of the state change that wants it; the message goes out after the commit. @returns job id */
export async function castJob<A>(
  tx: Tx,
  ctx: RequestContext,
  method: RpcMethod<A, void>,
  args: A,
  options: { deadline_s?: number; run_after_s?: number } = {},
): Promise<number> {
  const { spec, target } = method;
  if (spec.kind !== 'cast') throw new Error(`${target.topic}.${spec.wire} is a call, not a cast`);
  const now = nowText();
  const resource = spec.resource ? spec.resource(args as never) : null;
  const { id } = await tx
    .insertInto('jobs')
    .values({
      request_id: ctx.request_id,
      topic: target.topic,
      host: target.host,
      method: spec.wire,
      args: JSON.stringify(args),
      context: JSON.stringify(contextToWire(ctx)),
      project_id: ctx.project_id,
      resource,
      state: 'queued',
      max_attempts: spec.max_attempts,
      run_after: options.run_after_s === undefined ? AT_ONCE : textIn(options.run_after_s),
      deadline: options.deadline_s === undefined ? null : textIn(options.deadline_s),
      created_at: now,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  if (options.run_after_s === undefined)
    publishAfterCommit(tx, {
      job_id: id,
      ...target,
      method: spec.wire,
      args: args as Record<string, unknown>,
      context: ctx,
    });
  return id;
}

export interface Worker {
  topic: string;
  host: string;
  /** `<topic>.<host>:<incarnation>` */
  owner: string;
  lease_s: number;
}

export interface JobHead {
  id: number;
  resource: string | null;
  method: string;
}

/**
 * What this worker may run now, oldest first: queued, or running under a lease that ran out. Finished jobs are kept for days
 * and are not looked at: each part is in the words of its partial index, of which an OR over them would use none.
 */
export async function claimableJobs(db: Db, worker: Worker, limit: number): Promise<JobHead[]> {
  const now = nowText();
  const ofTopic = () => db.selectFrom('jobs').select(['id', 'resource', 'method']).where('topic', '=', worker.topic);
  const queued = (host: string | null) =>
    ofTopic()
      .where('host', host === null ? 'is' : '=', host)
      .where('state', '=', sql.lit('queued'))
      .where('run_after', '<=', now)
      .orderBy('id')
      .limit(limit);
  const left = ofTopic()
    .where((e) => e.or([e('host', 'is', null), e('host', '=', worker.host)]))
    .where('state', '=', sql.lit('running'))
    .where('lease_owner', 'is not', null)
    .where('lease_until', '<', now);
  const heads = await db
    .selectFrom(queued(null).as('of_any_host'))
    .selectAll()
    .unionAll(db.selectFrom(queued(worker.host).as('of_this_host')).selectAll())
    .unionAll(left) // which an order over all three would send through the whole table, by its key
    .execute();
  return heads.sort((a, b) => a.id - b.id).slice(0, limit);
}

/** The guarded update that makes the job ours; undefined when another has it, had it, or may not have it yet. */
export async function claimJob(db: Db, worker: Worker, id: number): Promise<Job | undefined> {
  const now = nowText();
  return db
    .updateTable('jobs')
    .set({
      state: 'running',
      lease_owner: worker.owner,
      lease_until: textIn(worker.lease_s),
      attempt: sql<number>`attempt + 1`,
      updated_at: now,
    })
    .where('id', '=', id)
    .where('topic', '=', worker.topic)
    .where((e) => e.or([e('host', 'is', null), e('host', '=', worker.host)]))
    .where((e) =>
      e.or([
        e.and([e('state', '=', 'queued'), e('run_after', '<=', now)]),
        e.and([e('state', '=', 'running'), e('lease_until', '<', now)]),
      ]),
    )
    .returningAll()
    .executeTakeFirst();
}

/** Ends or puts back a job that is still ours. @returns false when the lease was lost meanwhile */
export async function settleJob(
  db: Db,
  worker: Worker,
  id: number,
  to:
    | { state: 'done' | 'failed'; error: string | null }
    | { state: 'queued'; error: string | null; run_after: string; attempt?: number; away_since?: string },
): Promise<boolean> {
  const result = await db
    .updateTable('jobs')
    .set({ away_since: null, ...to, lease_owner: null, lease_until: null, updated_at: nowText() })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .where('lease_owner', '=', worker.owner)
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Of what the worker is at now: a job that it lost sight of must come to its lease's end. */
export async function renewLeases(db: Db, worker: Worker, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await db
    .updateTable('jobs')
    .set({ lease_until: textIn(worker.lease_s) })
    .where('id', 'in', [...ids])
    .where('lease_owner', '=', worker.owner)
    .where('state', '=', 'running')
    .execute();
}

/** After so long a silence of whoever runs a job, its patience with those that do not answer begins anew. */
export const NOBODY_ASKED_S = 60;

/** Jobs of this host's former incarnations are free at once: those processes are dead. @returns how many */
export async function takeBackJobs(db: Db, worker: Worker): Promise<number> {
  const silent = textIn(worker.lease_s - NOBODY_ASKED_S); // its lease was renewed until then
  const prefix = `${worker.topic}.${worker.host}:`;
  const result = await db
    .updateTable('jobs')
    .set({
      away_since: sql<string | null>`case when lease_until < ${silent} then null else away_since end`,
      state: 'queued',
      lease_owner: null,
      lease_until: null,
      run_after: nowText(),
    })
    .where('state', '=', sql.lit('running'))
    .where('lease_owner', 'is not', null)
    .where(sql<boolean>`substr(lease_owner, 1, ${sql.lit(prefix.length)}) = ${prefix}`)
    .where('lease_owner', '!=', worker.owner)
    .executeTakeFirst();
  return changed(result);
}

/** Whether work on a resource waits or is under way. */
export async function hasOpenJob(db: Db, resource: string): Promise<boolean> {
  const open = db.selectFrom('jobs').select('id').where('resource', '=', resource);
  return (await open.where(IS_OPEN).executeTakeFirst()) !== undefined;
}

/** Old rows of finished jobs go; what happened stays in `events`. */
export async function purgeJobs(db: Db, older_than: string): Promise<void> {
  await db.deleteFrom('jobs').where(IS_OVER).where('updated_at', '<', older_than).execute();
}

/**
 * Newest first. Each state is in the words of its partial index: those that are open are chosen before the order, which
 * would send SQLite through the whole table. Done is nearly every job, so the newest are found without one.
 */
export function listJobs(
  db: Db,
  filter: {
    state?: JobState | undefined;
    resource?: string | undefined;
    request_id?: string | undefined;
    limit?: number;
  },
): Promise<Job[]> {
  let query = db.selectFrom('jobs').selectAll();
  for (const column of ['resource', 'request_id'] as const)
    if (filter[column] !== undefined) query = query.where(column, '=', filter[column]);
  const { state } = filter;
  if (state === 'queued' || state === 'running')
    query = query.where('id', 'in', db.selectFrom('jobs').select('id').where('state', '=', sql.lit(state)));
  else if (state !== undefined) query = query.where('state', '=', sql.lit(state));
  return query
    .orderBy('id', 'desc')
    .limit(filter.limit ?? 1000)
    .execute();
}

export const jobById = (db: Db, id: number): Promise<Job | undefined> =>
  db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst();

/** What waits or runs on a resource, oldest first. */
export const openJobs = (db: Db, resource: string): Promise<Job[]> =>
  db.selectFrom('jobs').selectAll().where('resource', '=', resource).where(IS_OPEN).orderBy('id').execute();

/** A job of this method (wire name) on the resource that waits or runs. */
export const jobUnderWay = (db: Db, resource: string, method: string): Promise<Job | undefined> =>
  db
    .selectFrom('jobs')
    .selectAll()
    .where('resource', '=', resource)
    .where('method', '=', method)
    .where(IS_OPEN)
    .executeTakeFirst();

/** Lets a failed job run once more from its first attempt, without a deadline. @returns false when it is not failed now */
export async function retryJob(db: Db, id: number): Promise<boolean> {
  const now = nowText();
  const result = await db
    .updateTable('jobs')
    .set({ state: 'queued', attempt: 0, run_after: now, deadline: null, updated_at: now })
    .where('id', '=', id)
    .where('state', '=', 'failed')
    .executeTakeFirst();
  return changed(result) === 1;
}
