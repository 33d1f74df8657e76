import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { nowText, textIn } from '../clock.ts';
import { deleteToken, findToken, insertToken, purgeTokens, type AuthToken } from '../db/auth_tokens.ts';
import { writing, type Db, type NovaDb } from '../db/connect.ts';
import { listProjects } from '../db/projects.ts';
import { findUser, holdUser, type User } from '../db/users.ts';
import { AuthFailure } from '../errors.ts';
import { defineFlags, integer, type Flags } from '../flags.ts';
import { authFlags, type RoleRules } from './access.ts';
import { userInProject, type UserInProject } from './identity.ts';
import { Recent } from './recent.ts';
import type { IssuedToken, TokenAuthenticator } from './token_authenticator.ts';

export const tokenFlags = defineFlags({
  // Nova defined 3600 and never read it: its tokens lived two days.
  auth_token_ttl: integer(2 * 24 * 3600, 'Seconds a token of the OpenStack API is good for', { min: 1 }),
});

const PURGE_EVERY_MS = 60_000;
/** What the table keeps of a token. */
export const tokenHash = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Tokens of the table auth_tokens, which holds their hashes only: who reads the database cannot use them. */
export class DbTokens implements TokenAuthenticator {
  readonly #db: NovaDb;
  readonly #rules: RoleRules;
  readonly #ttl_s: number;
  readonly #recent: Recent<UserInProject>;
  #purged_at = -Infinity;

  constructor({ db, flags }: { db: NovaDb; flags: Flags }) {
    this.#db = db;
    this.#rules = flags.read(authFlags);
    this.#ttl_s = flags.read(tokenFlags).auth_token_ttl;
    this.#recent = new Recent((key) => {
      const [hash = '', project] = key.split(' ');
      return this.#check(hash, project ?? null);
    });
  }

  async issue(name: string, key: string, project: string | null): Promise<IssuedToken> {
    const user = await findUser(this.#db, name);
    if (!user || !hasKey(user, key)) throw new AuthFailure(`${name.slice(0, 255)} is no user with this key`);
    const project_id = project ?? (await this.#firstProject(user));
    await userInProject(this.#db, this.#rules, user, project_id);
    await this.#purge();
    return this.#make({ user_id: user.id, project_id, expires_at: textIn(this.#ttl_s) });
  }

  async rescope(old: string, project_id: string): Promise<IssuedToken> {
    await this.#check(tokenHash(old), project_id);
    const row = await this.#row(this.#db, tokenHash(old));
    if (row.project_id === project_id) return { token: old, project_id, expires_at: row.expires_at };
    return this.#make({ user_id: row.user_id, project_id, expires_at: row.expires_at }, old);
  }

  /** @param old the token that this one is made for. @throws AuthFailure when that was revoked just now */
  async #make(about: Omit<AuthToken, 'token_hash' | 'created_at'>, old?: string): Promise<IssuedToken> {
    const token = randomBytes(20).toString('hex');
    await writing(this.#db, async (tx) => {
      await holdUser(tx, about.user_id); // gone just now: the next one of that name must not have it
      if (old !== undefined) await this.#row(tx, tokenHash(old));
      await insertToken(tx, { ...about, token_hash: tokenHash(token) });
    });
    return { token, project_id: about.project_id, expires_at: about.expires_at };
  }

  async #row(db: Db, token_hash: string): Promise<AuthToken> {
    const row = await findToken(db, token_hash);
    if (!row) throw new AuthFailure('the token is unknown: it was never issued, or expired long ago');
    return row;
  }

  async #firstProject(user: User): Promise<string> {
    const [first] = await listProjects(this.#db, user.id);
    if (first) return first.id;
    throw new AuthFailure(`the user ${user.id} is in no project: an operator can add it to one`);
  }

  check(token: string, project: string | null): Promise<UserInProject> {
    return this.#recent.get(project === null ? tokenHash(token) : `${tokenHash(token)} ${project}`);
  }

  async revoke(token: string): Promise<void> {
    await deleteToken(this.#db, tokenHash(token));
    this.#recent.clear();
  }

  async #check(token_hash: string, project: string | null): Promise<UserInProject> {
    const row = await this.#row(this.#db, token_hash);
    if (row.expires_at <= nowText()) {
      await deleteToken(this.#db, token_hash);
      throw new AuthFailure(`the token expired at ${row.expires_at}: authenticate again`);
    }
    const user = await findUser(this.#db, row.user_id);
    if (!user) throw new AuthFailure(`the token's user ${row.user_id} is gone`);
    return userInProject(this.#db, this.#rules, user, project ?? row.project_id);
  }

  /** Now and then, when one is issued: tokens nobody asked about again. */
  async #purge(): Promise<void> {
    if (performance.now() - this.#purged_at < PURGE_EVERY_MS) return;
    this.#purged_at = performance.now();
    await purgeTokens(this.#db);
  }
}

/** The access key, as clients of 2011 send, or the secret key; in a time that says nothing about where they differ. */
function hasKey(user: User, key: string): boolean {
  const given = Buffer.from(tokenHash(key));
  return [user.access_key, user.secret_key]
    .map((known) => timingSafeEqual(given, Buffer.from(tokenHash(known))))
    .some((same) => same);
}
