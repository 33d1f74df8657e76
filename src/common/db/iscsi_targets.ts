import { NoMoreTargets } from '../errors.ts';
import { isUniqueViolation, writing, type Db, type NovaDb } from './connect.ts';

export interface IscsiTarget {
  target_num: number;
  volume_id: number;
}

/** Numbers in use at a storage host. */
export const targetsOfHost = (db: Db, host: string): Promise<IscsiTarget[]> =>
  db.selectFrom('iscsi_targets').select(['target_num', 'volume_id']).where('host', '=', host).execute();

/** A volume's target number at its host. */
export const targetOfVolume = async (db: Db, volume_id: number): Promise<number | undefined> =>
  (await db.selectFrom('iscsi_targets').select('target_num').where('volume_id', '=', volume_id).executeTakeFirst())
    ?.target_num;

/**
 * The volume's target number: the one it has, else the lowest free one of its host. The unique index gives it out.
 * @throws NoMoreTargets when 1 to `limit` are in use
 */
export async function claimTarget(db: NovaDb, host: string, volume_id: number, limit: number): Promise<number> {
  for (;;) {
    // One look: between two, a second claim of this volume could take the last number.
    const rows = await db
      .selectFrom('iscsi_targets')
      .select(['host', 'target_num', 'volume_id'])
      .where((row) => row.or([row('host', '=', host), row('volume_id', '=', volume_id)]))
      .execute();
    const had = rows.find((row) => row.volume_id === volume_id);
    if (had) return had.target_num;
    const used = new Set(rows.map(({ target_num }) => target_num));
    let target_num = 1;
    while (used.has(target_num)) target_num++;
    if (target_num > limit)
      throw new NoMoreTargets(
        `all ${limit} iSCSI targets of host ${host} are in use: detach volumes there, or raise --iscsi_num_targets`,
      );
    try {
      await writing(db, (tx) => tx.insertInto('iscsi_targets').values({ host, target_num, volume_id }).execute());
      return target_num;
    } catch (err) {
      if (!isUniqueViolation(err)) throw err; // taken in between: look again
    }
  }
}

/** Gives the volume's number back; it may have none. */
export async function releaseTarget(db: Db, volume_id: number): Promise<void> {
  await db.deleteFrom('iscsi_targets').where('volume_id', '=', volume_id).execute();
}
