import type { RequestContext } from './context.ts';

/** What a Service hosts: its contract's methods, and these. */
export interface Manager {
  /** Runs before the service takes work, and once more where the database went away in it; another failure ends the process with its message. */
  initHost(signal: AbortSignal): Promise<void>;
  /** Every `--periodic_interval` seconds; a failure is logged and the next run still comes. */
  periodicTasks(ctx: RequestContext): Promise<void>;
  /** At an orderly stop, when nothing of it runs any more. */
  stop?(): Promise<void>;
  /**
   * A cast failed for good: puts its resource in `error` with the reason, or undoes what it took. Runs before the job is
   * marked failed, and again if the process dies in between.
   */
  jobFailed?(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void>;
}
