import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import type { Db } from './connect.ts';
import type { AuthTokensTable } from './schema.ts';

export type AuthToken = Selectable<AuthTokensTable>;

/** `token_hash`: sha256 of the token, hex; the token itself is kept nowhere. */
export async function insertToken(db: Db, token: Omit<AuthToken, 'created_at'>): Promise<void> {
  await db
    .insertInto('auth_tokens')
    .values({ ...token, created_at: nowText() })
    .execute();
}

/** Also an expired one. */
export const findToken = (db: Db, token_hash: string): Promise<AuthToken | undefined> =>
  db.selectFrom('auth_tokens').selectAll().where('token_hash', '=', token_hash).executeTakeFirst();

export async function deleteToken(db: Db, token_hash: string): Promise<void> {
  await db.deleteFrom('auth_tokens').where('token_hash', '=', token_hash).execute();
}

export async function purgeTokens(db: Db): Promise<void> {
  await db.deleteFrom('auth_tokens').where('expires_at', '<=', nowText()).execute();
}
