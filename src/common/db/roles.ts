import type { Db, Tx } from './connect.ts';
import { holdProject } from './projects.ts';
import { holdUser } from './users.ts';

/** What the tables say of a user's roles; which roles count where is up to auth/access.ts. */
export interface HeldRoles {
  global: string[];
  /** In the project asked about. */
  project: string[];
}

export async function heldRoles(db: Db, user_id: string, project_id: string | null): Promise<HeldRoles> {
  const global = await db.selectFrom('user_role_association').select('role').where('user_id', '=', user_id).execute();
  const project =
    project_id === null
      ? []
      : await db
          .selectFrom('user_project_role_association')
          .select('role')
          .where('user_id', '=', user_id)
          .where('project_id', '=', project_id)
          .execute();
  return { global: global.map((row) => row.role), project: project.map((row) => row.role) };
}

/** Having it already is fine. @throws UserNotFound, ProjectNotFound */
export async function insertRole(tx: Tx, user_id: string, role: string, project_id: string | null): Promise<void> {
  await holdUser(tx, user_id);
  if (project_id === null) {
    await tx
      .insertInto('user_role_association')
      .values({ user_id, role })
      .onConflict((e) => e.doNothing())
      .execute();
    return;
  }
  await holdProject(tx, project_id);
  await tx
    .insertInto('user_project_role_association')
    .values({ user_id, project_id, role })
    .onConflict((e) => e.doNothing())
    .execute();
}

/** @returns whether the user had it */
export async function deleteRole(db: Db, user_id: string, role: string, project_id: string | null): Promise<boolean> {
  const gone =
    project_id === null
      ? await db
          .deleteFrom('user_role_association')
          .where('user_id', '=', user_id)
          .where('role', '=', role)
          .executeTakeFirst()
      : await db
          .deleteFrom('user_project_role_association')
          .where('user_id', '=', user_id)
          .where('project_id', '=', project_id)
          .where('role', '=', role)
          .executeTakeFirst();
  return gone.numDeletedRows > 0n;
}
