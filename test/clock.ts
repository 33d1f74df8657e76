import type { TestContext } from 'node:test';
import { clock } from '../src/common/clock.ts';

const { now } = clock;

/** The suite's clock goes on by so many seconds and runs from there; it is right again when the test ends. */
export function later(t: Pick<TestContext, 'after'>, seconds: number): void {
  const before = clock.now;
  clock.now = () => new Date(before().getTime() + seconds * 1000);
  t.after(() => (clock.now = now));
}
