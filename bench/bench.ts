import type { Scope } from '../test/rigs/tmp.ts';
import type { Figure } from './figure.ts';

/** One group of figures that share their rigs. */
export interface Bench {
  name: string;
  run(scope: Scope, how: How): AsyncGenerator<Figure>;
}

export interface How {
  /** Fewer rounds of less work: to see that a change broke nothing, not to be quoted. */
  quick: boolean;
}

/** Runs `work` with a scope that ends with it. */
export async function inScope(work: (scope: Scope) => Promise<void>): Promise<void> {
  const ends: (() => Promise<void>)[] = [];
  try {
    await work({ after: (fn) => void ends.push(fn) });
  } finally {
    for (const end of ends.reverse()) await end();
  }
}
