import assert from 'node:assert/strict';
import { test } from 'node:test';
import { givenTwice } from '../../../bench/fixed_ips.ts';

test('an address is given twice when somebody gets it while another has it', () => {
  assert.equal(givenTwice([[5, 0, 10], [5, 10, 20], [6, 5, 15]]), 0); // prettier-ignore
  assert.equal(givenTwice([[5, 9, 20], [5, 0, 10]]), 1); // prettier-ignore
  assert.equal(givenTwice([[5, 0, 100], [5, 10, 20], [5, 30, 40]]), 2, 'both fall into the first'); // prettier-ignore
});
