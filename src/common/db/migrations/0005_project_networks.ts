import type { Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';

/** Networks that projects claim by themselves, and give back; of a VLAN there is one. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema.alterTable('networks').addColumn('claimed_at', 'text').execute();
  await tx.schema
    .createIndex('networks_vlan')
    .on('networks')
    .column('vlan')
    .unique()
    .where(sql<boolean>`deleted = 0`)
    .execute();
}
