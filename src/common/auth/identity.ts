import type { Db } from '../db/connect.ts';
import { findProject, isMember, type Project } from '../db/projects.ts';
import { heldRoles } from '../db/roles.ts';
import type { User } from '../db/users.ts';
import { AuthFailure } from '../errors.ts';
import { activeRoles, isAdmin, type RoleRules, type Standing } from './access.ts';

/** What a request's context says of a user in a project. */
export interface UserInProject {
  user_id: string;
  project_id: string;
  is_admin: boolean;
  roles: string[];
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
  return { identity: { user_id: user.id, project_id, is_admin, roles: activeRoles(standing, rules) }, project };
}
