import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Coalesced } from '../../../src/common/coalesced.ts';

test('who asks while it runs is served by one further run that began after he asked', async () => {
  let state = 0;
  const seen: number[] = [];
  const coalesced = new Coalesced(async () => {
    const now = state;
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(now);
  });

  state = 1;
  const first = coalesced.run();
  state = 2;
  const second = coalesced.run();
  state = 3;
  const third = coalesced.run();
  await Promise.all([first, second, third]);

  assert.deepEqual(seen, [1, 3]);
  await coalesced.run();
  assert.deepEqual(seen, [1, 3, 3]);
});

test('a run that fails is heard of by those who asked for it, and the next is made all the same', async () => {
  const outcomes = [new Error('first'), null, new Error('third')];
  const coalesced = new Coalesced(async () => {
    const outcome = outcomes.shift();
    if (outcome) throw outcome;
  });

  const first = coalesced.run();
  const second = coalesced.run();

  await assert.rejects(first, /first/);
  await second;
  await assert.rejects(coalesced.run(), /third/);
});
