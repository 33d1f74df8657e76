import { sleep } from '../../common/clock.ts';
import { Aborted } from '../../common/errors.ts';

/** @throws Aborted when the signal was given; `what` says what was not done */
export function checkAborted(signal: AbortSignal, what: string): void {
  if (signal.aborted) throw new Aborted(`${what}: given up, ${String(signal.reason)}`);
}

/** Waits `ms`. @throws Aborted */
export async function pause(ms: number, signal: AbortSignal, what: string): Promise<void> {
  try {
    await sleep(ms, signal);
  } catch (err) {
    checkAborted(signal, what);
    throw err;
  }
}
