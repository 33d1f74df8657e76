import { setTimeout as wait } from 'node:timers/promises';

/** Time, in one place: tests replace `clock.now`. */
export const clock = { now: (): Date => new Date() };

/** UTC ISO text, as every time column holds it: `2011-04-15T00:00:00.000Z`. Text order is time order. */
export const nowText = (): string => clock.now().toISOString();
export const textIn = (seconds: number): string => new Date(clock.now().getTime() + seconds * 1000).toISOString();

/** Resolves after `ms`, or rejects with the signal's reason. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await wait(ms, undefined, signal ? { signal } : {});
}

/** Waits for `work`, but not longer than `ms`. */
export async function atMost(ms: number, work: Promise<unknown> | undefined): Promise<void> {
  const patience = new AbortController();
  const late = sleep(ms, patience.signal).catch(() => undefined); // ended by us below, when the work was in time
  await Promise.race([work, late]);
  patience.abort();
}
