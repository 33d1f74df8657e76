import type { NovaDb } from '../db/connect.ts';
import { findUserByAccessKey } from '../db/users.ts';
import { AuthFailure } from '../errors.ts';
import type { Flags } from '../flags.ts';
import { authFlags, type RoleRules } from './access.ts';
import type { Authenticator, Identity } from './authenticator.ts';
import { userAndProject } from './identity.ts';
import { Recent } from './recent.ts';

/** Access keys of the tables users and projects. What changed there holds at the latest two seconds later. */
export class DbAuthenticator implements Authenticator {
  readonly #db: NovaDb;
  readonly #rules: RoleRules;
  readonly #recent: Recent<Identity>;

  constructor({ db, flags }: { db: NovaDb; flags: Flags }) {
    this.#db = db;
    this.#rules = flags.read(authFlags);
    this.#recent = new Recent((access_key) => this.#identify(access_key));
  }

  identify(access_key: string): Promise<Identity> {
    return this.#recent.get(access_key);
  }

  async #identify(given: string): Promise<Identity> {
    const colon = given.indexOf(':');
    const access_key = colon < 0 ? given : given.slice(0, colon);
    const user = await findUserByAccessKey(this.#db, access_key);
    if (!user) throw new AuthFailure(`no user has the access key ${access_key.slice(0, 128)}`);
    const project_id = colon < 0 ? user.id : given.slice(colon + 1);
    const { identity, project } = await userAndProject(this.#db, this.#rules, user, project_id);
    return { ...identity, project_created_at: project.created_at, secret_key: user.secret_key };
  }
}
