import assert from 'node:assert/strict';
import { test } from 'node:test';
import { durationText } from '../../../src/manage/time_text.ts';

test('a duration is told in the units that matter', () => {
  const s = 1000;
  const told: [number, string][] = [
    [-5, '0 ms'],
    [7.4, '7 ms'],
    [999, '999 ms'],
    [999.9, '1.0 s'],
    [9.94 * s, '9.9 s'],
    [9.96 * s, '10 s'],
    [59.6 * s, '1 min'],
    [185 * s, '3 min 5 s'],
    [7200 * s, '2 h'],
    [7800 * s, '2 h 10 min'],
    [47 * 3600 * s, '47 h'],
    [(3 * 24 + 4) * 3600 * s, '3 d 4 h'],
  ];
  for (const [ms, text] of told) assert.equal(durationText(ms), text, String(ms));
});
