import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { InvalidInput, VolumeTypeExists, VolumeTypeNotFound } from '../errors.ts';
import { changed, type Db, type Tx } from './connect.ts';
import type { VolumeTypesTable } from './schema_volumes.ts';

export type VolumeTypeRow = Selectable<VolumeTypesTable>;
export interface VolumeType {
  id: number;
  name: string;
  extra_specs: Record<string, string>;
}

/** By id. */
export async function listVolumeTypes(db: Db): Promise<VolumeType[]> {
  const rows = await db
    .selectFrom('volume_types')
    .select(['id', 'name'])
    .where('deleted', '=', 0)
    .orderBy('id')
    .execute();
  const specs = await db
    .selectFrom('volume_type_extra_specs')
    .select(['volume_type_id', 'key', 'value'])
    .where('deleted', '=', 0)
    .orderBy('id')
    .execute();
  return rows.map((row) => ({
    ...row,
    extra_specs: Object.fromEntries(specs.flatMap((s) => (s.volume_type_id === row.id ? [[s.key, s.value]] : []))),
  }));
}

/** By id; text is a name, and where there is none of that name an id. @throws VolumeTypeNotFound */
export async function volumeType(db: Db, wanted: number | string): Promise<VolumeTypeRow> {
  const types = db.selectFrom('volume_types').selectAll().where('deleted', '=', 0);
  const named = typeof wanted === 'string' ? await types.where('name', '=', wanted).executeTakeFirst() : undefined;
  const id = /^\d{1,9}$/.test(String(wanted)) ? Number(wanted) : undefined;
  const row = named ?? (id === undefined ? undefined : await types.where('id', '=', id).executeTakeFirst());
  if (!row) throw new VolumeTypeNotFound(`there is no volume type ${wanted}`);
  return row;
}

/** @returns its id. @throws InvalidInput, VolumeTypeExists */
export async function insertVolumeType(tx: Tx, name: string): Promise<number> {
  if (name.trim() === '' || name.length > 255)
    throw new InvalidInput('a volume type has a name of 1 to 255 characters');
  const made = await tx
    .insertInto('volume_types')
    .values({ name, created_at: nowText() })
    .onConflict((e) => e.doNothing())
    .returning('id')
    .executeTakeFirst();
  if (!made) throw new VolumeTypeExists(`there is a volume type ${name}`);
  return made.id;
}

/** Volumes that have it keep its name no longer. @throws VolumeTypeNotFound */
export async function deleteVolumeType(tx: Tx, id: number): Promise<void> {
  const gone = { deleted: 1, deleted_at: nowText() };
  const result = await tx
    .updateTable('volume_types')
    .set(gone)
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(result) === 0) throw new VolumeTypeNotFound(`there is no volume type ${id}`);
  await tx
    .updateTable('volume_type_extra_specs')
    .set(gone)
    .where('volume_type_id', '=', id)
    .where('deleted', '=', 0)
    .execute();
}

/** Adds pairs, or gives keys new values. @throws VolumeTypeNotFound */
export async function writeExtraSpecs(tx: Tx, id: number, pairs: Readonly<Record<string, string>>): Promise<void> {
  const held = await tx
    .updateTable('volume_types')
    .set({ updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(held) === 0) throw new VolumeTypeNotFound(`there is no volume type ${id}`);
  await forgetExtraSpecs(tx, id, Object.keys(pairs));
  const created_at = nowText();
  const rows = Object.entries(pairs).map(([key, value]) => ({ volume_type_id: id, key, value, created_at }));
  if (rows.length > 0) await tx.insertInto('volume_type_extra_specs').values(rows).execute();
}

/** @returns how many there were */
export async function forgetExtraSpecs(tx: Tx, id: number, keys: readonly string[]): Promise<number> {
  if (keys.length === 0) return 0;
  const gone = await tx
    .updateTable('volume_type_extra_specs')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('volume_type_id', '=', id)
    .where('key', 'in', [...keys])
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(gone);
}
