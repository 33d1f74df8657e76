import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';

/** The real ones, whatever timers and clocks a test mocks later: an imported binding would change with the mock. */
const sleep = setTimeout;
const { now } = Date;

/** Longer than anything takes that does not hang, on a machine that others load too. */
const PATIENCE_S = 180;
const LOOK_AGAIN_MS = 50;

/**
 * Asks again and again until the answer is neither undefined nor false.
 * @param said what more to tell when that does not come, such as a log
 * @returns that answer
 */
export async function until<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  said?: () => string | Promise<string>,
): Promise<T> {
  for (const deadline = now() + PATIENCE_S * 1000; ; await sleep(LOOK_AGAIN_MS)) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (now() > deadline) assert.fail(`not in ${PATIENCE_S} s: ${what}${said ? `\n${await said()}` : ''}`);
  }
}
