import type { Transaction } from 'kysely';
import type { Schema } from '../schema.ts';

/** Since when a service reports without a break. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema.alterTable('services').addColumn('reporting_since', 'text').execute();
}
