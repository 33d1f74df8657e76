import type { Transaction } from 'kysely';
import type { Schema } from '../schema.ts';

/** How the metadata service answers an instance. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema.alterTable('instances').addColumn('http_tokens', 'text').execute();
  await tx.schema.alterTable('instances').addColumn('http_endpoint', 'text').execute();
}
