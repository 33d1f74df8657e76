import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tapName } from '../../../../src/compute/logic/tap_name.ts';

test('the name of a tap fits the kernel for every instance id, and no two cards share one', () => {
  assert.equal(tapName(10, 0), 'novaa-0');
  assert.ok(tapName(2 ** 32 - 1, 9).length <= 15);
  const names = [tapName(1, 0), tapName(1, 1), tapName(16, 0), tapName(1, 10)];
  assert.equal(new Set(names).size, names.length);
});
