import type { Transaction } from 'kysely';
import type { Schema } from '../schema.ts';

/** Jobs whose peer does not answer, and compute hosts whose hypervisor does not. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema.alterTable('jobs').addColumn('away_since', 'text').execute();
  await tx.schema.alterTable('compute_nodes').addColumn('fault', 'text').execute();
  await tx.schema.alterTable('compute_nodes').addColumn('fault_since', 'text').execute();
}
