import type { Transaction } from 'kysely';
import type { Schema } from '../schema.ts';

/** Jobs of a resource and of a request are found among the finished ones of a week. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  const index = (name: string) => tx.schema.createIndex(name).on('jobs');
  await index('jobs_resource_id').columns(['resource', 'id']).execute();
  await index('jobs_request_id').column('request_id').execute();
}
