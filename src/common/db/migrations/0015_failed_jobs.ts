import type { Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';

/** Failed jobs are found among the finished ones of a week. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  const failed = sql<boolean>`state = 'failed'`;
  await tx.schema.createIndex('jobs_failed').on('jobs').column('id').where(failed).execute();
}
