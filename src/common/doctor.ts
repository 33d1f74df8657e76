import { sleep } from './clock.ts';
import { differenceKey, type Difference } from './difference.ts';
import { errorText } from './errors.ts';

/** What a change that is under way needs to be over, or to look otherwise. */
const SECOND_LOOK_MS = 1000;

/** What the second look finds as well: a daemon may have been in the midst of a change. */
export async function twice<T extends Difference>(look: () => Promise<T[]>): Promise<T[]> {
  const first = await look();
  if (first.length === 0) return [];
  await sleep(SECOND_LOOK_MS);
  const again = new Set((await look()).map(differenceKey));
  return first.filter((one) => again.has(differenceKey(one)));
}

/** Does one part of a work; whether one that fails ends the whole is for whoever gave this. `what`: a subject of `failed`. */
export type Attempt = (what: string, work: () => Promise<unknown>) => Promise<void>;

/** One that fails ends the whole. */
export const orEnd: Attempt = async (_what, work) => void (await work());

/** Repairs one after the other: one that fails is told of and does not hold the others up. */
export class Repairs {
  /** In words. */
  readonly failures: string[] = [];

  readonly try: Attempt = async (what, work) => {
    try {
      await work();
    } catch (err) {
      this.failures.push(`${what} failed: ${errorText(err)}`);
    }
  };
}
