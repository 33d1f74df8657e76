import type { Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';

/** When the sweep looks into an image whose bytes are still to come. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema.alterTable('images').addColumn('task_deadline', 'text').execute();
  await sql`update images set task_deadline = created_at where status = 'queued' and deleted = 0`.execute(tx);
  await tx.schema
    .createIndex('images_deadline')
    .on('images')
    .column('task_deadline')
    .where(sql<boolean>`task_deadline is not null`)
    .execute();
}
