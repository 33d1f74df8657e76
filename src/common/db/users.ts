import { randomUUID } from 'node:crypto';
import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { Conflict, InvalidInput, UserExists, UserNotFound } from '../errors.ts';
import { changed, type Db, type Tx } from './connect.ts';
import type { UsersTable } from './schema.ts';

/** `id` is the name. */
export type User = Selectable<UsersTable>;

/** A user's or project's name: it goes into URLs, headers, access keys (`KEY:PROJECT`) and shell scripts. @throws InvalidInput */
export function checkName(what: 'user' | 'project', name: string): void {
  if (/^[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]{0,254}$/.test(name)) return;
  throw new InvalidInput(
    `'${name.slice(0, 40)}' cannot be the name of a ${what}: 1 to 255 letters, digits and _ . @ + -, not starting with -`,
  );
}

/** @throws InvalidInput */
function checkKeys(keys: { access_key?: string | undefined; secret_key?: string | undefined }): void {
  if (keys.access_key !== undefined && !/^[A-Za-z0-9_.@+=-]{1,128}$/.test(keys.access_key))
    throw new InvalidInput('an access key is 1 to 128 letters, digits and _ . @ + = - (a colon begins the project)');
  if (keys.secret_key !== undefined && !/^[\x21-\x7e]{1,255}$/.test(keys.secret_key))
    throw new InvalidInput('a secret key is 1 to 255 printable ASCII characters without a space');
}

export interface NewUser {
  name: string;
  access_key?: string | undefined;
  secret_key?: string | undefined;
  is_admin?: boolean;
}

/** Keys that are not given are made: two UUIDs. @throws InvalidInput, UserExists, Conflict for another user's access key */
export async function createUser(db: Db, { name, access_key, secret_key, is_admin = false }: NewUser): Promise<User> {
  checkName('user', name);
  checkKeys({ access_key, secret_key });
  const user = {
    id: name,
    name,
    access_key: access_key ?? randomUUID(),
    secret_key: secret_key ?? randomUUID(),
    is_admin: is_admin ? 1 : 0,
    created_at: nowText(),
  };
  const made = await db
    .insertInto('users')
    .values(user)
    .onConflict((e) => e.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows === 1n) return user;
  if (await findUser(db, name)) throw new UserExists(`the user ${name} exists already`);
  throw takenKey();
}

const takenKey = (): Conflict => new Conflict('another user has this access key: choose a different one');

export const findUser = (db: Db, id: string): Promise<User | undefined> =>
  db.selectFrom('users').selectAll().where('id', '=', id).executeTakeFirst();

/** @throws UserNotFound */
export async function getUser(db: Db, id: string): Promise<User> {
  const user = await findUser(db, id);
  if (!user) throw noUser(id);
  return user;
}

export const noUser = (id: string): UserNotFound => new UserNotFound(`there is no user ${id}`);

export const findUserByAccessKey = (db: Db, access_key: string): Promise<User | undefined> =>
  db.selectFrom('users').selectAll().where('access_key', '=', access_key).executeTakeFirst();

export const listUsers = (db: Db): Promise<User[]> => db.selectFrom('users').selectAll().orderBy('id').execute();

/** Changes what is given; a new key ends the tokens that the old ones gave. @throws InvalidInput, UserNotFound, Conflict for another user's access key */
export async function modifyUser(
  tx: Tx,
  id: string,
  change: { access_key?: string | undefined; secret_key?: string | undefined; is_admin?: boolean | undefined },
): Promise<void> {
  checkKeys(change);
  const { access_key, secret_key, is_admin } = change;
  await holdUser(tx, id);
  if (access_key !== undefined) {
    // Not left to the unique index: its violation would end a PostgreSQL transaction, and say nothing to people.
    const other = await findUserByAccessKey(tx, access_key);
    if (other && other.id !== id) throw takenKey();
  }
  const columns = {
    ...(access_key === undefined ? {} : { access_key }),
    ...(secret_key === undefined ? {} : { secret_key }),
    ...(is_admin === undefined ? {} : { is_admin: is_admin ? 1 : 0 }),
  };
  if (Object.keys(columns).length > 0) await tx.updateTable('users').set(columns).where('id', '=', id).execute();
  if (access_key !== undefined || secret_key !== undefined)
    await tx.deleteFrom('auth_tokens').where('user_id', '=', id).execute();
}

/**
 * The user exists until the transaction ends: an update that changes nothing locks the row where there are row locks.
 * @throws UserNotFound
 */
export async function holdUser(tx: Tx, id: string): Promise<void> {
  const held = await tx
    .updateTable('users')
    .set((e) => ({ name: e.ref('name') }))
    .where('id', '=', id)
    .executeTakeFirst();
  if (changed(held) === 0) throw noUser(id);
}

/**
 * Takes away the user with its memberships, roles, key pairs and tokens. What it made belongs to projects and stays.
 * @throws UserNotFound, Conflict while it manages a project
 */
export async function deleteUser(tx: Tx, id: string): Promise<void> {
  const gone = await tx.deleteFrom('users').where('id', '=', id).executeTakeFirst();
  if (gone.numDeletedRows === 0n) throw noUser(id);
  const managed = await tx
    .selectFrom('projects')
    .select('id')
    .where('project_manager', '=', id)
    .orderBy('id')
    .execute();
  if (managed.length > 0) {
    const names = managed.map((project) => project.id).join(', ');
    throw new Conflict(`${id} manages ${names}: name another manager first (nova-manage project modify), or delete it`);
  }
  await tx.deleteFrom('user_project_role_association').where('user_id', '=', id).execute();
  await tx.deleteFrom('user_project_association').where('user_id', '=', id).execute();
  await tx.deleteFrom('user_role_association').where('user_id', '=', id).execute();
  await tx.deleteFrom('auth_tokens').where('user_id', '=', id).execute();
  await tx
    .updateTable('key_pairs')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('user_id', '=', id)
    .where('deleted', '=', 0)
    .execute();
}
