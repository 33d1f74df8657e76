import type { Insertable, Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { HostNotFound } from '../errors.ts';
import { changed, writing, type Db, type NovaDb, type Tx } from './connect.ts';
import { sql } from './kysely.ts';
import type { ComputeNodesTable } from './schema.ts';

export interface ComputeHostRow {
  host: string;
  availability_zone: string;
  disabled: number;
  incarnation: string;
  reported_at: string;
  vcpus: number | null;
  vcpus_used: number | null;
  memory_mb: number | null;
  memory_mb_used: number | null;
  local_gb: number | null;
  local_gb_used: number | null;
  fault: string | null;
  fault_since: string | null;
}

/** Every compute service with what its host has and has given away. */
export const computeHosts = (db: Db): Promise<ComputeHostRow[]> =>
  db
    .selectFrom('services')
    .leftJoin('compute_nodes as node', (join) =>
      join.onRef('node.host', '=', 'services.host').on('node.deleted', '=', 0),
    )
    .select((e) => [
      'services.host',
      'services.availability_zone',
      'services.disabled',
      'services.incarnation',
      e.fn.coalesce('services.updated_at', 'services.created_at').as('reported_at'),
      'node.vcpus',
      'node.vcpus_used',
      'node.memory_mb',
      'node.memory_mb_used',
      'node.local_gb',
      'node.local_gb_used',
      'node.fault',
      'node.fault_since',
    ])
    .where('services.topic', '=', 'compute')
    .where('services.deleted', '=', 0)
    .orderBy('services.host')
    .execute();

export interface Claim {
  vcpus: number;
  memory_mb: number;
  local_gb: number;
}

/**
 * Takes capacity of a host if it is still there; in the transaction that places the instance, so that parallel launches
 * cannot both have it. `max_vcpus`: no more placed there, whatever the ratios allow. @returns whether it was
 */
export async function claimCapacity(
  tx: Tx,
  host: string,
  claim: Claim,
  ratios: { cpu: number; ram: number; disk: number },
  { max_vcpus }: { max_vcpus?: number | undefined } = {},
): Promise<boolean> {
  let node = tx
    .updateTable('compute_nodes')
    .set({
      vcpus_used: sql<number>`vcpus_used + ${claim.vcpus}`,
      memory_mb_used: sql<number>`memory_mb_used + ${claim.memory_mb}`,
      local_gb_used: sql<number>`local_gb_used + ${claim.local_gb}`,
      updated_at: nowText(),
    })
    .where('host', '=', host)
    .where('deleted', '=', 0)
    .where(sql<boolean>`vcpus_used + ${claim.vcpus} <= vcpus * ${sql.lit(ratios.cpu)}`)
    .where(sql<boolean>`memory_mb_used + ${claim.memory_mb} <= memory_mb * ${sql.lit(ratios.ram)}`)
    .where(sql<boolean>`local_gb_used + ${claim.local_gb} <= local_gb * ${sql.lit(ratios.disk)}`);
  if (max_vcpus !== undefined) node = node.where(sql<boolean>`vcpus_used + ${claim.vcpus} <= ${max_vcpus}`);
  return changed(await node.executeTakeFirst()) === 1;
}

/** @throws HostNotFound */
export async function computeNodeOf(db: Db, host: string): Promise<Selectable<ComputeNodesTable>> {
  const node = await db
    .selectFrom('compute_nodes')
    .selectAll()
    .where('host', '=', host)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (!node) throw new HostNotFound(`no nova-compute on a host ${host} ever reported what it has`);
  return node;
}

/** Why the hypervisor of a host takes no guests; null: it does. The time of the first failure stays. */
export async function reportHypervisor(db: Db, host: string, fault: string | null): Promise<void> {
  const node = db.updateTable('compute_nodes').where('host', '=', host).where('deleted', '=', 0);
  if (fault === null) await node.set({ fault, fault_since: null }).where('fault', 'is not', null).execute();
  else await node.set((e) => ({ fault, fault_since: e.fn.coalesce('fault_since', e.val(nowText())) })).execute();
}

/** What a host has. */
export type Capacity = Pick<
  Insertable<ComputeNodesTable>,
  'vcpus' | 'memory_mb' | 'local_gb' | 'hypervisor_type' | 'hypervisor_version' | 'cpu_info'
>;

/**
 * Writes what the host has, and counts what its instances claim anew, so that a claim can never drift for longer than a
 * period. The first update locks the row; the count after it sees every claim committed before.
 */
export async function reportCapacity(db: NovaDb, host: string, has: Capacity): Promise<void> {
  const columns = { ...has, updated_at: nowText() };
  await writing(db, async (tx) => {
    const node = tx.updateTable('compute_nodes').set(columns).where('host', '=', host).where('deleted', '=', 0);
    if (changed(await node.executeTakeFirst()) === 0)
      await tx
        .insertInto('compute_nodes')
        .values({ ...columns, host, created_at: nowText() })
        .execute();
    const used = await tx
      .selectFrom('instances')
      .select((e) => [
        e.fn.sum('vcpus').as('vcpus'),
        e.fn.sum('memory_mb').as('memory_mb'),
        e.fn.sum('local_gb').as('local_gb'),
      ])
      .where('host', '=', host)
      .where('deleted', '=', 0)
      .executeTakeFirstOrThrow();
    await tx
      .updateTable('compute_nodes')
      .set({
        vcpus_used: Number(used.vcpus ?? 0),
        memory_mb_used: Number(used.memory_mb ?? 0),
        local_gb_used: Number(used.local_gb ?? 0),
      })
      .where('host', '=', host)
      .where('deleted', '=', 0)
      .execute();
  });
}
