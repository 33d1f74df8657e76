import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { Conflict, ProjectExists, ProjectNotFound } from '../errors.ts';
import { changed, type Db, type Tx } from './connect.ts';
import { freeFloatingIps } from './floating_associations.ts';
import { ec2ImageId } from './images.ts';
import { instanceUsage } from './instances.ts';
import { releaseNetworks } from './project_networks.ts';
import type { ProjectsTable } from './schema.ts';
import { scrubProjectGroups } from './security_groups.ts';
import { checkName, holdUser } from './users.ts';
import { volumeUsage } from './volumes.ts';

/** `id` is the name. */
export type Project = Selectable<ProjectsTable>;

/**
 * The manager is always a member. `description` defaults to the name.
 * @throws InvalidInput, UserNotFound for the manager or a member, ProjectExists
 */
export async function createProject(
  tx: Tx,
  project: { name: string; manager: string; description?: string | undefined; members?: readonly string[] },
): Promise<Project> {
  const { name, manager, description, members = [] } = project;
  checkName('project', name);
  const users = [...new Set([manager, ...members])].sort(); // one order, so that two of these never wait for each other
  for (const user of users) await holdUser(tx, user);
  const row = {
    id: name,
    name,
    description: description === undefined || description === '' ? name : description,
    project_manager: manager,
    created_at: nowText(),
  };
  const made = await tx
    .insertInto('projects')
    .values(row)
    .onConflict((e) => e.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows !== 1n) throw new ProjectExists(`the project ${name} exists already`);
  for (const user of users) await insertMember(tx, name, user);
  return row;
}

const insertMember = async (tx: Tx, project_id: string, user_id: string): Promise<void> => {
  await tx
    .insertInto('user_project_association')
    .values({ user_id, project_id })
    .onConflict((e) => e.doNothing())
    .execute();
};

export const findProject = (db: Db, id: string): Promise<Project | undefined> =>
  db.selectFrom('projects').selectAll().where('id', '=', id).executeTakeFirst();

/** @throws ProjectNotFound */
export async function getProject(db: Db, id: string): Promise<Project> {
  const project = await findProject(db, id);
  if (!project) throw noProject(id);
  return project;
}

const noProject = (id: string): ProjectNotFound => new ProjectNotFound(`there is no project ${id}`);

/** All, or those that a user is a member of, by name. */
export function listProjects(db: Db, user_id?: string): Promise<Project[]> {
  let query = db.selectFrom('projects').selectAll('projects');
  if (user_id !== undefined)
    query = query
      .innerJoin('user_project_association as member', 'member.project_id', 'projects.id')
      .where('member.user_id', '=', user_id);
  return query.orderBy('projects.id').execute();
}

/** @returns user ids, by name */
export async function projectMembers(db: Db, project_id: string): Promise<string[]> {
  const rows = await db
    .selectFrom('user_project_association')
    .select('user_id')
    .where('project_id', '=', project_id)
    .orderBy('user_id')
    .execute();
  return rows.map((row) => row.user_id);
}

export async function isMember(db: Db, project_id: string, user_id: string): Promise<boolean> {
  const row = await db
    .selectFrom('user_project_association')
    .select('user_id')
    .where('project_id', '=', project_id)
    .where('user_id', '=', user_id)
    .executeTakeFirst();
  return row !== undefined;
}

/** The project exists until the transaction ends; see holdUser. @throws ProjectNotFound */
export async function holdProject(tx: Tx, id: string): Promise<void> {
  const held = await tx
    .updateTable('projects')
    .set((e) => ({ name: e.ref('name') }))
    .where('id', '=', id)
    .executeTakeFirst();
  if (changed(held) === 0) throw noProject(id);
}

/** Changes what is given; a new manager becomes a member. @throws UserNotFound, ProjectNotFound */
export async function modifyProject(
  tx: Tx,
  id: string,
  change: { manager?: string | undefined; description?: string | undefined },
): Promise<void> {
  const { manager, description } = change;
  if (manager !== undefined) await holdUser(tx, manager);
  await holdProject(tx, id);
  if (manager !== undefined) {
    await tx.updateTable('projects').set({ project_manager: manager }).where('id', '=', id).execute();
    await insertMember(tx, id, manager);
  }
  if (description !== undefined) await tx.updateTable('projects').set({ description }).where('id', '=', id).execute();
}

/** Being a member already is fine. @throws UserNotFound, ProjectNotFound */
export async function addMember(tx: Tx, project_id: string, user_id: string): Promise<void> {
  await holdUser(tx, user_id);
  await holdProject(tx, project_id);
  await insertMember(tx, project_id, user_id);
}

/**
 * The user's roles and tokens in the project go too. Not being a member is fine.
 * @throws ProjectNotFound, Conflict for the manager, who is always a member
 */
export async function removeMember(tx: Tx, project_id: string, user_id: string): Promise<void> {
  await holdProject(tx, project_id);
  const project = await getProject(tx, project_id);
  if (project.project_manager === user_id)
    throw new Conflict(`${user_id} manages ${project_id}: name another manager first (nova-manage project modify)`);
  for (const table of ['user_project_role_association', 'user_project_association', 'auth_tokens'] as const)
    await tx.deleteFrom(table).where('project_id', '=', project_id).where('user_id', '=', user_id).execute();
}

/**
 * Takes away the project with its memberships, roles, quotas, tokens, security groups; its floating ips are free again.
 * What has contents of its own must be gone before: the next project of that name would have it.
 * @throws ProjectNotFound, Conflict while it has instances, volumes, snapshots or images
 */
export async function deleteProject(tx: Tx, id: string): Promise<void> {
  await holdProject(tx, id);
  const { instances } = await instanceUsage(tx, id);
  if (instances > 0) throw new Conflict(`${id} has ${instances} instances: terminate them first`);
  const { volumes } = await volumeUsage(tx, id);
  if (volumes > 0) throw new Conflict(`${id} has ${volumes} volumes: delete them first`);
  await refuseImages(tx, id);
  await scrubProjectGroups(tx, id);
  for (const table of ['user_project_role_association', 'user_project_association', 'auth_tokens', 'quotas'] as const)
    await tx.deleteFrom(table).where('project_id', '=', id).execute();
  await freeFloatingIps(tx, id);
  await releaseNetworks(tx, id);
  await tx.deleteFrom('projects').where('id', '=', id).execute();
}

const MOST_NAMED = 10;

/** @throws Conflict */
async function refuseImages(tx: Tx, project_id: string): Promise<void> {
  const images = await tx
    .selectFrom('images')
    .select(['id', 'container_format'])
    .where('project_id', '=', project_id)
    .where('deleted', '=', 0)
    .orderBy('id')
    .execute();
  if (images.length === 0) return;
  const named = images.slice(0, MOST_NAMED).map(({ id, container_format }) => ec2ImageId(id, container_format));
  const more = images.length > MOST_NAMED ? ', ...' : '';
  throw new Conflict(`${project_id} has ${images.length} images: delete them first: ${named.join(', ')}${more}`);
}
