/** What a listing asks for; `after` is exclusive. */
export interface ListQuery {
  prefix: string;
  /** Keys that share what stands up to the first delimiter behind the prefix count as one common prefix. */
  delimiter: string;
  after: string;
  max_keys: number;
}
export interface ListPage {
  keys: string[];
  common_prefixes: string[];
  /** Where the next page starts after; null: this was the last. */
  next: string | null;
}

const isSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff;

/** Order of the UTF-8 bytes. JavaScript compares UTF-16 units, which differs for characters beyond U+FFFF only. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    if (isSurrogate(x) !== isSurrogate(y) && x >= 0xd800 && y >= 0xd800) return isSurrogate(x) ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}

export function sortKeys(keys: string[]): string[] {
  return keys.some((key) => /[\ud800-\udfff]/.test(key)) ? keys.sort(compareKeys) : keys.sort();
}

/** The first index from `low` on for which `isPast` holds; it must hold for all that follow. */
function search(keys: readonly string[], low: number, isPast: (key: string) => boolean): number {
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isPast(keys[middle] as string)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** One page of `sorted` (byte order). Costs time by the size of the page, not of the bucket. */
export function listPage(sorted: readonly string[], query: ListQuery): ListPage {
  const { prefix, delimiter, after, max_keys } = query;
  const page: ListPage = { keys: [], common_prefixes: [], next: null };
  const past = (at: number, group: string): number =>
    search(sorted, at, (key) => !key.startsWith(group) && compareKeys(key, group) > 0);
  let at = search(sorted, 0, (key) => compareKeys(key, prefix) >= 0 && (after === '' || compareKeys(key, after) > 0));
  let last = '';
  for (; at < sorted.length;) {
    const key = sorted[at] as string;
    if (!key.startsWith(prefix)) break;
    const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    const group = cut < 0 ? null : key.slice(0, cut + delimiter.length);
    if (group !== null && group === after) {
      at = past(at, group); // the page before ended with this group
      continue;
    }
    if (page.keys.length + page.common_prefixes.length >= max_keys) {
      page.next = max_keys === 0 ? null : last;
      break;
    }
    if (group === null) {
      page.keys.push(key);
      at++;
    } else {
      page.common_prefixes.push(group);
      at = past(at, group);
    }
    last = group ?? key;
  }
  return page;
}
