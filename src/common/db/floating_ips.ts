import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import {
  Aborted,
  Conflict,
  FloatingIpInUse,
  FloatingIpLimitExceeded,
  FloatingIpNotFound,
  InstanceBusy,
  InvalidInput,
  NoMoreFloatingIps,
  NotAuthorized,
} from '../errors.ts';
import { changed, lockProject, type Db, type Dialect, type Tx } from './connect.ts';
import { ec2InstanceId, lockInstance } from './instances.ts';
import { sql } from './kysely.ts';
import type { FixedIpsTable, FloatingIpsTable } from './schema.ts';

/**
 * Floating addresses. Every move is a guarded update of one row:
 *
 *   free ──allocate──> the project's ──associate──> leads to a fixed ip (associate again: to another)
 *   free <──release─── the project's <──disassociate, or the fixed ip is given back
 *
 * An association is void when its fixed ip is not allocated any more, so no rule can outlive what it led to.
 */
export type FloatingIp = Selectable<FloatingIpsTable>;

/** An address, and what it leads to. */
export interface FloatingIpView {
  id: number;
  address: string;
  /** Null: free. */
  project_id: string | null;
  auto_assigned: number;
  /** The row it leads to, and that row's address; null when it leads nowhere. */
  fixed_ip_id: number | null;
  fixed_address: string | null;
  instance_id: number | null;
  instance_uuid: string | null;
  /** Whose nova-network answers for it; null when it leads nowhere or the network has no host. */
  host: string | null;
}

/** A bound `deleted = ?` does not match the partial index. */
const live = sql<boolean>`f.deleted = 0`;

const views = (db: Db) =>
  db
    .selectFrom('floating_ips as f')
    .leftJoin('fixed_ips as ip', (join) => join.onRef('ip.id', '=', 'f.fixed_ip_id').on('ip.allocated', '=', 1))
    .leftJoin('networks as n', 'n.id', 'ip.network_id')
    .leftJoin('instances as i', 'i.id', 'ip.instance_id')
    .select(['f.id', 'f.address', 'f.project_id', 'f.auto_assigned', 'ip.id as fixed_ip_id'])
    .select(['ip.address as fixed_address', 'ip.instance_id', 'i.uuid as instance_uuid'])
    .select(sql<string | null>`case when n.multi_host = 1 then ip.host else n.host end`.as('host'))
    .where(live);

export interface FloatingIpFilter {
  /** Only those that belong to some project. */
  allocated?: boolean;
  project_id?: string;
  instance_id?: number;
  fixed_address?: string;
  /** Those that this host answers for. */
  host?: string;
}

/** In order of the addresses. */
export async function listFloatingIps(db: Db, filter: FloatingIpFilter = {}): Promise<FloatingIpView[]> {
  let query = views(db).orderBy('f.address_number');
  if (filter.allocated) query = query.where('f.project_id', 'is not', null);
  if (filter.project_id !== undefined) query = query.where('f.project_id', '=', filter.project_id);
  if (filter.instance_id !== undefined) query = query.where('ip.instance_id', '=', filter.instance_id);
  if (filter.fixed_address !== undefined) query = query.where('ip.address', '=', filter.fixed_address);
  if (filter.host !== undefined) query = query.where('ip.id', 'is not', null);
  const rows = await query.execute();
  return filter.host === undefined ? rows : rows.filter(({ host }) => host === filter.host);
}

/** Of a fixed ip with several floating ones the oldest comes first: guests' own traffic leaves with it. */
export async function floatingIpsOfHost(db: Db, host: string): Promise<{ address: string; fixed: string }[]> {
  const rows = await views(db)
    .where('ip.id', 'is not', null)
    .where((e) =>
      e.or([
        e.and([e('n.multi_host', '=', 0), e('n.host', '=', host)]),
        e.and([e('n.multi_host', '=', 1), e('ip.host', '=', host)]),
      ]),
    )
    .orderBy('f.id')
    .execute();
  return rows.map(({ address, fixed_address }) => ({ address, fixed: fixed_address ?? '' }));
}

/** The caller's own (an admin's: any), by address or id. @throws FloatingIpNotFound */
export async function visibleFloatingIp(db: Db, ctx: RequestContext, of: string | number): Promise<FloatingIpView> {
  let query = views(db).where('f.project_id', 'is not', null);
  query = typeof of === 'number' ? query.where('f.id', '=', of) : query.where('f.address', '=', of);
  if (!ctx.is_admin) query = query.where('f.project_id', '=', ctx.project_id ?? '');
  const row = await query.executeTakeFirst();
  if (row) return row;
  const what = typeof of === 'number' ? `eipalloc-${of.toString(16).padStart(8, '0')}` : of;
  throw new FloatingIpNotFound(`project ${ctx.project_id ?? '-'} has no floating ip ${what}`);
}

/**
 * Gives a free address to a project.
 * @param limit how many it may have; null is unlimited
 * @throws FloatingIpLimitExceeded, NoMoreFloatingIps, ProjectNotFound
 */
export async function allocateFloatingIp(
  tx: Tx,
  dialect: Dialect,
  { project_id, limit, auto_assigned = 0 }: { project_id: string; limit: number | null; auto_assigned?: number },
): Promise<{ id: number; address: string }> {
  await lockProject(tx, dialect, project_id); // from here to the commit nobody else counts
  const { used } = await tx
    .selectFrom('floating_ips as f')
    .select((e) => e.fn.countAll().as('used'))
    .where('f.project_id', '=', project_id)
    .where(live)
    .executeTakeFirstOrThrow();
  if (limit !== null && Number(used) >= limit)
    throw new FloatingIpLimitExceeded(
      `project ${project_id} has ${Number(used)} floating ips and may have ${limit}: release one, or have the quota raised (nova-manage project quota ${project_id} floating_ips N)`,
    );
  for (;;) {
    const query = tx
      .selectFrom('floating_ips as f')
      .select(['f.id', 'f.address'])
      .where('f.project_id', 'is', null)
      .where(live)
      .orderBy('f.id')
      .limit(1);
    // PostgreSQL: past rows that other writers are about to take, instead of waiting for each in turn.
    const free = await (dialect === 'sqlite' ? query : query.forUpdate().skipLocked()).executeTakeFirst();
    if (!free)
      throw new NoMoreFloatingIps(
        'no floating ip is free: an operator adds some by nova-manage floating create 203.0.113.0/28, or a project releases one',
      );
    const claim = await tx
      .updateTable('floating_ips as f')
      .set({ project_id, fixed_ip_id: null, auto_assigned, updated_at: nowText() })
      .where('f.id', '=', free.id)
      .where('f.project_id', 'is', null)
      .where(live)
      .executeTakeFirst();
    if (changed(claim) === 1) return free;
  }
}

/** Gives an address back to the pool. @throws FloatingIpNotFound, FloatingIpInUse while it leads to an instance */
export async function releaseFloatingIp(
  tx: Tx,
  dialect: Dialect,
  ctx: RequestContext,
  of: string | number,
): Promise<FloatingIpView> {
  const row = await lockVisible(tx, dialect, ctx, of);
  if (row.fixed_ip_id !== null) throw inUse(row);
  await tx
    .updateTable('floating_ips')
    .set({ project_id: null, fixed_ip_id: null, auto_assigned: 0, updated_at: nowText() })
    .where('id', '=', row.id)
    .where('project_id', '=', row.project_id)
    .execute();
  return row;
}

/** As it is once no other transaction changes it before this one ends. @throws FloatingIpNotFound */
async function lockVisible(
  tx: Tx,
  dialect: Dialect,
  ctx: RequestContext,
  of: string | number,
): Promise<FloatingIpView> {
  const { id } = await visibleFloatingIp(tx, ctx, of);
  if (dialect === 'sqlite') return visibleFloatingIp(tx, ctx, id);
  await tx.selectFrom('floating_ips').select('id').where('id', '=', id).forUpdate().execute();
  return visibleFloatingIp(tx, ctx, id);
}

const inUse = ({ address, instance_id }: FloatingIpView): FloatingIpInUse =>
  new FloatingIpInUse(
    `floating ip ${address} leads to ${instance_id === null ? 'a fixed ip' : ec2InstanceId(instance_id)}: disassociate it first`,
  );

export interface AssociateOptions {
  /** Default: the instance's first. */
  fixed_address?: string;
  /** Take it from another fixed ip that it leads to; default true. */
  move?: boolean;
}

/**
 * Leads an address to an instance; what it led to before loses it. Twice is once.
 * @returns the address before and after
 * @throws FloatingIpNotFound, FloatingIpInUse, InstanceBusy for an instance without an address, NotAuthorized when they
 * are of different projects
 */
export async function associateFloatingIp(
  tx: Tx,
  dialect: Dialect,
  ctx: RequestContext,
  of: string | number,
  instance_id: number,
  { fixed_address, move = true }: AssociateOptions = {},
): Promise<{ before: FloatingIpView; after: FloatingIpView }> {
  const instance = await lockInstance(tx, dialect, instance_id);
  const name = ec2InstanceId(instance_id);
  if (!instance || instance.task_state === 'deleting') throw new InstanceBusy(`${name} is being deleted`);
  const fixed = await lockFixedIp(tx, dialect, instance_id, fixed_address);
  if (!fixed)
    throw fixed_address === undefined
      ? new InstanceBusy(
          `${name} has no fixed ip yet that a floating ip could lead to (${instance.task_state ?? instance.vm_state})`,
        )
      : new InvalidInput(`${name} has no fixed ip ${fixed_address}`);
  const before = await lockVisible(tx, dialect, ctx, of);
  if (before.project_id !== instance.project_id)
    throw new NotAuthorized(
      `floating ip ${before.address} is project ${before.project_id}'s and ${name} is ${instance.project_id}'s`,
    );
  if (before.fixed_ip_id === fixed.id) return { before, after: before };
  if (before.fixed_ip_id !== null && !move) throw inUse(before);
  const result = await tx
    .updateTable('floating_ips')
    .set({ fixed_ip_id: fixed.id, auto_assigned: 0, updated_at: nowText() })
    .where('id', '=', before.id)
    .where('project_id', '=', instance.project_id)
    .executeTakeFirst();
  if (changed(result) === 0) throw new Conflict(`floating ip ${before.address} was released just now`);
  return { before, after: await visibleFloatingIp(tx, ctx, before.id) };
}

/** The row stays allocated until the transaction ends. */
async function lockFixedIp(tx: Tx, dialect: Dialect, instance_id: number, address: string | undefined) {
  let query = tx
    .selectFrom('fixed_ips')
    .select(['id', 'address'])
    .where('instance_id', '=', instance_id)
    .where('allocated', '=', 1)
    .orderBy('id')
    .limit(1);
  if (address !== undefined) query = query.where('address', '=', address);
  const row: Pick<Selectable<FixedIpsTable>, 'id' | 'address'> | undefined = await (
    dialect === 'sqlite' ? query : query.forUpdate()
  ).executeTakeFirst();
  return row;
}

/**
 * It leads nowhere after this; that it did not before is success.
 * @returns the address as it was. @throws FloatingIpNotFound; FloatingIpInUse when it leads to another than `instance_id`
 */
export async function disassociateFloatingIp(
  tx: Tx,
  dialect: Dialect,
  ctx: RequestContext,
  of: string | number,
  instance_id?: number,
): Promise<FloatingIpView> {
  const before = await lockVisible(tx, dialect, ctx, of);
  if (instance_id !== undefined && before.instance_id !== instance_id)
    throw new Conflict(`floating ip ${before.address} does not lead to ${ec2InstanceId(instance_id)}`);
  await tx
    .updateTable('floating_ips')
    .set({ fixed_ip_id: null, auto_assigned: 0, updated_at: nowText() })
    .where('id', '=', before.id)
    .where('project_id', '=', before.project_id)
    .execute();
  return before;
}

/**
 * --auto_assign_floating_ip: an address of its own for a new instance, which goes back to the pool with it. One that has
 * an address keeps it. @throws FloatingIpLimitExceeded, NoMoreFloatingIps; Aborted when it is being deleted
 */
export async function autoAssignFloatingIp(
  tx: Tx,
  dialect: Dialect,
  instance_id: number,
  limit: (project_id: string) => Promise<number | null>,
): Promise<string | null> {
  const instance = await lockInstance(tx, dialect, instance_id);
  const fixed = await lockFixedIp(tx, dialect, instance_id, undefined);
  if (!instance || instance.task_state === 'deleting' || !fixed)
    throw new Aborted(`no floating ip for ${ec2InstanceId(instance_id)}: it is being deleted`);
  const has = await tx
    .selectFrom('floating_ips')
    .select('address')
    .where('fixed_ip_id', '=', fixed.id)
    .executeTakeFirst();
  if (has) return null;
  const { project_id } = instance;
  const given = await allocateFloatingIp(tx, dialect, { project_id, limit: await limit(project_id), auto_assigned: 1 });
  await tx.updateTable('floating_ips').set({ fixed_ip_id: fixed.id }).where('id', '=', given.id).execute();
  return given.address;
}
