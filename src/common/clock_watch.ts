import { databaseClock } from './db/database_clock.ts';
import type { NovaDb } from './db/connect.ts';
import { ClockDiffers } from './errors.ts';
import type { Log } from './log.ts';

export interface ClockWatchOptions {
  db: NovaDb;
  log: Log;
  host: string;
  /** Most seconds between this host's clock and the database's. */
  limit_s: number;
}

/**
 * Holds this host's clock against the database's. Heartbeats and leases are written by one host's clock and judged by
 * another's: a host whose clock is behind counts as dead however often it reports, and its jobs are taken from it.
 */
export class ClockWatch {
  readonly #o: ClockWatchOptions;
  #wrong = false;
  constructor(options: ClockWatchOptions) {
    this.#o = options;
  }

  /** @throws ClockDiffers */
  async check(): Promise<void> {
    const fault = await this.#fault(this.#o.limit_s);
    if (fault !== undefined) throw new ClockDiffers(fault);
  }

  /** Tells once of a clock that went wrong, and once when it is well again. */
  async look(): Promise<void> {
    const { log, host, limit_s } = this.#o;
    // Well is half of it, so that one at the limit is not told of each time.
    const fault = await this.#fault(this.#wrong ? limit_s / 2 : limit_s);
    if (fault !== undefined && !this.#wrong) log.error({ host, fault }, 'the clock of this host is wrong');
    if (fault === undefined && this.#wrong) log.info({ host }, 'the clock of this host is right again');
    this.#wrong = fault !== undefined;
  }

  async #fault(limit_s: number): Promise<string | undefined> {
    const read = await databaseClock(this.#o.db);
    if (!read || Math.abs(read.ahead_ms) <= limit_s * 1000) return undefined;
    const by = `${(Math.abs(read.ahead_ms) / 1000).toFixed(1)} s ${read.ahead_ms > 0 ? 'ahead' : 'behind'}`;
    return (
      `the clock of ${this.#o.host} says ${read.mine.toISOString()}, the database's ${read.database.toISOString()}: ` +
      `${by}, and hosts that differ by more than ${this.#o.limit_s} s take each other for dead. ` +
      'Keep the clocks of all hosts and of the database by NTP: install chrony or systemd-timesyncd'
    );
  }
}
