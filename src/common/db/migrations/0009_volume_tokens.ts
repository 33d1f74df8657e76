import type { Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';

/** A volume that is asked for twice with one token is one volume. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  await tx.schema.alterTable('volumes').addColumn('client_token', 'text').execute();
  await tx.schema.alterTable('volumes').addColumn('request_hash', 'text').execute();
  await tx.schema
    .createIndex('volumes_token')
    .on('volumes')
    .columns(['project_id', 'client_token'])
    .unique()
    .where(sql<boolean>`client_token is not null`)
    .execute();
}
