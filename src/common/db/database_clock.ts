import { clock } from '../clock.ts';
import type { NovaDb } from './connect.ts';
import { sql } from './kysely.ts';

export interface ClockReading {
  mine: Date;
  database: Date;
  /** How far this host's clock is ahead at least, whatever the answer took; negative: behind. */
  ahead_ms: number;
}

/** This host's clock and the database server's; undefined with SQLite, whose file is this host's. */
export async function databaseClock(db: NovaDb): Promise<ClockReading | undefined> {
  if (db.dialect === 'sqlite') return undefined;
  const asked_ms = clock.now().getTime();
  // Not now(), which is when the transaction began.
  const { rows } = await sql<{ ms: number }>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`.execute(db); // prettier-ignore
  const mine = clock.now();
  const database_ms = rows[0]?.ms ?? asked_ms;
  const nearest_ms = Math.min(Math.max(database_ms, asked_ms), mine.getTime());
  return { mine, database: new Date(database_ms), ahead_ms: nearest_ms - database_ms };
}
