/**
 * Remembers what `find` gave for a key for a few seconds, so that a busy client does not ask the database the same thing
 * at every request; what changed there holds at the latest `ttl_ms` later. Failures are not remembered.
 */
export class Recent<T> {
  readonly #find: (key: string) => Promise<T>;
  readonly #ttl_ms: number;
  readonly #limit: number;
  /** In the order of their making: the first is the oldest. */
  readonly #kept = new Map<string, { value: Promise<T>; until: number }>();

  constructor(find: (key: string) => Promise<T>, { ttl_ms = 2000, limit = 1000 } = {}) {
    this.#find = find;
    this.#ttl_ms = ttl_ms;
    this.#limit = limit;
  }

  /** What changed holds at once. */
  clear(): void {
    this.#kept.clear();
  }

  /** Those who ask while the answer is on its way share it. */
  get(key: string): Promise<T> {
    const now = performance.now(); // a clock that is set back must not make old answers young
    const kept = this.#kept.get(key);
    if (kept && kept.until > now) return kept.value;
    const value = this.#find(key);
    this.#kept.delete(key);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size < this.#limit) break;
      this.#kept.delete(oldest);
    }
    this.#kept.set(key, { value, until: now + this.#ttl_ms });
    value.catch(() => {
      if (this.#kept.get(key)?.value === value) this.#kept.delete(key);
    });
    return value;
  }
}
