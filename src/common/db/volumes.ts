import type { Insertable, Selectable, Updateable } from 'kysely';
import { nowText, textIn } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import { VolumeBusy, VolumeNotFound } from '../errors.ts';
import type { VolumeStatus } from '../volume_state.ts';
import { changed, type Db, type Dialect, type Tx } from './connect.ts';
import { sql } from './kysely.ts';
import type { VolumesTable } from './schema_volumes.ts';

export type Volume = Selectable<VolumesTable>;
export type NewVolume = Omit<Insertable<VolumesTable>, 'created_at' | 'status' | 'epoch'>;

/** For people: `vol-0000000a`. */
export const ec2VolumeId = (id: number): string => `vol-${id.toString(16).padStart(8, '0')}`;
/** The id in it, or undefined for what is no volume's. */
export const volumeIdOf = (name: string): number | undefined => {
  const digits = /^vol-([0-9a-f]{8})$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
};

/** A live volume, or with `deleted` also one that is gone. @throws VolumeNotFound */
export async function volumeById(db: Db, id: number, options: { deleted?: boolean } = {}): Promise<Volume> {
  let query = db.selectFrom('volumes').selectAll().where('id', '=', id);
  if (!options.deleted) query = query.where('deleted', '=', 0);
  const row = await query.executeTakeFirst();
  if (!row) throw new VolumeNotFound(`there is no volume ${ec2VolumeId(id)}`);
  return row;
}

/** The volume that this token stood for before, be it gone since. */
export const volumeByToken = (tx: Tx, project_id: string, client_token: string) =>
  tx
    .selectFrom('volumes')
    .select(['id', 'request_hash'])
    .where('project_id', '=', project_id)
    .where('client_token', '=', client_token)
    .executeTakeFirst();

/**
 * The caller's own (an admin's: any), which no other transaction changes before this one ends. @throws VolumeNotFound
 */
export async function lockVisibleVolume(tx: Tx, dialect: Dialect, ctx: RequestContext, id: number): Promise<Volume> {
  const row = await lockVolume(tx, dialect, id);
  if (!row || (!ctx.is_admin && row.project_id !== ctx.project_id))
    throw new VolumeNotFound(`there is no volume ${ec2VolumeId(id)}`);
  return row;
}

/** The live row, which no other transaction changes before this one ends. */
export async function lockVolume(tx: Tx, dialect: Dialect, id: number): Promise<Volume | undefined> {
  const query = tx.selectFrom('volumes').selectAll().where('id', '=', id).where('deleted', '=', 0);
  return (dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst(); // SQLite has one writer anyway
}

/** A new volume in `creating`. @returns its id */
export async function insertVolume(
  tx: Tx,
  columns: NewVolume,
  metadata: Readonly<Record<string, string>>,
): Promise<number> {
  const created_at = nowText();
  const { id } = await tx
    .insertInto('volumes')
    .values({ ...columns, status: 'creating', created_at })
    .returning('id')
    .executeTakeFirstOrThrow();
  const pairs = Object.entries(metadata).map(([key, value]) => ({ volume_id: id, key, value, created_at }));
  if (pairs.length > 0) await tx.insertInto('volume_metadata').values(pairs).execute();
  return id;
}

/** What is left out stays; the caller holds the row. */
export async function renameVolume(
  tx: Tx,
  id: number,
  names: { display_name?: string; display_description?: string },
): Promise<void> {
  await tx
    .updateTable('volumes')
    .set({ ...names, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .execute();
}

export interface VolumeMove {
  from: readonly VolumeStatus[];
  to: Updateable<VolumesTable> & { status: VolumeStatus };
  /** When the sweep looks; without it the status rests. */
  deadline_s?: number;
  /** The move is this host's to make; null: while it has no host. */
  host?: string | null;
  /** One more attachment: what earlier ones may do ends with their number. */
  next_epoch?: boolean;
}

/** The guarded change of status. @throws VolumeBusy when another won (the volume may be gone) */
export async function moveVolume(tx: Db, id: number, move: VolumeMove): Promise<void> {
  const { from, to, deadline_s, host, next_epoch } = move;
  let query = tx
    .updateTable('volumes')
    .set({ ...to, task_deadline: deadline_s === undefined ? null : textIn(deadline_s), updated_at: nowText() })
    .$if(next_epoch === true, (q) => q.set({ epoch: sql<number>`epoch + 1` }))
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('status', 'in', [...from]);
  if (host !== undefined) query = host === null ? query.where('host', 'is', null) : query.where('host', '=', host);
  if (changed(await query.executeTakeFirst()) === 1) return;
  const row = await tx.selectFrom('volumes').selectAll().where('id', '=', id).executeTakeFirst();
  const status = !row ? 'unknown' : row.deleted ? 'deleted' : row.status;
  throw new VolumeBusy(`${ec2VolumeId(id)} is ${status}`, { details: { status, host: row?.host } });
}

/** Ends the row's life and gives its target number back; a second time changes nothing. */
export async function finishVolumeDelete(tx: Tx, id: number): Promise<boolean> {
  const now = nowText();
  const result = await tx
    .updateTable('volumes')
    .set({ deleted: 1, deleted_at: now, updated_at: now, task_deadline: null })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(result) === 0) return false;
  await tx
    .updateTable('volume_metadata')
    .set({ deleted: 1, deleted_at: now })
    .where('volume_id', '=', id)
    .where('deleted', '=', 0)
    .execute();
  await tx.deleteFrom('iscsi_targets').where('volume_id', '=', id).execute();
  return true;
}

/** Live rows of a storage host. */
export const volumesOfHost = (db: Db, host: string): Promise<Volume[]> =>
  db.selectFrom('volumes').selectAll().where('host', '=', host).where('deleted', '=', 0).orderBy('id').execute();

/** Live usage of a project, counted now. */
export async function volumeUsage(db: Db, project_id: string): Promise<{ volumes: number; gigabytes: number }> {
  const row = await db
    .selectFrom('volumes')
    .select((e) => [e.fn.countAll().as('volumes'), e.fn.sum('size').as('gigabytes')])
    .where('project_id', '=', project_id)
    .where('deleted', '=', 0)
    .executeTakeFirstOrThrow();
  return { volumes: Number(row.volumes), gigabytes: Number(row.gigabytes ?? 0) };
}

/** Volumes whose status ran past its deadline. */
export const overdueVolumes = (db: Db, limit: number): Promise<Volume[]> =>
  db
    .selectFrom('volumes')
    .selectAll()
    .where('deleted', '=', 0)
    .where('task_deadline', 'is not', null)
    .where('task_deadline', '<', nowText())
    .orderBy('task_deadline')
    .limit(limit)
    .execute();
