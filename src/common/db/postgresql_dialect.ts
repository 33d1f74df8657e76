import type { PostgresPoolClient } from 'kysely';
import type { Pool, PoolClient } from 'pg';
import { databaseError, isStalePlan } from './failures.ts';
import { PostgresDialect } from './kysely.ts';

/** PostgreSQL whose errors say in our words when it is away, and whose connections end with a query that timed out. */
export class PostgresqlDialect extends PostgresDialect {
  constructor(pool: Pool) {
    const names = new StatementNames();
    super({ pool: { connect: async () => lent(await pool.connect().catch(rethrow), names), end: () => pool.end() } });
    // A connection that breaks tells its query, and the pool makes a new one; without a listener it would end the process.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => client.on('error', () => undefined));
  }
}

/** A connection of the pool, for as long as one query or transaction has it. */
function lent(client: PoolClient, names: StatementNames): PostgresPoolClient {
  const query = (text: string, parameters: readonly unknown[]) => {
    // A text without parameters may be several statements, which cannot be prepared.
    const name = parameters.length > 0 ? names.of(text) : undefined;
    return client.query({ text, values: [...parameters], ...(name && { name }) }).catch((err: unknown) => {
      // The server may be at it still. A rollback would wait behind it, time out too and never be sent, and whoever has the
      // connection next would be in a transaction that is not theirs. Ended, it fails the rollback at once, the pool drops
      // it, and the server rolls back.
      // A statement prepared before a migration may not fit the table any more; those of a new connection do.
      if (isTimeout(err) || isStalePlan(err)) void client.end();
      return rethrow(err);
    });
  };
  // Kysely's type has cursors too, which nothing of ours uses.
  return { query: query as unknown as PostgresPoolClient['query'], release: () => client.release() };
}

/** The client's own, after `query_timeout`; the pg module has no code for it. */
const isTimeout = (err: unknown): boolean => err instanceof Error && err.message === 'Query read timeout';

/** As many statements the server keeps, on each connection. */
const MOST_NAMED = 250;
const NAMED_AT_USE = 5;
/** Texts whose uses are counted; those of lists that are never as long again would have no end. */
const MOST_COUNTED = 2000;

/**
 * Names for the statements that come again and again: a named one the server parses once for each connection, and plans no
 * more after a few uses where one plan does for all values. That is half of what a small statement costs.
 */
class StatementNames {
  readonly #names = new Map<string, string>();
  readonly #uses = new Map<string, number>();

  of(text: string): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined || this.#names.size >= MOST_NAMED) return known;
    const uses = (this.#uses.get(text) ?? 0) + 1;
    if (this.#uses.size >= MOST_COUNTED) this.#uses.clear();
    this.#uses.set(text, uses);
    if (uses < NAMED_AT_USE) return undefined;
    this.#uses.delete(text);
    const name = `nova${this.#names.size}`;
    this.#names.set(text, name);
    return name;
  }
}

function rethrow(err: unknown): never {
  throw databaseError(err);
}
