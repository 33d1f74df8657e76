import type { Db } from '../db/connect.ts';
import { findProject, isMember, type Project } from '../db/projects.ts';
import { heldRoles } from '../db/roles.ts';
import type { User } from '../db/users.ts';
import { AuthFailure, PolicyNotAuthorized } from '../errors.ts';
import { activeRoles, isAdmin, isSuperuser, type RoleRules, type Standing } from './access.ts';

/** What is known of a user in a project. */
export interface UserInProject {
  readonly user_id: string;
  readonly project_id: string;
  /** Superuser, or holder of one of `--global_roles`: sees every project. */
  readonly is_admin: boolean;
  /** May change everything, everywhere. */
  readonly is_superuser: boolean;
  readonly is_member: boolean;
  /** Roles held both globally and in the project, and `projectmanager` for the project's manager. */
  readonly roles: readonly string[];
}

/**
 * Who a request comes from, as far as it may go: what changes something, an administrator who is no superuser (itsec) may
 * do as a member of the project, like any other. @throws PolicyNotAuthorized
 */
export function actingAs<T extends UserInProject>(who: T, changes: boolean): T {
  if (!changes || !who.is_admin || who.is_superuser) return who;
  if (who.is_member) return { ...who, is_admin: false };
  throw new PolicyNotAuthorized(
    `${who.user_id} may look at project ${who.project_id}, and change nothing there: that is for its members and superusers`,
  );
}

/** @throws AuthFailure for an unknown project, or a user who is neither its member nor administrator */
export const userInProject = async (...asked: Parameters<typeof userAndProject>): Promise<UserInProject> =>
  (await userAndProject(...asked)).identity;

/** The same, with the project's row. @throws AuthFailure */
export async function userAndProject(
  db: Db,
  rules: RoleRules,
  user: User,
  project_id: string,
): Promise<{ identity: UserInProject; project: Project }> {
  const project = await findProject(db, project_id);
  if (!project) throw new AuthFailure(`there is no project ${project_id.slice(0, 255)} for the user ${user.id}`);
  const standing: Standing = {
    user,
    project,
    member: await isMember(db, project_id, user.id),
    held: await heldRoles(db, user.id, project_id),
  };
  const is_admin = isAdmin(standing, rules);
  if (!standing.member && !is_admin)
    throw new AuthFailure(`the user ${user.id} is no member of project ${project_id}, and no administrator`);
  const identity: UserInProject = {
    user_id: user.id,
    project_id,
    is_admin,
    is_superuser: isSuperuser(standing, rules),
    is_member: standing.member,
    roles: activeRoles(standing, rules),
  };
  return { identity, project };
}
