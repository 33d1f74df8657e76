import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { KeyPairExists, KeyPairNotFound } from '../errors.ts';
import { changed, type Db } from './connect.ts';
import type { KeyPairsTable } from './schema.ts';

export type KeyPair = Selectable<KeyPairsTable>;

/** @throws KeyPairExists */
export async function insertKeyPair(
  db: Db,
  pair: { user_id: string; name: string; fingerprint: string; public_key: string },
): Promise<void> {
  const made = await db
    .insertInto('key_pairs')
    .values({ ...pair, created_at: nowText() })
    .onConflict((e) => e.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows !== 1n)
    throw new KeyPairExists(`the key pair ${pair.name} exists already: delete it or choose another name`);
}

export const listKeyPairs = (db: Db, user_id: string): Promise<KeyPair[]> =>
  db
    .selectFrom('key_pairs')
    .selectAll()
    .where('user_id', '=', user_id)
    .where('deleted', '=', 0)
    .orderBy('name')
    .execute();

export const findKeyPair = (db: Db, user_id: string, name: string): Promise<KeyPair | undefined> =>
  db
    .selectFrom('key_pairs')
    .selectAll()
    .where('user_id', '=', user_id)
    .where('name', '=', name)
    .where('deleted', '=', 0)
    .executeTakeFirst();

/** @throws KeyPairNotFound */
export async function getKeyPair(db: Db, user_id: string, name: string): Promise<KeyPair> {
  const pair = await findKeyPair(db, user_id, name);
  if (!pair) throw new KeyPairNotFound(`the user ${user_id} has no key pair ${name}`);
  return pair;
}

/** @returns whether there was one */
export async function deleteKeyPair(db: Db, user_id: string, name: string): Promise<boolean> {
  const gone = await db
    .updateTable('key_pairs')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('user_id', '=', user_id)
    .where('name', '=', name)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(gone) > 0;
}
