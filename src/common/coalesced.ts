import { sleep } from './clock.ts';

/** A run is followed by a pause of this many times its own length: however many ask, a third of the time goes into it. */
const PAUSE = 2;

/**
 * Work that brings something to the newest state, asked for by many at once: who asks while it runs, or shortly after,
 * waits for one further run, which began after he asked and serves all who asked meanwhile.
 *
 *   asked:  a     b  c   d
 *   runs:   [ a ] pause [ b c d ]
 */
export class Coalesced {
  readonly #work: () => Promise<void>;
  /** The last run; it does not reject. */
  #last: Promise<void> = Promise.resolve();
  #running = false;
  #next: Promise<void> | undefined;
  /** On performance.now()'s clock. */
  #not_before = 0;
  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  run(): Promise<void> {
    if (this.#next) return this.#next;
    if (!this.#running && performance.now() >= this.#not_before) return this.#start();
    this.#next = this.#later();
    return this.#next;
  }

  async #later(): Promise<void> {
    await this.#last;
    await sleep(Math.max(0, this.#not_before - performance.now()));
    this.#next = undefined; // who asks from now on is not served by this run
    await this.#start();
  }

  #start(): Promise<void> {
    this.#running = true;
    const started = performance.now();
    const run = this.#work().finally(() => {
      const ended = performance.now();
      this.#running = false;
      this.#not_before = ended + PAUSE * (ended - started);
    });
    this.#last = run.catch(() => undefined); // those who asked for it hear of it
    return run;
  }
}
