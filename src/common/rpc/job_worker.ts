import { atMost, clock, nowText, sleep, textIn } from '../clock.ts';
import { contextFromWire, type RequestContext } from '../context.ts';
import type { NovaDb } from '../db/connect.ts';
import {
  claimableJobs,
  claimJob,
  NOBODY_ASKED_S,
  renewLeases,
  settleJob,
  takeBackJobs,
  type Job,
  type JobHead,
  type Worker,
} from '../db/jobs.ts';
import { recordEvent } from '../db/events.ts';
import { Aborted, DatabaseUnavailable, NotYet, NovaError, errorText, isAway, isRetryable } from '../errors.ts';
import type { Log } from '../log.ts';

export interface JobMethod {
  run(ctx: RequestContext, args: Record<string, unknown>): Promise<unknown>;
  /** Aborts what else runs on its resource. */
  wins: boolean;
  /** See CastSpec. */
  patience_s: number;
}
export interface JobWorkerOptions extends Worker {
  db: NovaDb;
  log: Log;
  methods: ReadonlyMap<string, JobMethod>;
  /** See Manager.jobFailed. */
  onFailed(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void>;
  max_concurrent: number;
  poll_interval_s: number;
}

/** Most jobs that one look brings; more come when these are done. */
const BATCH = 200;
const BACKOFF_LIMIT_S = 60;
/** Doubled each time, up to 5 s. */
const SETTLE_WAIT_MS = 50;
/** Most seconds until the next look for whoever did not answer. */
const AWAY_LIMIT_S = 10;
/** Seconds until the next look for what is still being made: a quarter of the job's age, between these. */
const NOT_YET_S = [0.5, 2] as const;

/**
 * Runs the jobs of one topic on one host.
 *
 *   queued ──claim──> running ──ok──────────────> done
 *     ^                 │ ├──error, may help───> queued, run_after = back-off
 *     │                 │ ├──error, for good───> onFailed, then failed
 *     └──stop, restart, └──lease ran out: whoever claims it next
 *        no database,
 *        no answer, not yet:
 *        no attempt of it
 *
 * Jobs come as hints (messages) and from looks into the table; both end in the same guarded claim, so a doubled or lost
 * message changes nothing. Jobs of one resource run one after the other; one that `wins` aborts the one under way first.
 */
export class JobWorker {
  readonly #o: JobWorkerOptions;
  readonly #running = new Map<number, { head: JobHead; abort: AbortController; ended: Promise<void> }>();
  /** Resource to its running job. */
  readonly #busy = new Map<string, number>();
  readonly #waiting = new Map<string, JobHead[]>();
  readonly #stop = new AbortController();
  readonly #timers = new Set<NodeJS.Timeout>();
  #renewal: NodeJS.Timeout | undefined;
  #table_away = false;
  /** When this worker last looked into the table, and since when it does so without a break. */
  #looked_at = clock.now().getTime();
  #looking_since = this.#looked_at;
  #more = false;
  #polling: Promise<void> | undefined;

  constructor(options: JobWorkerOptions) {
    this.#o = options;
  }

  async start(): Promise<void> {
    const taken = await takeBackJobs(this.#o.db, this.#o);
    if (taken > 0) this.#o.log.info({ jobs: taken }, 'took back the jobs of this host before its restart');
    this.#timers.add(setInterval(() => void this.poll(), this.#o.poll_interval_s * 1000));
    const renew = () => renewLeases(this.#o.db, this.#o, [...this.#running.keys()]);
    this.#renewal = setInterval(() => void this.#reach(renew), (this.#o.lease_s * 1000) / 3);
    void this.poll();
  }

  /** A table that is away is told of once, and once more when it is back. */
  async #reach(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      if (this.#table_away) this.#o.log.info('job table reached again');
      this.#table_away = false;
    } catch (err) {
      if (!this.#table_away) this.#o.log.warn({ err }, 'job table not reached, trying on');
      this.#table_away = true;
    }
  }

  /** Looks for jobs that no message told of. Never two looks at once; what came up during one is looked for after it. */
  poll(): Promise<void> {
    this.#polling ??= this.#poll().finally(() => {
      this.#polling = undefined;
      if (this.#more && this.#running.size < this.#o.max_concurrent) void this.poll();
    });
    return this.#polling;
  }
  async #poll(): Promise<void> {
    this.#more = false;
    if (this.#stop.signal.aborted) return;
    await this.#reach(async () => {
      const heads = await claimableJobs(this.#o.db, this.#o, BATCH);
      const now = clock.now().getTime();
      if (now - this.#looked_at > (NOBODY_ASKED_S + this.#o.poll_interval_s) * 1000) this.#looking_since = now;
      this.#looked_at = now;
      for (const head of heads) void this.offer(head);
    });
  }

  /** Runs the job if it can be had now; resolves when it is settled, or at once when it has to wait. */
  async offer(head: JobHead): Promise<void> {
    if (this.#stop.signal.aborted || this.#running.has(head.id)) return;
    const before = head.resource === null ? undefined : this.#busy.get(head.resource);
    if (head.resource !== null && before !== undefined) {
      const queue = this.#waiting.get(head.resource) ?? [];
      if (queue.some((other) => other.id === head.id)) return;
      this.#waiting.set(head.resource, [...queue, head]);
      if (this.#o.methods.get(head.method)?.wins) this.#abort(before, head.method);
      return;
    }
    if (this.#running.size >= this.#o.max_concurrent) {
      this.#more = true; // it stays in the table; the next free place looks there
      return;
    }
    const abort = new AbortController();
    const ended = this.#claimAndRun(head, abort.signal).finally(() => this.#freed(head));
    this.#running.set(head.id, { head, abort, ended });
    if (head.resource !== null) this.#busy.set(head.resource, head.id);
    await ended;
  }

  #abort(id: number, by: string): void {
    this.#running.get(id)?.abort.abort(new Aborted(`given up for ${by}`));
  }

  #freed(head: JobHead): void {
    this.#running.delete(head.id);
    if (head.resource !== null) {
      this.#busy.delete(head.resource);
      const [next, ...rest] = this.#inOrder(this.#waiting.get(head.resource) ?? []);
      if (rest.length > 0) this.#waiting.set(head.resource, rest);
      else this.#waiting.delete(head.resource);
      if (next) void this.offer(next);
    }
    if (this.#more) void this.poll();
  }

  /** What wins runs next; the rest by age. */
  #inOrder(heads: JobHead[]): JobHead[] {
    const rank = (head: JobHead) => (this.#o.methods.get(head.method)?.wins ? 0 : 1);
    return heads.toSorted((a, b) => rank(a) - rank(b) || a.id - b.id);
  }

  async #claimAndRun(head: JobHead, signal: AbortSignal): Promise<void> {
    let job: Job | undefined;
    try {
      job = await claimJob(this.#o.db, this.#o, head.id);
      if (job && this.#nobodyAsked(job)) job.away_since = null;
      if (job) await this.#run(job, signal);
    } catch (err) {
      this.#o.log.warn({ err, job_id: head.id }, 'job interrupted');
      // What was to follow its end failed itself. A claim that was not heard of ends with its lease.
      if (job) await this.#putBack(job, err);
    }
  }

  /**
   * It was due while this daemon, or the database, was away: that time does not count against the job's patience. A job
   * that waited for a free place here does count: else one that is asked about seldom would wait for ever.
   */
  #nobodyAsked(job: Job): boolean {
    return Date.parse(job.run_after) + NOBODY_ASKED_S * 1000 < this.#looking_since;
  }

  /** A database that is away is no attempt of the job: outages must not add up to its failure. */
  async #putBack(job: Job, err: unknown): Promise<void> {
    const wait_s = backOff(job);
    const attempt = err instanceof DatabaseUnavailable ? job.attempt - 1 : job.attempt;
    try {
      await this.#settle(job, { state: 'queued', error: errorText(err), run_after: textIn(wait_s), attempt });
      this.#later(wait_s * 1000 + 5);
    } catch (err) {
      this.#o.log.warn({ err, job_id: job.id }, 'job not put back; this host takes it back when it starts again');
    }
  }

  async #run(job: Job, signal: AbortSignal): Promise<void> {
    const { db, log, host } = this.#o;
    const args = JSON.parse(job.args) as Record<string, unknown>;
    const ctx = { ...contextFromWire(JSON.parse(job.context) as Record<string, unknown>), signal };
    const facts = {
      request_id: job.request_id,
      job_id: job.id,
      method: job.method,
      resource: job.resource,
      attempt: job.attempt,
    };
    const started = Date.now();
    const too_late = tooLate(job);
    if (too_late !== undefined) return this.#fail(ctx, job, args, new NovaError(too_late));
    try {
      const method = this.#o.methods.get(job.method);
      if (!method) throw new NovaError(`${this.#o.topic} on ${host} has no method ${job.method}`);
      await method.run(ctx, args);
      await this.#settle(job, { state: 'done', error: null });
      log.info({ ...facts, ms: Date.now() - started }, 'job done');
    } catch (err) {
      const error = err instanceof Error ? err : new NovaError(String(err));
      if (this.#stop.signal.aborted && signal.aborted) {
        await this.#settle(job, { state: 'queued', error: null, run_after: nowText(), attempt: job.attempt - 1 });
        return;
      }
      if (signal.aborted || error instanceof Aborted) {
        log.info({ ...facts, why: errorText(signal.reason ?? error) }, 'job given up');
        await this.#settle(job, { state: 'failed', error: errorText(signal.reason ?? error) });
        return;
      }
      if (error instanceof DatabaseUnavailable) throw error; // it is put back
      if (isAway(error)) return this.#whileAway(ctx, job, args, error);
      if (error instanceof NotYet) return this.#notYet(ctx, job, error);
      if (isRetryable(error) && job.attempt < job.max_attempts) {
        const wait_s = backOff(job);
        log.warn({ ...facts, err: error, retry_in_s: wait_s }, 'job failed, will be tried again');
        if (job.resource !== null)
          await recordEvent(db, ctx, job.resource, `${job.method} failed, will be tried again`, host, {
            error: error.message,
            retry_in_s: wait_s,
          });
        await this.#settle(job, { state: 'queued', error: error.message, run_after: textIn(wait_s) });
        this.#later(wait_s * 1000 + 5);
        return;
      }
      await this.#fail(ctx, job, args, error);
    }
  }

  async #fail(ctx: RequestContext, job: Job, args: Record<string, unknown>, err: Error): Promise<void> {
    const { request_id, id: job_id, method, resource, attempt } = job;
    this.#o.log.error({ request_id, job_id, method, resource, attempt, err }, 'job failed');
    await this.#o.onFailed(ctx, method, args, err);
    await this.#settle(job, { state: 'failed', error: err.message });
  }

  /** Who does not answer now is asked again, for `patience_s`; that is no attempt of the job. Its story tells it once. */
  async #whileAway(ctx: RequestContext, job: Job, args: Record<string, unknown>, err: Error): Promise<void> {
    const away_since = job.away_since ?? nowText();
    const away_s = (clock.now().getTime() - Date.parse(away_since)) / 1000;
    if (away_s >= (this.#o.methods.get(job.method)?.patience_s ?? 0)) {
      const text = `${err.message} (asked again and again for ${Math.round(away_s)} s)`;
      return this.#fail(ctx, job, args, new NovaError(text, { cause: err }));
    }
    await this.#tellOnce(ctx, job, err, 'waits for an answer');
    const wait_s = Math.min(Math.max(1, away_s / 4), AWAY_LIMIT_S);
    const attempt = job.attempt - 1;
    await this.#settle(job, { state: 'queued', error: err.message, run_after: textIn(wait_s), attempt, away_since });
    this.#later(wait_s * 1000 + 5);
  }

  /** What it needs is still being made: other jobs have its place meanwhile. */
  async #notYet(ctx: RequestContext, job: Job, err: NotYet): Promise<void> {
    await this.#tellOnce(ctx, job, err, 'waits');
    const age_s = (clock.now().getTime() - Date.parse(job.created_at)) / 1000;
    const wait_s = Math.min(Math.max(NOT_YET_S[0], age_s / 4), NOT_YET_S[1]);
    const run_after = textIn(wait_s);
    await this.#settle(job, { state: 'queued', error: err.message, run_after, attempt: job.attempt - 1 });
    this.#later(wait_s * 1000 + 5);
  }

  async #tellOnce(ctx: RequestContext, job: Job, err: Error, what: string): Promise<void> {
    if (job.error === err.message) return;
    const { request_id, id: job_id, method, resource } = job;
    this.#o.log.warn({ request_id, job_id, method, resource, err }, `job ${what}`);
    if (resource !== null)
      await recordEvent(this.#o.db, ctx, resource, `${method} ${what}`, this.#o.host, { error: err.message });
  }

  #later(ms: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void this.poll();
    }, ms);
    this.#timers.add(timer);
  }

  /** Writes what becomes of a job even when the database is away for a while; the lease is renewed meanwhile. */
  async #settle(job: Job, to: Parameters<typeof settleJob>[3]): Promise<void> {
    for (let wait_ms = SETTLE_WAIT_MS; ; wait_ms = Math.min(wait_ms * 2, 5000)) {
      try {
        if (!(await settleJob(this.#o.db, this.#o, job.id, to)))
          this.#o.log.warn({ job_id: job.id }, 'job was taken over meanwhile');
        return;
      } catch (err) {
        if (this.#stop.signal.aborted) throw err;
        if (wait_ms === SETTLE_WAIT_MS) this.#o.log.warn({ err, job_id: job.id }, 'job not settled, trying on');
        await sleep(wait_ms);
      }
    }
  }

  /**
   * No new jobs; waits `grace_ms` for those under way, whose leases are renewed, then aborts them and puts them back. Who
   * does not heed that in `aborted_ms` is left to its lease.
   */
  async stop(grace_ms: number, aborted_ms: number): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#stop.abort(new Aborted('the daemon stops'));
    const all = Promise.allSettled([...this.#running.values()].map((job) => job.ended));
    await atMost(grace_ms, all);
    for (const job of this.#running.values()) job.abort.abort(this.#stop.signal.reason);
    await atMost(aborted_ms, all);
    clearInterval(this.#renewal);
  }
}

/** Seconds until the next attempt. */
const backOff = (job: Job): number => Math.min(2 ** (job.attempt - 1), BACKOFF_LIMIT_S);

/** Why the job is not begun any more. */
function tooLate({ attempt, max_attempts, deadline, error }: Job): string | undefined {
  if (attempt > max_attempts) return `given up after ${max_attempts} attempts: ${error ?? 'the worker died each time'}`;
  if (deadline !== null && deadline < nowText()) return `not started before its deadline ${deadline}`;
  return undefined;
}
