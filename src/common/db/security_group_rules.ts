import type { Insertable } from 'kysely';
import { nowText } from '../clock.ts';
import { changed, type Db, type Tx } from './connect.ts';
import type { SecurityGroupRulesTable } from './schema.ts';

/** One rule, with its source group by name where it has one. */
export interface SecurityGroupRule {
  id: number;
  parent_group_id: number;
  /** `-1`: every protocol. */
  protocol: string;
  from_port: number | null;
  to_port: number | null;
  cidr: string | null;
  group_id: number | null;
  source_name: string | null;
  source_project: string | null;
}

const rules = (db: Db) =>
  db
    .selectFrom('security_group_rules as rule')
    .leftJoin('security_groups as source', 'source.id', 'rule.group_id')
    .select(['rule.id', 'rule.parent_group_id', 'rule.protocol', 'rule.from_port', 'rule.to_port', 'rule.cidr'])
    .select(['rule.group_id', 'source.name as source_name', 'source.project_id as source_project'])
    .where('rule.deleted', '=', 0)
    .orderBy('rule.id');

/** Who is let into these groups. */
export async function rulesOfGroups(db: Db, group_ids: readonly number[]): Promise<SecurityGroupRule[]> {
  if (group_ids.length === 0) return [];
  return rules(db)
    .where('rule.parent_group_id', 'in', [...group_ids])
    .execute();
}

/** What a host's packet filter is made of; of a host of many guests these are many. */
export type FilterRule = Pick<
  SecurityGroupRule,
  'parent_group_id' | 'protocol' | 'from_port' | 'to_port' | 'cidr' | 'group_id'
>;

export async function filterRulesOf(db: Db, group_ids: readonly number[]): Promise<FilterRule[]> {
  if (group_ids.length === 0) return [];
  return db
    .selectFrom('security_group_rules')
    .select(['parent_group_id', 'protocol', 'from_port', 'to_port', 'cidr', 'group_id'])
    .where('parent_group_id', 'in', [...group_ids])
    .where('deleted', '=', 0)
    .orderBy('parent_group_id') // as the index has them
    .orderBy('id')
    .execute();
}

export const ruleById = (db: Db, id: number): Promise<SecurityGroupRule | undefined> =>
  rules(db).where('rule.id', '=', id).executeTakeFirst();

/** Groups, other than itself, whose rules let this one in. */
export const groupsThatLetIn = (db: Db, group_id: number): Promise<{ name: string; project_id: string }[]> =>
  db
    .selectFrom('security_group_rules as rule')
    .innerJoin('security_groups as parent', 'parent.id', 'rule.parent_group_id')
    .select(['parent.name', 'parent.project_id'])
    .distinct()
    .where('rule.group_id', '=', group_id)
    .where('rule.parent_group_id', '!=', group_id)
    .where('rule.deleted', '=', 0)
    .execute();

/** @returns its id */
export async function insertRule(
  tx: Tx,
  columns: Omit<Insertable<SecurityGroupRulesTable>, 'created_at'>,
): Promise<number> {
  const { id } = await tx
    .insertInto('security_group_rules')
    .values({ ...columns, created_at: nowText() })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** @returns whether it was there */
export async function removeRule(tx: Tx, id: number): Promise<boolean> {
  const result = await tx
    .updateTable('security_group_rules')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return changed(result) === 1;
}
