import type { PostgresPoolClient } from 'kysely';
import type { Pool, PoolClient } from 'pg';
import { databaseError } from './failures.ts';
import { PostgresDialect } from './kysely.ts';

/** PostgreSQL whose errors say in our words when it is away, and whose connections end with a query that timed out. */
export class PostgresqlDialect extends PostgresDialect {
  constructor(pool: Pool) {
    super({ pool: { connect: async () => lent(await pool.connect().catch(rethrow)), end: () => pool.end() } });
    // A connection that breaks tells its query, and the pool makes a new one; without a listener it would end the process.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => client.on('error', () => undefined));
  }
}

/** A connection of the pool, for as long as one query or transaction has it. */
function lent(client: PoolClient): PostgresPoolClient {
  const query = (text: string, parameters: readonly unknown[]) =>
    client.query(text, [...parameters]).catch((err: unknown) => {
      // The server may be at it still. A rollback would wait behind it, time out too and never be sent, and whoever has the
      // connection next would be in a transaction that is not theirs. Ended, it fails the rollback at once, the pool drops
      // it, and the server rolls back.
      if (isTimeout(err)) void client.end();
      return rethrow(err);
    });
  // Kysely's type has cursors too, which nothing of ours uses.
  return { query: query as unknown as PostgresPoolClient['query'], release: () => client.release() };
}

/** The client's own, after `query_timeout`; the pg module has no code for it. */
const isTimeout = (err: unknown): boolean => err instanceof Error && err.message === 'Query read timeout';

function rethrow(err: unknown): never {
  throw databaseError(err);
}
