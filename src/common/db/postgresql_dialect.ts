import type { DatabaseConnection, Driver } from 'kysely';
import type { Pool } from 'pg';
import { databaseError } from './failures.ts';
import { PostgresDialect, PostgresDriver } from './kysely.ts';

/** PostgreSQL whose errors say in our words when it is away. */
export class PostgresqlDialect extends PostgresDialect {
  readonly #pool: Pool;
  constructor(pool: Pool) {
    super({ pool });
    this.#pool = pool;
    // A connection that breaks tells its query, and the pool makes a new one; without a listener it would end the process.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => client.on('error', () => undefined));
  }
  override createDriver(): Driver {
    return new PostgresqlDriver({ pool: this.#pool });
  }
}

class PostgresqlDriver extends PostgresDriver {
  /** Connections of the pool, which come back again and again. */
  readonly #known = new WeakSet<DatabaseConnection>();

  override async acquireConnection(): Promise<DatabaseConnection> {
    const connection = await super.acquireConnection().catch(rethrow);
    if (this.#known.has(connection)) return connection;
    this.#known.add(connection);
    const executeQuery = connection.executeQuery.bind(connection);
    connection.executeQuery = (query) => executeQuery(query).catch(rethrow) as ReturnType<typeof executeQuery<never>>;
    return connection;
  }
}

function rethrow(err: unknown): never {
  throw databaseError(err);
}
