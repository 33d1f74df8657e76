import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Recent } from '../../../../src/common/auth/recent.ts';

/** A clock of the test's own, in ms. */
function aClock(t: TestContext): { ms: number } {
  const time = { ms: 0 };
  t.mock.method(performance, 'now', () => time.ms);
  return time;
}

test('an answer is given again for its time, and then asked for anew', async (t) => {
  const time = aClock(t);
  let asked = 0;
  const recent = new Recent(async () => ++asked, { ttl_ms: 100 });

  const first = [await recent.get('a'), await recent.get('a')];
  time.ms = 101;

  assert.deepEqual([...first, await recent.get('a')], [1, 1, 2]);
});

test('those who ask while the answer is on its way share it', async () => {
  let asked = 0;
  const recent = new Recent(async () => ++asked);

  assert.deepEqual(await Promise.all([recent.get('a'), recent.get('a'), recent.get('b')]), [1, 1, 2]);
});

test('a failure is not remembered', async () => {
  let asked = 0;
  const recent = new Recent(async () => {
    if (++asked === 1) throw new Error('no');
    return asked;
  });

  await assert.rejects(recent.get('a'), /no/);
  assert.equal(await recent.get('a'), 2);
});

test('no more than the limit is kept: the oldest goes first', async () => {
  const asked: string[] = [];
  const recent = new Recent(async (key) => asked.push(key), { limit: 2, ttl_ms: 60_000 });

  for (const key of ['a', 'b', 'c', 'c', 'b', 'a']) await recent.get(key);

  assert.deepEqual(asked, ['a', 'b', 'c', 'a']);
});
