import { nowText } from '../clock.ts';
import { changed, type Db, type Tx } from './connect.ts';

export async function volumeMetadata(db: Db, volume_id: number): Promise<Record<string, string>> {
  const query = db.selectFrom('volume_metadata').select(['key', 'value']).where('volume_id', '=', volume_id);
  const rows = await query.where('deleted', '=', 0).orderBy('id').execute();
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]));
}

/** From now on the volume has these pairs and no others; the caller holds its row. */
export async function replaceVolumeMetadata(
  tx: Tx,
  volume_id: number,
  pairs: Readonly<Record<string, string>>,
): Promise<void> {
  const before = await volumeMetadata(tx, volume_id);
  const changes = Object.entries(pairs).filter(([key, value]) => before[key] !== value);
  const gone = Object.keys(before).filter((key) => !Object.hasOwn(pairs, key));
  await forgetVolumeMetadata(tx, volume_id, [...gone, ...changes.map(([key]) => key)]);
  const created_at = nowText();
  if (changes.length > 0)
    await tx
      .insertInto('volume_metadata')
      .values(changes.map(([key, value]) => ({ volume_id, key, value, created_at })))
      .execute();
}

/** @returns how many there were */
export async function forgetVolumeMetadata(tx: Tx, volume_id: number, keys: readonly string[]): Promise<number> {
  if (keys.length === 0) return 0;
  const gone = await tx
    .updateTable('volume_metadata')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('volume_id', '=', volume_id)
    .where('key', 'in', [...keys])
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(gone);
}
