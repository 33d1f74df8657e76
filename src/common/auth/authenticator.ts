import type { UserInProject } from './identity.ts';

/** A user in a project, as the EC2 and S3 APIs need to know it. */
export interface Identity extends UserInProject {
  /** Tells the project from a deleted one that had its name. UTC, ISO 8601. */
  readonly project_created_at: string;
  readonly secret_key: string;
}

/** Finds who an access key belongs to. The caller then checks the signature with the secret: identity is not proof. */
export interface Authenticator {
  /**
   * @param access_key `ACCESS` or `ACCESS:PROJECT`, split at the first colon; without a project it is the one named like the user
   * @throws AuthFailure for an unknown key, an unknown project, or a user who is neither its member nor administrator
   */
  identify(access_key: string): Promise<Identity>;
}
