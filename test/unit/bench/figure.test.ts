import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figure, interleaved, median } from '../../../bench/figure.ts';
import { table } from '../../../bench/table.ts';

test('the median is the middle one, and of two in the middle their mean', () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.throws(() => median([]), /no numbers/);
});

test('a figure holds its floor by ratio or by value, from below or from above', () => {
  const measured = { value: 50, limit: 100 };

  assert.equal(figure('a', '/s', measured, { of: 'ratio', at_least: 0.5 }).ok, true);
  assert.equal(figure('a', '/s', measured, { of: 'ratio', at_least: 0.51 }).ok, false);
  assert.equal(figure('a', 'ms', measured, { of: 'value', at_most: 50 }).ok, true);
  assert.equal(figure('a', 'ms', measured, { of: 'value', at_most: 49 }).ok, false);
  assert.deepEqual(figure('a', '/s', { value: 3 }), {
    name: 'a',
    value: 3,
    unit: '/s',
    limit: null,
    ratio: null,
    floor: null,
    ok: null,
  });
  assert.throws(() => figure('a', '/s', { value: 3 }, { of: 'ratio', at_least: 1 }), /needs a limit/);
});

test('ours and the limit take turns, and a round that was slow for both changes no ratio', async () => {
  const turns: string[] = [];
  const speeds = [1, 10, 100];
  let [ours, limits] = [0, 0];

  const measured = await interleaved(
    3,
    async () => (turns.push('ours'), (speeds[ours++] ?? 0) * 2),
    async () => (turns.push('limit'), (speeds[limits++] ?? 0) * 4),
  );

  assert.deepEqual(turns, ['ours', 'limit', 'limit', 'ours', 'ours', 'limit']);
  assert.deepEqual(measured, { value: 20, limit: 40, ratio: 0.5 });
});

test('the table says which figure missed its floor', () => {
  const text = table([
    figure('start', 'ms', { value: 612.4, limit: 50 }, { of: 'value', at_most: 500 }),
    figure('calls', '/s', { value: 1.234 }),
  ]);

  assert.deepEqual(text.split('\n'), [
    'name   value  unit  limit  ratio  floor      ok',
    'start    612  ms       50  12.25    500  MISSED',
    'calls   1.23  /s',
  ]);
});
