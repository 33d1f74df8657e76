import type { UserInProject } from './identity.ts';

export interface IssuedToken {
  /** Opaque; only its hash is stored. */
  token: string;
  /** The project the token is for: the one asked for, else the user's first. */
  project_id: string;
  /** UTC, ISO 8601. */
  expires_at: string;
}

/** Tokens of the OpenStack API. Source: Nova 2011.3 nova/api/openstack/auth.py. */
export interface TokenAuthenticator {
  /**
   * A new token for a user's name or id and access key. Also takes the user's secret key in place of the access key: today's
   * clients call it the password.
   * @throws AuthFailure for an unknown user, another user's key, or a project the user is not in
   */
  issue(user: string, key: string, project: string | null): Promise<IssuedToken>;
  /**
   * A token for another of its user's projects, which ends when this one does; this one itself where it is for that project.
   * @throws AuthFailure as check
   */
  rescope(token: string, project: string): Promise<IssuedToken>;
  /**
   * @param project the one in the URL, or null for the token's own
   * @throws AuthFailure for an unknown or expired token, or a project the user is not in
   */
  check(token: string, project: string | null): Promise<UserInProject>;
  /** The token is good for nothing any more: at once where it was revoked, within two seconds at other API servers. */
  revoke(token: string): Promise<void>;
}
