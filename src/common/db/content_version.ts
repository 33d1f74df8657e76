import type { CompiledQuery } from 'kysely';
import type { NovaDb } from './connect.ts';
import { sql } from './kysely.ts';

/**
 * Asks for a text that every commit changes, whoever makes it: two equal ones mean that nothing was written between the
 * two questions. Costs microseconds on SQLite, a round trip on PostgreSQL, however much the database holds.
 *
 * SQLite: data_version tells this connection that another has committed; in memory there is one connection only, and
 * total_changes tells what it did. PostgreSQL: a snapshot names the transactions it sees; each write makes another.
 */
export function contentVersion(db: NovaDb): () => Promise<string> {
  let question: Promise<Question> | undefined; // compiled once: it is asked all the time
  return async () => {
    question ??= db.dialect === 'postgresql' ? Promise.resolve(snapshot(db)) : dataVersion(db);
    const { rows } = await db.executeQuery(await question);
    return Object.values(rows[0] ?? {}).join();
  };
}

type Question = CompiledQuery<Record<string, string | number>>;

const snapshot = (db: NovaDb): Question =>
  sql<{ version: string }>`select pg_current_snapshot()::text as version`.compile(db);

async function dataVersion(db: NovaDb): Promise<Question> {
  const { rows } = await sql<{ file: string }>`pragma database_list`.execute(db);
  const in_memory = rows[0]?.file === '';
  return in_memory
    ? sql<{ changes: number }>`select total_changes() as changes`.compile(db)
    : sql<{ data_version: number }>`pragma data_version`.compile(db);
}
