import { resolve } from 'node:path';
import type { Dialect as KyselyDialect, Kysely as AnyKysely, Transaction } from 'kysely';
import { sleep } from '../clock.ts';
import type { RequestContext } from '../context.ts';
import { InvalidInput, ProjectNotFound } from '../errors.ts';
import { Kysely } from './kysely.ts';
import { PostgresqlDialect } from './postgresql_dialect.ts';
import type { Schema } from './schema.ts';
import { SqliteDialect } from './sqlite_dialect.ts';

export type Dialect = 'sqlite' | 'postgresql';
export type Tx = Transaction<Schema>;
/** What a repository function reads from: the database, or the transaction under way. */
export type Db = AnyKysely<Schema>;

/** A cast whose job row was just committed, on its way to the bus. */
export interface CastHint {
  job_id: number;
  topic: string;
  host: string | null;
  method: string;
  args: Record<string, unknown>;
  context: RequestContext;
}

export class NovaDb extends Kysely<Schema> {
  readonly dialect: Dialect;
  /** Told of the casts of each committed transaction; the daemon points it at its bus. */
  afterCommit: (hints: readonly CastHint[]) => void = () => undefined;
  constructor(kysely_dialect: KyselyDialect, dialect: Dialect) {
    super({ dialect: kysely_dialect });
    this.dialect = dialect;
  }
}

/** The file of `sqlite:///FILE`; null for any other database. */
export const sqliteFile = (url: string): string | null =>
  url.startsWith('sqlite:///') && !url.endsWith('/:memory:') ? resolve(url.slice('sqlite:///'.length)) : null;

/** Longer than any query of ours takes: nobody waits for ever for a server that hangs. */
const QUERY_TIMEOUT_MS = 30_000;

/**
 * Opens `sqlite:///FILE` (an absolute FILE gives four slashes), `sqlite://` (in memory) or `postgresql://user:pw@host/db`.
 * No connection is made before the first query. @throws InvalidInput for other URLs
 */
export async function connectDb(
  url: string,
  options: { max_connections?: number; query_timeout_ms?: number } = {},
): Promise<NovaDb> {
  if (url === 'sqlite://' || url === 'sqlite:///:memory:') return new NovaDb(new SqliteDialect(':memory:'), 'sqlite');
  const file = sqliteFile(url);
  if (file !== null) return new NovaDb(new SqliteDialect(file), 'sqlite');
  if (/^postgres(ql)?:\/\//.test(url)) {
    const { default: pg } = await import('pg'); // loaded only where it is used: 8 MB
    pg.types.setTypeParser(pg.types.builtins.INT8, Number);
    const pool = new pg.Pool({
      connectionString: url,
      max: options.max_connections ?? 10,
      connectionTimeoutMillis: 10_000,
      query_timeout: options.query_timeout_ms ?? QUERY_TIMEOUT_MS,
      keepAlive: true, // a server whose machine is gone is noticed
    });
    return new NovaDb(new PostgresqlDialect(pool), 'postgresql');
  }
  throw new InvalidInput(
    `--sql_connection=${url.replace(/:[^:@/]*@/, ':***@')}: not a database URL; known are sqlite:///FILE and postgresql://USER:PASSWORD@HOST/NAME`,
  );
}

const pending = new WeakMap<Tx, CastHint[]>();

/** Adds to what is published when `tx` commits; see rpc/jobs.ts. */
export function publishAfterCommit(tx: Tx, hint: CastHint): void {
  pending.get(tx)?.push(hint);
}

const ATTEMPTS = 20;
/** Serialization failure and deadlock: nothing was done. */
const isTransient = (err: unknown): boolean => ['40001', '40P01'].includes(String((err as { code?: unknown }).code));

/**
 * One write transaction (SQLite: BEGIN IMMEDIATE). `work` holds database calls only and may run more than once.
 * Casts made inside go to the bus after the commit.
 */
export async function writing<T>(db: NovaDb, work: (tx: Tx) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const hints: CastHint[] = [];
    try {
      const result = await db.transaction().execute(async (tx) => {
        pending.set(tx, hints);
        return work(tx);
      });
      if (hints.length > 0) db.afterCommit(hints);
      return result;
    } catch (err) {
      if (!isTransient(err) || attempt >= ATTEMPTS) throw err;
      await sleep(Math.random() * 10 * attempt);
    }
  }
}

export const isUniqueViolation = (err: unknown): boolean =>
  ['SQLITE_CONSTRAINT_UNIQUE', 'SQLITE_CONSTRAINT_PRIMARYKEY', '23505'].includes(
    String((err as { code?: unknown }).code),
  );

/** Rows a guarded update changed. */
export const changed = (result: { numUpdatedRows: bigint }): number => Number(result.numUpdatedRows);

/**
 * Makes writers of one project wait for each other until the transaction ends, so that counting and inserting are one,
 * and keeps the project there. SQLite has one writer anyway. @throws ProjectNotFound
 */
export async function lockProject(tx: Tx, dialect: Dialect, project_id: string): Promise<void> {
  const query = tx.selectFrom('projects').select('id').where('id', '=', project_id);
  const row = await (dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst();
  if (!row) throw new ProjectNotFound(`there is no project ${project_id}`);
}
