import type { Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';

/** What is asked of tables that keep their deleted rows is found among those, however many they are. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  const live = sql<boolean>`deleted = 0`;
  for (const table of ['instances', 'volumes', 'images'] as const)
    await tx.schema.createIndex(`${table}_live`).on(table).column('id').where(live).execute(); // an admin's lists
  // The groups that an instance was in, and what they let in elsewhere: sourceGroupsOf.
  await tx.schema
    .createIndex('security_group_instance_association_instance_id')
    .on('security_group_instance_association')
    .column('instance_id')
    .execute();
  await tx.schema
    .createIndex('security_group_rules_group_id')
    .on('security_group_rules')
    .column('group_id')
    .where(live)
    .execute();
}
