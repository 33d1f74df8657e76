import { sleep } from '../clock.ts';
import { dbFlags } from '../core_flags.ts';
import { DatabaseUnavailable, DatabaseUnusable } from '../errors.ts';
import type { Flags } from '../flags.ts';
import type { Log } from '../log.ts';
import { databaseErrorAtStart } from './failures.ts';

/**
 * Does what the start of a daemon needs of the database, and does it anew while the database is away, as often as
 * --sql_max_retries says. @throws DatabaseUnusable that names --sql_connection, and what `work` throws besides
 */
export async function atStart<T>({ flags, log }: { flags: Flags; log: Log }, work: () => Promise<T>): Promise<T> {
  const { sql_connection, sql_max_retries, sql_retry_interval } = flags.read(dbFlags);
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (err) {
      const may_pass = err instanceof DatabaseUnavailable && !(err instanceof DatabaseUnusable);
      if (!may_pass || (sql_max_retries >= 0 && attempt > sql_max_retries))
        throw databaseErrorAtStart(err, sql_connection);
      log.warn({ err, attempt }, 'database not reached, trying on');
      await sleep(sql_retry_interval * 1000);
    }
  }
}
