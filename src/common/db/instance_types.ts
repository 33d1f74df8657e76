import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { InstanceTypeExists, InstanceTypeNotFound, InvalidInput } from '../errors.ts';
import { changed, type Db } from './connect.ts';
import type { InstanceTypesTable } from './schema.ts';

export type InstanceType = Selectable<InstanceTypesTable>;

export interface NewInstanceType {
  name: string;
  memory_mb: number;
  vcpus: number;
  /** GiB; 0: as large as the image. */
  local_gb: number;
  flavorid: number;
  swap?: number;
  rxtx_quota?: number;
  rxtx_cap?: number;
}

/** @throws InvalidInput, InstanceTypeExists when name or flavorid is taken */
export async function createInstanceType(db: Db, type: NewInstanceType): Promise<void> {
  if (!/^[A-Za-z0-9_.-]{1,255}$/.test(type.name))
    throw new InvalidInput(`'${type.name.slice(0, 40)}' cannot name an instance type: letters, digits and _ . -`);
  const made = await db
    .insertInto('instance_types')
    .values({ ...type, created_at: nowText() })
    .onConflict((e) => e.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows === 1n) return;
  throw new InstanceTypeExists(`an instance type with the name ${type.name} or the flavorid ${type.flavorid} exists`);
}

/** By flavorid; with `deleted`, those that are gone, too. */
export function listInstanceTypes(db: Db, options: { deleted?: boolean } = {}): Promise<InstanceType[]> {
  let query = db.selectFrom('instance_types').selectAll();
  if (!options.deleted) query = query.where('deleted', '=', 0);
  return query.orderBy('flavorid').orderBy('id').execute();
}

/** @throws InstanceTypeNotFound */
export async function instanceTypeByName(db: Db, name: string): Promise<InstanceType> {
  const type = await db
    .selectFrom('instance_types')
    .selectAll()
    .where('name', '=', name)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (!type) throw new InstanceTypeNotFound(`there is no instance type ${name}`);
  return type;
}

/** @throws InstanceTypeNotFound */
export async function flavorById(db: Db, flavorid: number): Promise<InstanceType> {
  const query = db.selectFrom('instance_types').selectAll().where('flavorid', '=', flavorid);
  const type = await query.where('deleted', '=', 0).executeTakeFirst();
  if (!type) throw new InstanceTypeNotFound(`there is no flavor ${flavorid}`);
  return type;
}

/** New instances cannot have it any more; those there keep what they got. @throws InstanceTypeNotFound */
export async function deleteInstanceType(db: Db, name: string): Promise<void> {
  const gone = await db
    .updateTable('instance_types')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('name', '=', name)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(gone) === 0) throw new InstanceTypeNotFound(`there is no instance type ${name}`);
}

/**
 * Takes the rows of this name away for good, deleted ones too, except those that an instance, dead or alive, was made of.
 * @returns how many such rows stay, as deleted. @throws InstanceTypeNotFound
 */
export async function purgeInstanceType(db: Db, name: string): Promise<number> {
  const rows = await db.selectFrom('instance_types').select('id').where('name', '=', name).execute();
  if (rows.length === 0) throw new InstanceTypeNotFound(`there is no instance type ${name}`);
  await db
    .deleteFrom('instance_types')
    .where('name', '=', name)
    .where('id', 'not in', (e) => e.selectFrom('instances').select('instance_type_id'))
    .execute();
  const kept = await db
    .updateTable('instance_types')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('name', '=', name)
    .executeTakeFirst();
  return changed(kept);
}
