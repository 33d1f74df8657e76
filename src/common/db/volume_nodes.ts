import type { Insertable } from 'kysely';
import { nowText } from '../clock.ts';
import { changed, writing, type Db, type NovaDb, type Tx } from './connect.ts';
import type { VolumeNodesTable } from './schema_volumes.ts';

/** A storage host as the scheduler sees it. */
export interface VolumeHostRow {
  host: string;
  availability_zone: string;
  disabled: number;
  incarnation: string;
  reported_at: string;
  /** Null until its nova-volume reported. */
  total_gb: number | null;
  overcommit_ratio: number | null;
  /** GiB of live volumes and snapshots there. */
  promised_gb: number;
}

/** Every volume service with what its host has and what is promised of it. */
export async function volumeHosts(db: Db): Promise<VolumeHostRow[]> {
  const rows = await db
    .selectFrom('services')
    .leftJoin('volume_nodes as node', (join) =>
      join.onRef('node.host', '=', 'services.host').on('node.deleted', '=', 0),
    )
    .select((e) => [
      'services.host',
      'services.availability_zone',
      'services.disabled',
      'services.incarnation',
      e.fn.coalesce('services.updated_at', 'services.created_at').as('reported_at'),
      'node.total_gb',
      'node.overcommit_ratio',
    ])
    .where('services.topic', '=', 'volume')
    .where('services.deleted', '=', 0)
    .orderBy('services.host')
    .execute();
  const promised = await promisedGb(db);
  return rows.map((row) => ({ ...row, promised_gb: promised.get(row.host) ?? 0 }));
}

/** GiB of live volumes and snapshots of each host, or of one. */
async function promisedGb(db: Db, host?: string): Promise<Map<string, number>> {
  let volumes = db
    .selectFrom('volumes')
    .select((e) => ['host', e.fn.sum('size').as('gb')])
    .where('deleted', '=', 0)
    .where('host', 'is not', null);
  let snapshots = db
    .selectFrom('snapshots')
    .select((e) => ['host', e.fn.sum('volume_size').as('gb')])
    .where('deleted', '=', 0);
  if (host !== undefined) {
    volumes = volumes.where('host', '=', host);
    snapshots = snapshots.where('host', '=', host);
  }
  const sums = new Map<string, number>();
  for (const row of [...(await volumes.groupBy('host').execute()), ...(await snapshots.groupBy('host').execute())])
    sums.set(row.host ?? '', (sums.get(row.host ?? '') ?? 0) + Number(row.gb));
  return sums;
}

/** What a storage host can promise, and has. */
export interface Room {
  /** GiB that may be promised: what there is times --volume_overcommit_ratio. */
  limit_gb: number;
  promised_gb: number;
}

/**
 * What room a host has, read so that no other transaction promises any of it before this one ends; undefined when its
 * nova-volume never reported. The caller then writes the row that takes the room.
 */
export async function lockRoom(tx: Tx, host: string): Promise<Room | undefined> {
  const node = () => tx.updateTable('volume_nodes').where('host', '=', host).where('deleted', '=', 0);
  if (changed(await node().set({ updated_at: nowText() }).executeTakeFirst()) === 0) return undefined;
  const row = await tx
    .selectFrom('volume_nodes')
    .select(['total_gb', 'overcommit_ratio'])
    .where('host', '=', host)
    .where('deleted', '=', 0)
    .executeTakeFirstOrThrow();
  const promised = await promisedGb(tx, host);
  return { limit_gb: Math.floor(row.total_gb * row.overcommit_ratio), promised_gb: promised.get(host) ?? 0 };
}

/** The driver that the host's nova-volume keeps its volumes with, by its dotted name; undefined when none ever ran there. */
export const driverOfHost = async (db: Db, host: string): Promise<string | undefined> =>
  (
    await db
      .selectFrom('volume_nodes')
      .select('driver')
      .where('host', '=', host)
      .where('deleted', '=', 0)
      .executeTakeFirst()
  )?.driver;

/** Writes what the host has. */
export async function reportRoom(
  db: NovaDb,
  host: string,
  has: Pick<Insertable<VolumeNodesTable>, 'total_gb' | 'free_gb' | 'overcommit_ratio' | 'driver'>,
): Promise<void> {
  const columns = { ...has, updated_at: nowText() };
  await writing(db, async (tx) => {
    const node = tx.updateTable('volume_nodes').set(columns).where('host', '=', host).where('deleted', '=', 0);
    if (changed(await node.executeTakeFirst()) > 0) return;
    await tx
      .insertInto('volume_nodes')
      .values({ ...columns, host, created_at: nowText() })
      .execute();
  });
}
