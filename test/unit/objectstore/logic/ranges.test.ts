import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRange } from '../../../../src/objectstore/logic/ranges.ts';

const CASES: [string | undefined, number, ReturnType<typeof parseRange>][] = [
  [undefined, 10, null],
  ['bytes=0-0', 10, { start: 0, end: 0 }],
  ['bytes=2-', 10, { start: 2, end: 9 }],
  ['bytes=2-100', 10, { start: 2, end: 9 }],
  ['bytes=-3', 10, { start: 7, end: 9 }],
  ['bytes=-30', 10, { start: 0, end: 9 }],
  ['bytes=10-', 10, 'none'],
  ['bytes=-0', 10, 'none'],
  ['bytes=0-', 0, 'none'],
  ['bytes=-5', 0, 'none'],
  ['bytes=5-2', 10, null],
  ['bytes=-', 10, null],
  ['bytes=0-1,3-4', 10, null],
  ['lines=0-1', 10, null],
];
for (const [header, size, expected] of CASES)
  test(`Range: ${header} of ${size} bytes is ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(parseRange(header, size), expected);
  });
