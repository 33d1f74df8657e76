import type { Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { Conflict, SecurityGroupExists, SecurityGroupNotFound } from '../errors.ts';
import { changed, isUniqueViolation, type Db, type Tx } from './connect.ts';
import { instanceUsage } from './instances.ts';
import type { SecurityGroupsTable } from './schema.ts';

export type SecurityGroup = Selectable<SecurityGroupsTable>;

/** For people: `sg-0000000a`. */
export const ec2GroupId = (id: number): string => `sg-${id.toString(16).padStart(8, '0')}`;

/** Every project has the group `default`; it is made when it is first asked for. */
export async function ensureDefaultGroup(db: Db, project_id: string, user_id: string): Promise<void> {
  await db
    .insertInto('security_groups')
    .values({ name: 'default', description: 'default', user_id, project_id, created_at: nowText() })
    .onConflict((c) => c.doNothing()) // a bound deleted = ? does not match the partial index
    .execute();
}

/** @throws SecurityGroupExists */
export async function insertGroup(
  tx: Tx,
  columns: Pick<SecurityGroup, 'name' | 'description' | 'user_id' | 'project_id'>,
): Promise<SecurityGroup> {
  try {
    return await tx
      .insertInto('security_groups')
      .values({ ...columns, created_at: nowText() })
      .returningAll()
      .executeTakeFirstOrThrow();
  } catch (err) {
    if (!isUniqueViolation(err)) throw err;
    throw new SecurityGroupExists(`project ${columns.project_id} has a security group ${columns.name} already`, {
      cause: err,
    });
  }
}

const live = (db: Db) => db.selectFrom('security_groups').selectAll().where('deleted', '=', 0);

export const groupsOfProject = (db: Db, project_id: string): Promise<SecurityGroup[]> =>
  live(db).where('project_id', '=', project_id).orderBy('name').execute();

/** Of all projects, for an administrator. */
export const allGroups = (db: Db): Promise<SecurityGroup[]> => live(db).orderBy('project_id').orderBy('name').execute();

export const groupById = (db: Db, id: number): Promise<SecurityGroup | undefined> =>
  live(db).where('id', '=', id).executeTakeFirst();

/** @throws SecurityGroupNotFound */
export async function groupByName(db: Db, project_id: string, name: string): Promise<SecurityGroup> {
  const row = await live(db).where('project_id', '=', project_id).where('name', '=', name).executeTakeFirst();
  if (!row) throw new SecurityGroupNotFound(`project ${project_id} has no security group ${name.slice(0, 255)}`);
  return row;
}

/** Ids in the order of the names. @throws SecurityGroupNotFound naming the first that is missing */
export async function groupIdsByName(db: Db, project_id: string, names: readonly string[]): Promise<number[]> {
  if (names.length === 0) return [];
  const rows = await db
    .selectFrom('security_groups')
    .select(['id', 'name'])
    .where('project_id', '=', project_id)
    .where('name', 'in', [...names])
    .where('deleted', '=', 0)
    .execute();
  return names.map((name) => {
    const row = rows.find((group) => group.name === name);
    if (!row) throw new SecurityGroupNotFound(`project ${project_id} has no security group ${name}`);
    return row.id;
  });
}

/** Live instances in a group. */
export const membersOfGroup = async (db: Db, id: number): Promise<number[]> => {
  const rows = await db
    .selectFrom('security_group_instance_association')
    .select('instance_id')
    .where('security_group_id', '=', id)
    .where('deleted', '=', 0)
    .orderBy('instance_id')
    .execute();
  return rows.map((row) => row.instance_id);
};

/** Groups that an instance is in. */
export const groupsOfInstance = async (db: Db, instance_id: number): Promise<number[]> => {
  const rows = await db
    .selectFrom('security_group_instance_association')
    .select('security_group_id')
    .where('instance_id', '=', instance_id)
    .where('deleted', '=', 0)
    .orderBy('security_group_id')
    .execute();
  return rows.map((row) => row.security_group_id);
};

/** @returns whether it was not in it before */
export async function joinGroup(tx: Tx, security_group_id: number, instance_id: number): Promise<boolean> {
  const row = await tx
    .insertInto('security_group_instance_association')
    .values({ security_group_id, instance_id, created_at: nowText() })
    .onConflict((c) => c.doNothing())
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

/** @returns whether it was in it */
export async function leaveGroup(tx: Tx, security_group_id: number, instance_id: number): Promise<boolean> {
  const result = await tx
    .updateTable('security_group_instance_association')
    .set(GONE())
    .where('security_group_id', '=', security_group_id)
    .where('instance_id', '=', instance_id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Which of the groups that an instance is in let others in elsewhere: a change of it is one of theirs. */
export const sourceGroupsOf = async (db: Db, instance_id: number): Promise<number[]> => {
  const rows = await db
    .selectFrom('security_group_instance_association as link')
    .innerJoin('security_group_rules as rule', 'rule.group_id', 'link.security_group_id')
    .select('link.security_group_id')
    .distinct()
    .where('link.instance_id', '=', instance_id)
    .where('rule.deleted', '=', 0)
    .execute();
  return rows.map((row) => row.security_group_id);
};

const GONE = () => ({ deleted: 1, deleted_at: nowText() });

/** The group and its rules. @returns whether it was there */
export async function removeGroup(tx: Tx, id: number): Promise<boolean> {
  await tx
    .updateTable('security_group_rules')
    .set(GONE())
    .where('parent_group_id', '=', id)
    .where('deleted', '=', 0)
    .execute();
  const result = await tx
    .updateTable('security_groups')
    .set(GONE())
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(result) === 1;
}

/** Takes away all groups of a project, and rules that let them in elsewhere. @throws Conflict while it has instances */
export async function scrubProjectGroups(tx: Tx, project_id: string): Promise<void> {
  const { instances } = await instanceUsage(tx, project_id);
  if (instances > 0) throw new Conflict(`${project_id} has ${instances} instances: terminate them first`);
  const gone = GONE();
  const ids = (await groupsOfProject(tx, project_id)).map((group) => group.id);
  if (ids.length === 0) return;
  await tx
    .updateTable('security_group_rules')
    .set(gone)
    .where((e) => e.or([e('parent_group_id', 'in', ids), e('group_id', 'in', ids)]))
    .where('deleted', '=', 0)
    .execute();
  await tx.updateTable('security_groups').set(gone).where('id', 'in', ids).where('deleted', '=', 0).execute();
}
