import type { Transaction } from 'kysely';
import type { Schema } from '../schema.ts';

/** A launch that fails deletes the volumes that were made for it and no others. Of those from before, none is known to be. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema
    .alterTable('volume_attachments')
    .addColumn('made_for_launch', 'integer', (c) => c.notNull().defaultTo(0))
    .execute();
}
