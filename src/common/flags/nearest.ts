import type { Kind } from './define.ts';

/** The known spellings, with the `no` forms of booleans, that begin with `prefix`. */
export function abbreviations(prefix: string, kinds: ReadonlyMap<string, Kind>): string[] {
  const found: string[] = [];
  if (prefix === '') return found;
  for (const [name, kind] of kinds) {
    if (name.startsWith(prefix)) found.push(name);
    if (kind === 'boolean' && `no${name}`.startsWith(prefix)) found.push(`no${name}`);
  }
  return found;
}

/** The known name that takes the fewest single-letter edits to reach. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const written = name.toLowerCase().replaceAll('-', '_');
  let best: string | undefined;
  let least = Infinity;
  for (const candidate of known) {
    const distance = editDistance(written, candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      next[j] = cost;
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
