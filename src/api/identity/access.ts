import { findToken } from '../../common/db/auth_tokens.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { getProject, listProjects, type Project } from '../../common/db/projects.ts';
import { AuthFailure } from '../../common/errors.ts';
import { tokenHash } from '../../common/auth/tokens.ts';
import type { TokenAuthenticator } from '../../common/auth/token_authenticator.ts';

export interface IdentityDeps {
  db: NovaDb;
  tokens: TokenAuthenticator;
}

/** A token and all that is told of it. A user's id is the name, and so is a project's. */
export interface Access {
  token: string;
  /** `password` or `token`: how it was come by. */
  method: string;
  /** UTC ISO. */
  expires_at: string;
  issued_at: string;
  user_id: string;
  project: Project;
  roles: string[];
}

/** @param project null: the user's first. @throws AuthFailure */
export async function accessByPassword(
  { db, tokens }: IdentityDeps,
  user: string,
  password: string,
  project: string | null,
): Promise<Access> {
  const { token, project_id } = await tokens.issue(user, password, project);
  return describe({ db, tokens }, token, project_id, 'password');
}

/**
 * The token as it is, or for another of its user's projects a new one: the image and identity APIs have no project in their
 * URLs and go by the token's own. @throws AuthFailure
 */
export async function accessByToken(deps: IdentityDeps, given: string, project: string | null): Promise<Access> {
  const token = project === null ? given : (await deps.tokens.rescope(given, project)).token;
  return describe(deps, token, project, 'token');
}

async function describe(
  { db, tokens }: IdentityDeps,
  token: string,
  project_id: string | null,
  method: string,
): Promise<Access> {
  const identity = await tokens.check(token, project_id);
  const row = await findToken(db, tokenHash(token));
  if (!row) throw new AuthFailure('the token is unknown: it was never issued, or expired long ago');
  return {
    token,
    method,
    expires_at: row.expires_at,
    issued_at: row.created_at,
    user_id: row.user_id,
    project: await getProject(db, identity.project_id),
    roles: [...new Set(['member', ...identity.roles, ...(identity.is_admin ? ['admin'] : [])])],
  };
}

/** The projects of the token's owner. @throws AuthFailure */
export async function projectsOfToken({ db, tokens }: IdentityDeps, token: string): Promise<Project[]> {
  const { user_id } = await tokens.check(token, null);
  return listProjects(db, user_id);
}

/** The same; an administrator's are all there are. @throws AuthFailure */
export async function projectsInSight({ db, tokens }: IdentityDeps, token: string): Promise<Project[]> {
  const { user_id, is_admin } = await tokens.check(token, null);
  return listProjects(db, is_admin ? undefined : user_id);
}
