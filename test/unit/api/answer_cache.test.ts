import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { AnswerCache } from '../../../src/api/answer_cache.ts';
import { aDatabase, anInstance } from '../../builders.ts';

async function aCache(t: TestContext, limit_bytes = 1000) {
  const db = await aDatabase(t);
  const cache = new AnswerCache(db, limit_bytes);
  let made = 0;
  const get = async (key: string, text = key) => {
    const answer = await cache.get(key, async () => {
      made++;
      return text;
    });
    return answer.toString();
  };
  return { db, cache, get, made: () => made };
}

test('an answer is made once, and again after anything was written', async (t) => {
  const { db, get, made } = await aCache(t);

  assert.deepEqual([await get('a'), await get('a'), await get('b')], ['a', 'a', 'b']);
  assert.equal(made(), 2);
  await anInstance(db);
  assert.equal(await get('a', 'new'), 'new');
  assert.equal(made(), 3);
});

test('what many ask at once is made once', async (t) => {
  const { get, made } = await aCache(t);

  assert.deepEqual(new Set(await Promise.all(Array.from({ length: 20 }, () => get('a')))), new Set(['a']));

  assert.equal(made(), 1);
});

test('an answer that was being made while somebody wrote is not given again', async (t) => {
  const { db, cache, get } = await aCache(t);

  const answer = await cache.get('a', async () => {
    await anInstance(db);
    return 'perhaps without it';
  });

  assert.equal(answer, 'perhaps without it');
  assert.equal(await get('a', 'with it'), 'with it');
});

test('a failure is told to who asked, and the next one tries again', async (t) => {
  const { cache, get } = await aCache(t);

  await assert.rejects(
    cache.get('a', () => Promise.reject(new Error('no'))),
    /no/,
  );

  assert.equal(await get('a'), 'a');
});

test('the longest unused answers go when there are too many bytes', async (t) => {
  const { get, made } = await aCache(t, 250);
  const text = 'x'.repeat(100);

  for (const key of ['a', 'b', 'a', 'c']) await get(key, text); // b goes for c

  assert.equal(made(), 3);
  await get('a', text);
  assert.equal(made(), 3);
  await get('b', text);
  assert.equal(made(), 4);
});
