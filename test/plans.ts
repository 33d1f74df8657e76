import type { KyselyPlugin, RootOperationNode } from 'kysely';
import type { Db, NovaDb } from '../src/common/db/connect.ts';
import { sql } from '../src/common/db/kysely.ts';

/** Rows that a question about a few of them may look at on its way. */
const FEW = 500;

/**
 * Which of the tables the database goes through from end to end for the queries of `work`, one line each: of SQLite by its plan, of
 * PostgreSQL by the rows that it looked at, for which the tables have to be filled with far more rows than are asked for.
 */
export async function scansOf(
  db: NovaDb,
  tables: readonly string[],
  work: (db: Db) => Promise<unknown>,
): Promise<string[]> {
  const asked: RootOperationNode[] = [];
  const listening: KyselyPlugin = {
    transformQuery: ({ node }) => (asked.push(node), node),
    transformResult: async ({ result }) => result,
  };
  await work(db.withPlugin(listening));
  const found: string[] = [];
  for (const node of asked) {
    const { sql: text, parameters } = db.getExecutor().compileQuery(node, { queryId: 'plan' });
    const explain = db.dialect === 'sqlite' ? 'explain query plan' : 'explain (analyze, format json)';
    const parts = text.split(/\?|\$\d+/).map((part, i) => (i === 0 ? `${explain} ${part}` : part));
    const { rows } = await sql(parts as unknown as TemplateStringsArray, ...parameters).execute(db);
    const scans =
      db.dialect === 'sqlite' ? await scansOfSqlite(db, tables, rows as SqliteStep[]) : scansOfPostgresql(tables, rows);
    found.push(...scans.map((scan) => `${scan}: ${text}`));
  }
  return found;
}

interface SqliteStep {
  detail: string;
}

/** Going through a partial index is no scan: it holds what is asked for. */
async function scansOfSqlite(db: NovaDb, tables: readonly string[], steps: readonly SqliteStep[]): Promise<string[]> {
  const indexes = sql<{ name: string }>`select name from sqlite_master where type = 'index' and sql like '% where %'`;
  const partial = new Set((await indexes.execute(db)).rows.map(({ name }) => name));
  return steps
    .map(({ detail }) => detail)
    .filter((detail) => {
      const [, table, index] = /^SCAN (\w+)(?: .*INDEX (\w+))?/.exec(detail) ?? [];
      return table !== undefined && tables.includes(table) && !(index !== undefined && partial.has(index));
    });
}

interface PostgresqlStep {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  Plans?: PostgresqlStep[];
}

function scansOfPostgresql(tables: readonly string[], rows: readonly unknown[]): string[] {
  const [{ Plan: plan }] = (rows as [{ 'QUERY PLAN': [{ Plan: PostgresqlStep }] }])[0]['QUERY PLAN'];
  const steps = (step: PostgresqlStep): PostgresqlStep[] => [step, ...(step.Plans ?? []).flatMap(steps)];
  return steps(plan)
    .filter((step) => tables.includes(step['Relation Name'] ?? ''))
    .map((step) => ({
      what: `${step['Node Type']} of ${step['Relation Name']}`,
      rows: (step['Actual Rows'] + (step['Rows Removed by Filter'] ?? 0)) * step['Actual Loops'],
    }))
    .filter((step) => step.rows > FEW)
    .map((step) => `${step.what}, ${step.rows} rows`);
}
