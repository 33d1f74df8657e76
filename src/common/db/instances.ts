import { randomUUID } from 'node:crypto';
import type { Insertable, Selectable, Updateable } from 'kysely';
import { nowText, textIn } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import { InstanceBusy, InstanceNotFound } from '../errors.ts';
import { launchFailed } from '../instance_state.ts';
import { changed, type Db, type Dialect, type Tx } from './connect.ts';
import { endAssociationsOfInstance } from './floating_associations.ts';
import { sql } from './kysely.ts';
import { ec2InstanceId } from './instance_names.ts';
import type { InstancesTable } from './schema.ts';
import { endAttachmentsOfInstance, type EndedAttachment } from './volume_attachments.ts';

export type Instance = Selectable<InstancesTable>;
export type NewInstance = Insertable<InstancesTable>;

export { ec2InstanceId };

/** A live instance, or with `deleted` also one that is gone. @throws InstanceNotFound */
export async function instanceById(db: Db, id: number, options: { deleted?: boolean } = {}): Promise<Instance> {
  let query = db.selectFrom('instances').selectAll().where('id', '=', id);
  if (!options.deleted) query = query.where('deleted', '=', 0);
  const row = await query.executeTakeFirst();
  if (!row) throw new InstanceNotFound(`there is no instance ${ec2InstanceId(id)}`);
  return row;
}

/** Of an instance that lives or lived. */
export const instanceIdOf = async (db: Db, uuid: string): Promise<number | undefined> =>
  (await db.selectFrom('instances').select('id').where('uuid', '=', uuid).executeTakeFirst())?.id;

/** The caller's own (an admin's: any) by number or uuid. @throws InstanceNotFound */
export async function visibleInstance(db: Db, ctx: RequestContext, id: number | string): Promise<Instance> {
  let query = db.selectFrom('instances').selectAll().where('deleted', '=', 0);
  query = typeof id === 'number' ? query.where('id', '=', id) : query.where('uuid', '=', id);
  if (!ctx.is_admin) query = query.where('project_id', '=', ctx.project_id ?? '');
  const row = await query.executeTakeFirst();
  if (!row) throw new InstanceNotFound(`there is no instance ${typeof id === 'number' ? ec2InstanceId(id) : id}`);
  return row;
}

/** RFC 1123 label from the display name; `server-12` when nothing is left of it. Source: Nova 2011.3 compute/api.py. */
export function hostnameOf(display_name: string, id: number): string {
  const label = display_name
    .toLowerCase()
    .replace(/[ _]/g, '-')
    .replace(/[^a-z0-9-]/g, '')
    .replace(/^-+|-+$/g, '')
    .slice(0, 63);
  return label === '' ? `server-${id}` : label;
}

/**
 * A new instance in `building/scheduling` with its groups and metadata. Without a display name it is `Server <id>`.
 * @returns its id
 */
export async function insertInstance(
  tx: Tx,
  security_group_ids: readonly number[],
  metadata: Readonly<Record<string, string>>,
  display_name: string | undefined,
  columns: Omit<NewInstance, 'uuid' | 'hostname' | 'display_name' | 'vm_state' | 'task_state' | 'created_at'>,
): Promise<number> {
  const created_at = nowText();
  const row = { ...columns, uuid: randomUUID(), vm_state: 'building', task_state: 'scheduling', created_at };
  const { id } = await tx
    .insertInto('instances')
    .values({ ...row, display_name: display_name ?? '', hostname: '' })
    .returning('id')
    .executeTakeFirstOrThrow();
  const name = display_name ?? `Server ${id}`;
  await tx
    .updateTable('instances')
    .set({ hostname: hostnameOf(name, id), display_name: name })
    .where('id', '=', id)
    .execute();
  const links = security_group_ids.map((security_group_id) => ({ security_group_id, instance_id: id, created_at }));
  if (links.length > 0) await tx.insertInto('security_group_instance_association').values(links).execute();
  const pairs = Object.entries(metadata).map(([key, value]) => ({ instance_id: id, key, value, created_at }));
  if (pairs.length > 0) await tx.insertInto('instance_metadata').values(pairs).execute();
  return id;
}

/** The live row, which no other transaction changes before this one ends. */
export async function lockInstance(tx: Tx, dialect: Dialect, id: number): Promise<Instance | undefined> {
  const query = tx.selectFrom('instances').selectAll().where('id', '=', id).where('deleted', '=', 0);
  return (dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst(); // SQLite has one writer anyway
}

/** A task_state under way has its deadline; none has none. */
export interface Move {
  /** task_states to start from; null is none under way. */
  from: readonly (string | null)[];
  to: Updateable<InstancesTable> & { task_state: string | null };
  /** Seconds until the sweep looks; needed with a task_state. */
  deadline_s?: number;
  /** The move is this host's to make. */
  host?: string;
  /** The row as it was read: nothing of it was written since. */
  read?: Pick<Instance, 'updated_at'>;
}

/** The guarded change of state. @throws InstanceBusy when another state won (the instance may be gone) */
export async function moveInstance(tx: Db, id: number, { from, to, deadline_s, host, read }: Move): Promise<void> {
  const names = from.filter((state) => state !== null);
  let query = tx
    .updateTable('instances')
    .set({
      ...to,
      task_deadline: to.task_state === null ? null : textIn(deadline_s ?? 300),
      updated_at: nowText(),
    })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where((e) =>
      e.or([
        ...(names.length > 0 ? [e('task_state', 'in', names)] : []),
        ...(from.includes(null) ? [e('task_state', 'is', null)] : []),
      ]),
    );
  if (host !== undefined) query = query.where('host', '=', host);
  if (read !== undefined) query = query.where('updated_at', read.updated_at === null ? 'is' : '=', read.updated_at);
  if (changed(await query.executeTakeFirst()) === 1) return;
  const row = await tx.selectFrom('instances').selectAll().where('id', '=', id).executeTakeFirst();
  const state = !row ? 'unknown' : row.deleted ? 'deleted' : `${row.vm_state}/${row.task_state ?? 'idle'}`;
  throw new InstanceBusy(`${ec2InstanceId(id)} is ${state}`, { details: { state, host: row?.host } });
}

/**
 * Ends the row's life, gives its claim on the host back and ends its attachments, in one transaction.
 * @returns those, for tellStorage (volume/rpc.ts); undefined when it was deleted before: nothing changed
 */
export async function finishDelete(tx: Tx, instance: Instance): Promise<EndedAttachment[] | undefined> {
  const now = nowText();
  const result = await tx
    .updateTable('instances')
    .set({
      deleted: 1,
      deleted_at: now,
      terminated_at: now,
      updated_at: now,
      vm_state: 'deleted',
      task_state: null,
      task_deadline: null,
    })
    .where('id', '=', instance.id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(result) === 0) return undefined;
  await tx
    .updateTable('instance_metadata')
    .set({ deleted: 1, deleted_at: now })
    .where('instance_id', '=', instance.id)
    .where('deleted', '=', 0)
    .execute();
  await tx
    .updateTable('security_group_instance_association')
    .set({ deleted: 1, deleted_at: now })
    .where('instance_id', '=', instance.id)
    .where('deleted', '=', 0)
    .execute();
  await endAssociationsOfInstance(tx, instance.id);
  await releaseClaim(tx, instance);
  // Of a launch that failed, too, when the host that was to give its volumes back is slower than this, or is down.
  return endAttachmentsOfInstance(tx, instance.id, launchFailed(instance) ? 'launch failed' : 'terminated');
}

/** Gives what the scheduler claimed for this instance back to its host. */
export async function releaseClaim(
  tx: Tx,
  instance: Pick<Instance, 'host' | 'vcpus' | 'memory_mb' | 'local_gb'>,
): Promise<void> {
  if (instance.host === null) return;
  await tx
    .updateTable('compute_nodes')
    .set({
      vcpus_used: sql<number>`vcpus_used - ${instance.vcpus}`,
      memory_mb_used: sql<number>`memory_mb_used - ${instance.memory_mb}`,
      local_gb_used: sql<number>`local_gb_used - ${instance.local_gb}`,
      updated_at: nowText(),
    })
    .where('host', '=', instance.host)
    .where('deleted', '=', 0)
    .execute();
}

/** Live rows of a host. */
export const instancesOfHost = (db: Db, host: string): Promise<Instance[]> =>
  db.selectFrom('instances').selectAll().where('host', '=', host).where('deleted', '=', 0).execute();

/** Launches in error that still have what they took of a host. */
export const failedLaunchesOfHost = (db: Db, host: string): Promise<Instance[]> =>
  db
    .selectFrom('instances')
    .selectAll()
    .where('host', '=', host)
    .where('vm_state', '=', 'error')
    .where('task_state', 'is', null)
    .where('deleted', '=', 0)
    .execute();

/** Live usage of a project, counted now. */
export async function instanceUsage(
  db: Db,
  project_id: string,
): Promise<{ instances: number; cores: number; ram: number }> {
  const row = await db
    .selectFrom('instances')
    .select((e) => [e.fn.countAll().as('instances'), e.fn.sum('vcpus').as('cores'), e.fn.sum('memory_mb').as('ram')])
    .where('project_id', '=', project_id)
    .where('deleted', '=', 0)
    .executeTakeFirstOrThrow();
  return { instances: Number(row.instances), cores: Number(row.cores ?? 0), ram: Number(row.ram ?? 0) };
}

/** Instances whose task ran past its deadline. */
export const overdueInstances = (db: Db, limit: number): Promise<Instance[]> =>
  db
    .selectFrom('instances')
    .selectAll()
    .where('deleted', '=', 0)
    .where('task_deadline', 'is not', null)
    .where('task_deadline', '<', nowText())
    .orderBy('task_deadline')
    .limit(limit)
    .execute();
