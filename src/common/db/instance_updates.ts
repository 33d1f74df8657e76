import { nowText } from '../clock.ts';
import { InstanceNotFound, InvalidInput, QuotaError } from '../errors.ts';
import { changed, lockProject, writing, type Db, type NovaDb, type Tx } from './connect.ts';
import { projectQuota, type quotaFlags } from './quotas.ts';
import type { FlagValues } from '../flags.ts';

/** What an owner changes on an instance that runs; nothing on its host changes with it. */

/** @throws InstanceNotFound when it went away meanwhile */
export async function renameInstance(db: Db, id: number, display_name: string): Promise<void> {
  const renamed = await db
    .updateTable('instances')
    .set({ display_name, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(renamed) === 0) throw new InstanceNotFound(`instance ${id} is gone`);
}

/** How the metadata service answers an instance; what is left out stays. */
export interface MetadataOptions {
  http_tokens?: 'required' | 'optional';
  http_endpoint?: 'enabled' | 'disabled';
}

/** @throws InstanceNotFound when it went away meanwhile */
export async function setMetadataOptions(db: Db, id: number, options: MetadataOptions): Promise<void> {
  const set = await db
    .updateTable('instances')
    .set({ ...options, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  if (changed(set) === 0) throw new InstanceNotFound(`instance ${id} is gone`);
}

const LONGEST = 255;

/**
 * Adds pairs, or with `replace` has these and no others.
 * @returns all pairs then. @throws InvalidInput, QuotaError, InstanceNotFound
 */
export async function writeMetadata(
  db: NovaDb,
  flags: FlagValues<typeof quotaFlags>,
  instance: { id: number; project_id: string },
  pairs: Readonly<Record<string, string>>,
  options: { replace?: boolean } = {},
): Promise<Record<string, string>> {
  for (const [key, value] of Object.entries(pairs))
    if (key.length === 0 || key.length > LONGEST || value.length > LONGEST)
      throw new InvalidInput(
        `metadata ${key.slice(0, 40)}: a key has 1 to ${LONGEST} characters, a value up to ${LONGEST}`,
      );
  return writing(db, async (tx) => {
    await lockProject(tx, db.dialect, instance.project_id);
    await touch(tx, instance.id);
    const before = await readMetadata(tx, instance.id);
    const after = options.replace ? pairs : { ...before, ...pairs };
    const { metadata_items } = await projectQuota(tx, flags, instance.project_id);
    const count = Object.keys(after).length;
    if (metadata_items !== null && count > metadata_items)
      throw new QuotaError(
        `${count} metadata pairs; an instance of project ${instance.project_id} holds at most ${metadata_items}`,
      );
    const changes = Object.entries(after).filter(([key, value]) => before[key] !== value);
    const gone = Object.keys(before).filter((key) => !Object.hasOwn(after, key));
    await forget(tx, instance.id, [...gone, ...changes.map(([key]) => key)]);
    for (const [key, value] of changes)
      await tx
        .insertInto('instance_metadata')
        .values({ instance_id: instance.id, key, value, created_at: nowText() })
        .execute();
    return after;
  });
}

/** @returns whether there was one. @throws InstanceNotFound */
export const deleteMetadata = (db: NovaDb, instance_id: number, key: string): Promise<boolean> =>
  writing(db, async (tx) => {
    await touch(tx, instance_id);
    return (await forget(tx, instance_id, [key])) > 0;
  });

async function readMetadata(tx: Tx, instance_id: number): Promise<Record<string, string>> {
  const query = tx.selectFrom('instance_metadata').select(['key', 'value']).where('instance_id', '=', instance_id);
  const rows = await query.where('deleted', '=', 0).execute();
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]));
}

async function forget(tx: Tx, instance_id: number, keys: readonly string[]): Promise<number> {
  if (keys.length === 0) return 0;
  const gone = await tx
    .updateTable('instance_metadata')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('instance_id', '=', instance_id)
    .where('key', 'in', [...keys])
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(gone);
}

/** Says when it was changed, and holds the row until the transaction ends. */
async function touch(tx: Tx, id: number): Promise<void> {
  const query = tx.updateTable('instances').set({ updated_at: nowText() }).where('id', '=', id);
  const touched = await query.where('deleted', '=', 0).executeTakeFirst();
  if (changed(touched) === 0) throw new InstanceNotFound(`instance ${id} is gone`);
}
