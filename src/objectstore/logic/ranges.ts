/** First and last byte, both inclusive. */
export interface ByteRange {
  start: number;
  end: number;
}

/** @returns null for the whole object (no Range, or one that is not a single byte range), `none` when it holds no byte */
export function parseRange(header: string | undefined, size: number): ByteRange | 'none' | null {
  const match = header === undefined ? null : /^bytes=(\d*)-(\d*)$/.exec(header.trim());
  if (!match) return null;
  const [from, to] = [match[1] as string, match[2] as string];
  if (from === '' && to === '') return null;
  if (from === '') {
    const count = Number(to); // the last `count` bytes
    return count === 0 || size === 0 ? 'none' : { start: Math.max(0, size - count), end: size - 1 };
  }
  const start = Number(from);
  const end = to === '' ? size - 1 : Math.min(Number(to), size - 1);
  if (to !== '' && Number(to) < start) return null; // not a range at all, RFC 9110 14.1.1
  return start >= size ? 'none' : { start, end };
}
