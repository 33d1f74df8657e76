import { LRUCache } from 'lru-cache';
import { statSync, type Stats } from 'node:fs';
import { TICK_MS } from './layout.ts';

/** Of all small objects that are kept in memory. */
const KEPT_BYTES = 16 * 1024 * 1024;
/** What an entry takes besides its bytes, about. */
const ENTRY_BYTES = 1024;

/** Small objects that were read lately, by the paths of their files. One is given again while its file has not changed. */
export class KeptObjects<T extends { readonly bytes: Buffer }> {
  readonly #kept = new LRUCache<string, { stat: Stats; object: T }>({
    maxSize: KEPT_BYTES,
    sizeCalculation: ({ object }) => object.bytes.length + ENTRY_BYTES,
  });

  keep(path: string, stat: Stats, object: T): void {
    if (Date.now() - stat.ctimeMs > TICK_MS) this.#kept.set(path, { stat, object });
  }

  get(path: string): T | undefined {
    const kept = this.#kept.get(path);
    if (kept === undefined) return undefined;
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat !== undefined && isSame(stat, kept.stat)) return kept.object;
    this.#kept.delete(path);
    return undefined;
  }
}

const isSame = (a: Stats, b: Stats): boolean =>
  a.mtimeMs === b.mtimeMs && a.ctimeMs === b.ctimeMs && a.ino === b.ino && a.size === b.size;
