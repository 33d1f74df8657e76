import type { Insertable, Selectable, Updateable } from 'kysely';
import { nowText, textIn } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import { SnapshotBusy, SnapshotNotFound } from '../errors.ts';
import { SNAPSHOT_TASKS, type SnapshotStatus } from '../volume_state.ts';
import { changed, type Db, type Dialect, type Tx } from './connect.ts';
import type { SnapshotsTable } from './schema_volumes.ts';

export type Snapshot = Selectable<SnapshotsTable>;
export type NewSnapshot = Omit<Insertable<SnapshotsTable>, 'created_at' | 'status' | 'progress' | 'task_deadline'>;

/** For people: `snap-0000000a`. */
export const ec2SnapshotId = (id: number): string => `snap-${id.toString(16).padStart(8, '0')}`;

const noSnapshot = (id: number): SnapshotNotFound => new SnapshotNotFound(`there is no snapshot ${ec2SnapshotId(id)}`);

/** A live snapshot, or with `deleted` also one that is gone. @throws SnapshotNotFound */
export async function snapshotById(db: Db, id: number, options: { deleted?: boolean } = {}): Promise<Snapshot> {
  let query = db.selectFrom('snapshots').selectAll().where('id', '=', id);
  if (!options.deleted) query = query.where('deleted', '=', 0);
  return (await query.executeTakeFirst()) ?? Promise.reject(noSnapshot(id));
}

/** The caller's own (an admin's: any), which no other transaction changes before this one ends. @throws SnapshotNotFound */
export async function lockVisibleSnapshot(
  tx: Tx,
  dialect: Dialect,
  ctx: RequestContext,
  id: number,
): Promise<Snapshot> {
  const query = tx.selectFrom('snapshots').selectAll().where('id', '=', id).where('deleted', '=', 0);
  const row = await (dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst(); // SQLite has one writer anyway
  if (!row || (!ctx.is_admin && row.project_id !== ctx.project_id)) throw noSnapshot(id);
  return row;
}

/** The caller's snapshots (an admin's: all), oldest first. */
export function listSnapshots(
  db: Db,
  ctx: RequestContext,
  filter: { ids?: readonly number[]; volume_id?: number } = {},
): Promise<Snapshot[]> {
  let query = db.selectFrom('snapshots').selectAll().where('deleted', '=', 0);
  if (!ctx.is_admin) query = query.where('project_id', '=', ctx.project_id ?? '');
  if (filter.ids) query = query.where('id', 'in', filter.ids.length > 0 ? [...filter.ids] : [-1]);
  if (filter.volume_id !== undefined) query = query.where('volume_id', '=', filter.volume_id);
  return query.orderBy('id').execute();
}

/** A new snapshot in `creating`. @returns its id */
export async function insertSnapshot(tx: Tx, columns: NewSnapshot): Promise<number> {
  const { id } = await tx
    .insertInto('snapshots')
    .values({
      ...columns,
      status: 'creating',
      progress: '0%',
      task_deadline: textIn(SNAPSHOT_TASKS.creating.deadline_s),
      created_at: nowText(),
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

export interface SnapshotMove {
  from: readonly SnapshotStatus[];
  to: Updateable<SnapshotsTable> & { status: SnapshotStatus };
  /** When the sweep looks; without it the status rests. */
  deadline_s?: number;
  /** The move is this host's to make. */
  host?: string;
}

/** The guarded change of status. @throws SnapshotBusy when another won (the snapshot may be gone) */
export async function moveSnapshot(tx: Db, id: number, { from, to, deadline_s, host }: SnapshotMove): Promise<void> {
  let query = tx
    .updateTable('snapshots')
    .set({ ...to, task_deadline: deadline_s === undefined ? null : textIn(deadline_s), updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('status', 'in', [...from]);
  if (host !== undefined) query = query.where('host', '=', host);
  if (changed(await query.executeTakeFirst()) === 1) return;
  const row = await tx.selectFrom('snapshots').selectAll().where('id', '=', id).executeTakeFirst();
  const status = !row ? 'unknown' : row.deleted ? 'deleted' : row.status;
  throw new SnapshotBusy(`${ec2SnapshotId(id)} is ${status}`, { details: { status, host: row?.host } });
}

/** Ends the row's life; a second time changes nothing. */
export async function finishSnapshotDelete(tx: Tx, id: number): Promise<boolean> {
  const now = nowText();
  const result = await tx
    .updateTable('snapshots')
    .set({ deleted: 1, deleted_at: now, updated_at: now, task_deadline: null })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Live snapshots of a volume; with `status` those in it. */
export async function snapshotCount(db: Db, volume_id: number, status?: SnapshotStatus): Promise<number> {
  let query = db.selectFrom('snapshots').select((e) => e.fn.countAll().as('count'));
  query = query.where('volume_id', '=', volume_id).where('deleted', '=', 0);
  if (status !== undefined) query = query.where('status', '=', status);
  return Number((await query.executeTakeFirstOrThrow()).count);
}

/** How many volumes are being made of it now. */
export async function volumesBeingMadeOf(db: Db, snapshot_id: number): Promise<number> {
  const row = await db
    .selectFrom('volumes')
    .select((e) => e.fn.countAll().as('count'))
    .where('snapshot_id', '=', snapshot_id)
    .where('status', '=', 'creating')
    .where('deleted', '=', 0)
    .executeTakeFirstOrThrow();
  return Number(row.count);
}

/** Live rows of a storage host. */
export const snapshotsOfHost = (db: Db, host: string): Promise<Snapshot[]> =>
  db.selectFrom('snapshots').selectAll().where('host', '=', host).where('deleted', '=', 0).orderBy('id').execute();

/** Snapshots whose status ran past its deadline. */
export const overdueSnapshots = (db: Db, limit: number): Promise<Snapshot[]> =>
  db
    .selectFrom('snapshots')
    .selectAll()
    .where('deleted', '=', 0)
    .where('task_deadline', 'is not', null)
    .where('task_deadline', '<', nowText())
    .orderBy('task_deadline')
    .limit(limit)
    .execute();
