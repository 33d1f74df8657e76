import type { NovaDb } from '../../common/db/connect.ts';
import { hasOpenJob } from '../../common/db/jobs.ts';
import { snapshotById } from '../../common/db/snapshots.ts';
import { volumeById } from '../../common/db/volumes.ts';
import { SnapshotNotFound, VolumeNotFound } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VolumeDriver } from '../drivers/driver.ts';
import { snapshotResource, volumeResource } from '../rpc.ts';
import type { StoreNames } from './names.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  host: string;
  driver: VolumeDriver;
  names: StoreNames;
}

const STAYS = 'bytes of what is deleted were not taken away; the next period tries again';

/**
 * Takes away volumes and snapshots at the store, whole or half made, whose row says that they were this host's and are deleted: an operator
 * deleted the row while the host was down. What has a live row stays, and so does what no row knows: it may be another
 * cloud's at the same store, and `nova-manage volume doctor` tells of it. One that a job may be at work on stays until the
 * job has seen that it is deleted. One that fails is told of and does not hold the others up.
 */
export async function takeAwayLeftOvers({ db, log, host, driver, names }: Deps, signal: AbortSignal): Promise<void> {
  const there = await driver.inventory();
  for (const name of new Set([...there.snapshots, ...there.half_made.snapshots])) {
    signal.throwIfAborted();
    const row = await rowOf(snapshotById, db, names.snapshotId(name));
    if (row?.deleted !== 1 || row.host !== host || (await hasOpenJob(db, snapshotResource(row.id)))) continue;
    try {
      if (await driver.deleteSnapshot(names.snapshot(row), signal))
        log.info({ snapshot_id: row.id, name }, 'took away a snapshot that is deleted');
    } catch (err) {
      log.warn({ err, snapshot_id: row.id, name }, STAYS);
    }
  }
  for (const name of new Set([...there.volumes, ...there.half_made.volumes])) {
    signal.throwIfAborted();
    const row = await rowOf(volumeById, db, names.volumeId(name));
    if (row?.deleted !== 1 || row.host !== host || there.exports.includes(name)) continue;
    if (await hasOpenJob(db, volumeResource(row.id))) continue;
    try {
      if (await driver.deleteVolume(names.volume(row), signal))
        log.info({ volume_id: row.id, name }, 'took away a volume that is deleted');
    } catch (err) {
      log.warn({ err, volume_id: row.id, name }, STAYS);
    }
  }
}

async function rowOf<T>(
  byId: (db: NovaDb, id: number, options: { deleted: boolean }) => Promise<T>,
  db: NovaDb,
  id: number | undefined,
): Promise<T | undefined> {
  if (id === undefined) return undefined;
  try {
    return await byId(db, id, { deleted: true });
  } catch (err) {
    if (err instanceof VolumeNotFound || err instanceof SnapshotNotFound) return undefined;
    throw err;
  }
}
