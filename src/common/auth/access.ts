import { getProject, isMember, type Project } from '../db/projects.ts';
import { deleteRole, heldRoles, insertRole, type HeldRoles } from '../db/roles.ts';
import { getUser, type User } from '../db/users.ts';
import { writing, type Db, type NovaDb } from '../db/connect.ts';
import { Conflict, GlobalRoleNotAllowed, UserRoleNotFound } from '../errors.ts';
import { defineFlags, list, type FlagValues } from '../flags.ts';

/**
 * Who may do what. A role counts where it is held twice: everywhere (the global role) AND in the project; to let ann be
 * sysadmin of web, both `role add ann sysadmin` and `role add ann sysadmin web` are needed. Roles of --global_roles are
 * held once, everywhere. Source: Nova 2011.3 nova/auth/manager.py.
 */
export const authFlags = defineFlags({
  allowed_roles: list(['cloudadmin', 'itsec', 'sysadmin', 'netadmin', 'developer'], 'Roles that users can be given'),
  superuser_roles: list(['cloudadmin'], 'Roles whose holders may do everything'),
  global_roles: list(['cloudadmin', 'itsec'], 'Roles that are held everywhere, never in one project'),
});
export type RoleRules = FlagValues<typeof authFlags>;

/** The role of a project's manager, in that project; it follows from the projects table. */
export const PROJECT_MANAGER = 'projectmanager';

/** What the database says of a user, and of the user in a project where there is one. */
export interface Standing {
  user: User;
  project: Project | null;
  member: boolean;
  held: HeldRoles;
}

/** @throws UserNotFound, ProjectNotFound */
export async function standingOf(db: Db, user_id: string, project_id: string | null): Promise<Standing> {
  const user = await getUser(db, user_id);
  if (project_id === null) return { user, project: null, member: false, held: await heldRoles(db, user_id, null) };
  return {
    user,
    project: await getProject(db, project_id),
    member: await isMember(db, project_id, user_id),
    held: await heldRoles(db, user_id, project_id),
  };
}

/** May do everything, everywhere. */
export const isSuperuser = ({ user, held }: Standing, rules: RoleRules): boolean =>
  user.is_admin === 1 || rules.superuser_roles.some((role) => held.global.includes(role));

/** Sees every project; not every administrator may do everything (itsec): see actingAs. */
export const isAdmin = (standing: Standing, rules: RoleRules): boolean =>
  isSuperuser(standing, rules) || rules.global_roles.some((role) => standing.held.global.includes(role));

/** Whether the user acts in the role: in the standing's project, or everywhere without one. A superuser acts in all. */
export function hasRole(standing: Standing, role: string, rules: RoleRules): boolean {
  const { user, project, held } = standing;
  if (isSuperuser(standing, rules)) return true;
  if (role === PROJECT_MANAGER) return project?.project_manager === user.id;
  if (!held.global.includes(role)) return false;
  return project === null || rules.global_roles.includes(role) || held.project.includes(role);
}

/** The roles of a request's context: a superuser acts in all of them. */
export function activeRoles(standing: Standing, rules: RoleRules): string[] {
  const roles = standing.project === null ? rules.global_roles : [...rules.allowed_roles, PROJECT_MANAGER];
  if (isSuperuser(standing, rules)) return [...new Set([...roles, ...rules.superuser_roles])];
  return roles.filter((role) => hasRole(standing, role, rules));
}

/** @throws UserRoleNotFound, GlobalRoleNotAllowed, UserNotFound, ProjectNotFound, Conflict for a user outside the project */
export async function addRole(
  db: NovaDb,
  rules: RoleRules,
  { user, role, project }: { user: string; role: string; project: string | null },
): Promise<void> {
  checkRole(rules, role, project);
  await writing(db, async (tx) => {
    await insertRole(tx, user, role, project);
    if (project !== null && !(await isMember(tx, project, user)))
      throw new Conflict(`${user} is no member of ${project}: nova-manage project add ${project} ${user}`);
  });
}

/** @returns whether the user had it. @throws UserRoleNotFound, GlobalRoleNotAllowed, UserNotFound, ProjectNotFound */
export async function removeRole(
  db: NovaDb,
  rules: RoleRules,
  { user, role, project }: { user: string; role: string; project: string | null },
): Promise<boolean> {
  checkRole(rules, role, project);
  await getUser(db, user);
  if (project !== null) await getProject(db, project);
  return deleteRole(db, user, role, project);
}

/** @throws UserRoleNotFound */
export function checkRoleName({ allowed_roles }: RoleRules, role: string): void {
  if (!allowed_roles.includes(role))
    throw new UserRoleNotFound(`there is no role ${role}; the roles are ${allowed_roles.join(', ')}`);
}

function checkRole(rules: RoleRules, role: string, project: string | null): void {
  checkRoleName(rules, role);
  if (project !== null && rules.global_roles.includes(role))
    throw new GlobalRoleNotAllowed(`the role ${role} is held everywhere, not in one project: leave ${project} out`);
}
