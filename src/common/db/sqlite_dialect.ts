import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import SqliteDatabase from 'better-sqlite3';
import type { CompiledQuery, DatabaseConnection, Dialect, Driver, QueryResult, OperationNode } from 'kysely';
import { sleep } from '../clock.ts';
import { databaseError } from './failures.ts';
import { RawNode, SelectQueryNode, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from './kysely.ts';

/**
 * SQLite for a process of many concurrent requests. Kysely's own driver hands out one connection, so a transaction stops
 * every read, and it begins deferred, so two processes meet in SQLITE_BUSY at their first write. Here:
 *
 *   read  outside a transaction ──> reader handle, at once (write-ahead log: never waits for a writer)
 *   write outside a transaction ──> waits for the process's turn ──> writer handle
 *   transaction                 ──> waits for the turn ──> BEGIN IMMEDIATE on the writer handle ... COMMIT ──> turn over
 *
 * A busy database is retried here, in JavaScript with jitter: sqlite's own busy_timeout would stop the event loop.
 */
export class SqliteDialect implements Dialect {
  readonly #path: string;
  constructor(path: string) {
    this.#path = path;
  }
  createDriver = (): Driver => new SqliteDriver(this.#path);
  createQueryCompiler = () => new SqliteQueryCompiler();
  createAdapter = () => new SqliteAdapter();
  createIntrospector = (db: ConstructorParameters<typeof SqliteIntrospector>[0]) => new SqliteIntrospector(db);
}

const BUSY_LIMIT_MS = 30_000;
const STATEMENT_CACHE = 500;

interface Prepared {
  statement: SqliteDatabase.Statement;
  /** Of the columns that it gives; absent when it gives no rows. */
  names?: readonly string[];
}

/** One sqlite handle with its prepared statements. */
class Handle {
  readonly #db: SqliteDatabase.Database;
  readonly #prepared = new Map<string, Prepared>();
  constructor(path: string) {
    this.#db = new SqliteDatabase(path, { timeout: 0 });
  }
  /** A full or failing disk may have ended the transaction already. */
  get inTransaction(): boolean {
    return this.#db.inTransaction;
  }
  pragma(text: string): void {
    this.#db.pragma(text);
  }
  run(text: string, parameters: readonly unknown[]): QueryResult<unknown> {
    const { statement, names } = this.#prepared.get(text) ?? this.#prepare(text);
    if (names) return { rows: (statement.all(...parameters) as unknown[][]).map((values) => rowOf(names, values)) };
    const { changes, lastInsertRowid } = statement.run(...parameters);
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  }
  #prepare(text: string): Prepared {
    const statement = this.#db.prepare(text);
    const prepared = statement.reader
      ? { statement: statement.raw(), names: statement.columns().map(({ name }) => name) }
      : { statement };
    if (this.#prepared.size >= STATEMENT_CACHE) this.#prepared.clear();
    this.#prepared.set(text, prepared);
    return prepared;
  }
  close(): void {
    this.#db.close();
  }
}

/** Made here of bare values, a wide row takes half the time that it takes better-sqlite3. */
function rowOf(names: readonly string[], values: readonly unknown[]): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (let i = 0; i < names.length; i++) row[names[i] as string] = values[i];
  return row;
}

const isBusy = (err: unknown): boolean => /^SQLITE_(BUSY|LOCKED)/.test(String((err as { code?: unknown }).code));

async function retryingBusy(run: () => QueryResult<unknown>): Promise<QueryResult<unknown>> {
  const until = Date.now() + BUSY_LIMIT_MS;
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    try {
      return run();
    } catch (err) {
      if (!isBusy(err) || Date.now() > until) throw databaseError(err);
      await sleep(Math.random() * wait);
    }
  }
}

class SqliteDriver implements Driver {
  readonly #path: string;
  #writer!: Handle;
  #reader!: Handle;
  #turn: Promise<void> = Promise.resolve();
  constructor(path: string) {
    this.#path = path;
  }
  async init(): Promise<void> {
    const in_memory = this.#path === ':memory:';
    try {
      if (!in_memory) mkdirSync(dirname(this.#path), { recursive: true });
      this.#writer = new Handle(this.#path);
      this.#reader = in_memory ? this.#writer : new Handle(this.#path);
    } catch (err) {
      throw databaseError(err);
    }
    if (in_memory) return;
    // NORMAL: a killed process loses nothing; a power cut may lose the last commits but never half of one.
    for (const handle of [this.#writer, this.#reader])
      for (const pragma of ['journal_mode = WAL', 'synchronous = NORMAL', 'cache_size = -8000'])
        await retryingBusy(() => (handle.pragma(pragma), { rows: [] }));
  }
  async acquireConnection(): Promise<SqliteConnection> {
    return new SqliteConnection(this.#writer, this.#reader, () => this.#takeTurn());
  }
  /** First come, first served; the returned function ends the turn. */
  async #takeTurn(): Promise<() => void> {
    const before = this.#turn;
    let done!: () => void;
    this.#turn = new Promise((resolve) => (done = resolve));
    await before;
    return done;
  }
  beginTransaction = (connection: DatabaseConnection) => (connection as SqliteConnection).begin();
  commitTransaction = (connection: DatabaseConnection) => (connection as SqliteConnection).end('commit');
  rollbackTransaction = (connection: DatabaseConnection) => (connection as SqliteConnection).end('rollback');
  async releaseConnection(): Promise<void> {}
  async destroy(): Promise<void> {
    this.#writer.close();
    if (this.#reader !== this.#writer) this.#reader.close();
  }
}

/** Queries of Kysely's, and questions about the database itself. */
const onlyReads = (query: OperationNode): boolean =>
  SelectQueryNode.is(query) ||
  (RawNode.is(query) && /^pragma (data_version|database_list)$/.test(query.sqlFragments.join('')));

class SqliteConnection implements DatabaseConnection {
  readonly #writer: Handle;
  readonly #reader: Handle;
  readonly #takeTurn: () => Promise<() => void>;
  #end_turn: (() => void) | undefined;
  constructor(writer: Handle, reader: Handle, takeTurn: () => Promise<() => void>) {
    this.#writer = writer;
    this.#reader = reader;
    this.#takeTurn = takeTurn;
  }
  async begin(): Promise<void> {
    const end_turn = await this.#takeTurn();
    try {
      await retryingBusy(() => this.#writer.run('begin immediate', []));
      this.#end_turn = end_turn;
    } catch (err) {
      end_turn();
      throw err;
    }
  }
  /** A commit that fails is rolled back before the turn is over; the rollback that Kysely then asks for finds nothing. */
  async end(how: 'commit' | 'rollback'): Promise<void> {
    const end_turn = this.#end_turn;
    if (!end_turn) return;
    try {
      if (how === 'commit') await retryingBusy(() => this.#writer.run('commit', []));
    } finally {
      if (this.#writer.inTransaction) this.#writer.run('rollback', []);
      this.#end_turn = undefined;
      end_turn();
    }
  }
  async executeQuery<R>({ query, sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const run = (handle: Handle) => retryingBusy(() => handle.run(sql, parameters)) as Promise<QueryResult<R>>;
    if (this.#end_turn) return run(this.#writer);
    if (onlyReads(query) && this.#reader !== this.#writer) return run(this.#reader);
    const end_turn = await this.#takeTurn();
    try {
      return await run(this.#writer);
    } finally {
      end_turn();
    }
  }
  // Kysely asks for the method; nothing of ours streams rows.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('sqlite rows are not streamed');
  }
}
