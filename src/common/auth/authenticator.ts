/** A user in a project, as the EC2 and S3 APIs need to know it. */
export interface Identity {
  readonly user_id: string;
  readonly project_id: string;
  /** Tells the project from a deleted one that had its name. UTC, ISO 8601. */
  readonly project_created_at: string;
  /** Superuser, or holder of one of `--global_roles`. */
  readonly is_admin: boolean;
  /** Roles held both globally and in the project, and `projectmanager` for the project's manager. */
  readonly roles: readonly string[];
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
