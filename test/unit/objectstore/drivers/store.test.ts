import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { openStore, type Store } from '../../../../src/objectstore/drivers/store.ts';
import { filesIn, tempDir } from '../../../rigs/tmp.ts';

const apollo = { project_id: 'apollo', user_id: 'ann' };
const bare = { content_type: null, headers: {}, conditions: null };

function aStore(t: TestContext): { dir: string; store: Store } {
  const dir = join(tempDir(t), 'buckets');
  return { dir, store: openStore(dir) };
}

async function* chunksOf(...texts: (string | Error)[]): AsyncGenerator<Buffer> {
  for (const text of texts) {
    if (text instanceof Error) throw text;
    yield Buffer.from(text);
  }
}

test('of all who make a bucket at once one project gets it, and others are told it is taken', async (t) => {
  const { dir } = aStore(t);
  // each its own store: as several processes on one folder
  const asked = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) =>
      openStore(dir).buckets.create('b', { project_id: `p${i % 4}`, user_id: null }),
    ),
  );

  const made = asked.filter((outcome) => outcome.status === 'fulfilled');
  assert.equal(made.length, 1);
  const owner = openStore(dir).buckets.owner('b').project_id;
  assert.equal(owner, `p${asked.findIndex((outcome) => outcome.status === 'fulfilled') % 4}`);
});

test('a bucket whose making was cut off can be made again by the same project', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  await store.buckets.remove('b');
  mkdirSync(join(dir, '.nova/buckets/b'), { recursive: true });
  writeFileSync(join(dir, '.nova/buckets/b/owner.json'), JSON.stringify({ ...apollo, created_at: '2011' }));

  await assert.rejects(store.buckets.create('b', { project_id: 'gemini', user_id: 'bob' }), {
    code: 'BucketAlreadyExists',
  });
  await store.buckets.create('b', apollo);

  assert.equal(store.buckets.owner('b').project_id, 'apollo');
});

test("a bucket that was deleted and made by another project is the other project's at once", async (t) => {
  const { store } = aStore(t);
  await store.buckets.create('b', apollo);
  assert.equal(store.buckets.owner('b').project_id, 'apollo');
  await store.buckets.remove('b');
  assert.throws(() => store.buckets.owner('b'), { code: 'NoSuchBucket' });
  await store.buckets.create('b', { project_id: 'gemini', user_id: 'bob' });
  assert.equal(store.buckets.owner('b').project_id, 'gemini');
});

test('a folder that nobody made by a request has no project', async (t) => {
  const { dir, store } = aStore(t);
  mkdirSync(join(dir, 'old'));
  assert.equal(store.buckets.owner('old').project_id, null);
  assert.deepEqual(
    (await store.buckets.list()).map(({ name }) => name),
    ['old'],
  );
});

test('an upload that breaks off leaves the object as it was, and no file', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  await store.objects.put('b', 'k', chunksOf('before'), bare);
  const large = 'x'.repeat(600_000);

  for (const sent of [[], ['x'], [large], [large, large]])
    await assert.rejects(store.objects.put('b', 'k', chunksOf(...sent, new Error('cut')), bare), /cut/);
  await assert.rejects(store.objects.put('gone', 'k', chunksOf(large), bare), { code: 'NoSuchBucket' });

  assert.equal(store.objects.info('b', 'k').size, 6);
  assert.deepEqual(filesIn(join(dir, '.nova/tmp')), []);
});

test('listing keys notices every change, in the same millisecond and by other hands', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  for (let i = 0; i < 30; i++) {
    await store.objects.put('b', `k${i}`, chunksOf('x'), bare);
    assert.equal((await store.buckets.keys('b')).length, i + 1);
  }
  await new Promise((resolve) => setTimeout(resolve, 40)); // now the keys are kept for the next page
  assert.equal(await store.buckets.keys('b'), await store.buckets.keys('b'));
  writeFileSync(join(dir, 'b', 'by-hand'), 'x');
  assert.ok((await store.buckets.keys('b')).includes('by-hand'));
});

test('an object that is read again is what its file holds, whoever changed it', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  const read = () => {
    const object = store.objects.open('b', 'k', () => true);
    return object && 'bytes' in object ? [object.bytes.toString(), object.info.content_type] : object;
  };
  await store.objects.put('b', 'k', chunksOf('first'), bare);
  await new Promise((resolve) => setTimeout(resolve, 40)); // now what is read is kept
  assert.deepEqual(read(), ['first', null]);
  assert.deepEqual(read(), ['first', null]);

  writeFileSync(join(dir, 'b', 'k'), 'other'); // in place, as long as it was
  assert.deepEqual(read(), ['other', null]);
  for (let i = 0; i < 30; i++) {
    await store.objects.put('b', 'k', chunksOf(`at ${i}`), { ...bare, content_type: `text/${i}` });
    assert.deepEqual(read(), [`at ${i}`, `text/${i}`]);
  }
  await store.objects.remove('b', 'k');
  assert.throws(read, { code: 'NoSuchKey' });
});

test('the sweep takes what the dead left and nothing that is in use or young', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  await store.objects.put('b', 'typed', chunksOf('x'), { ...bare, content_type: 'text/x' });
  const meta = join(dir, '.nova/buckets/b/meta');
  const tmp = join(dir, '.nova/tmp');
  writeFileSync(join(meta, 'typed@old'), '{}');
  writeFileSync(join(tmp, '3/young'), 'x');
  mkdirSync(join(dir, '.nova/buckets/half-made'));

  await store.sweep(); // an hour has not passed
  assert.deepEqual([readdirSync(meta).length, existsSync(join(tmp, '3/young'))], [2, true]);
  await store.sweep(Date.now() + 7_200_000);

  assert.deepEqual(filesIn(tmp), []);
  assert.deepEqual(readdirSync(join(dir, '.nova/buckets')), ['b']);
  assert.equal(readdirSync(meta).length, 1);
  assert.equal(store.objects.info('b', 'typed').content_type, 'text/x');
});

test('of uploads of one part at the same time the last one is there', async (t) => {
  const { store } = aStore(t);
  await store.buckets.create('b', apollo);
  const upload_id = await store.uploads.create('b', 'k', 'ann', { content_type: null, headers: {} });

  for (let round = 0; round < 20; round++) {
    const put = (text: string) =>
      store.uploads.putPart('b', upload_id, 1, chunksOf(`${round} ${text}`), () => undefined);
    const etags = await Promise.all(['a', 'b', 'c', 'd'].map(put));

    const parts = await store.uploads.parts('b', upload_id);
    assert.equal(parts.length, 1);
    assert.ok(etags.includes(parts[0]?.etag ?? ''));
  }
});

test('an upload that was begun on a full disk or half removed is none, and is swept away', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  const begin = () => store.uploads.create('b', 'k', 'ann', { content_type: null, headers: {} });
  const [good, cut, removed] = [await begin(), await begin(), await begin()];
  const uploads = join(dir, '.nova/buckets/b/uploads');
  writeFileSync(join(uploads, cut, 'upload.json'), '');
  rmSync(join(uploads, removed, 'upload.json'));
  writeFileSync(join(dir, '.nova/tmp/of-an-earlier-layout'), 'half');

  assert.deepEqual(
    (await store.uploads.list('b')).map(({ upload_id }) => upload_id),
    [good],
  );
  assert.throws(() => store.uploads.get('b', 'k', cut), { code: 'NoSuchUpload' });
  await store.sweep(); // an hour has not passed
  assert.equal(readdirSync(uploads).length, 3);
  await store.sweep(Date.now() + 7_200_000);

  assert.deepEqual(readdirSync(uploads), [good]);
  assert.deepEqual(filesIn(join(dir, '.nova/tmp')), []);
});

test('what a kill left of an upload that is complete goes when it is completed again', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  const upload_id = await store.uploads.create('b', 'k', 'ann', { content_type: null, headers: {} });
  const etag = await store.uploads.putPart('b', upload_id, 1, chunksOf('part'), () => undefined);
  const uploads = join(dir, '.nova/buckets/b/uploads');
  cpSync(uploads, join(dir, 'as-it-was'), { recursive: true });
  const complete = () => store.uploads.complete('b', 'k', upload_id, [{ number: 1, etag }], null);
  const made = await complete();
  cpSync(join(dir, 'as-it-was'), uploads, { recursive: true });

  assert.equal((await complete()).etag, made.etag);

  assert.deepEqual(readdirSync(uploads), []);
});

test('versions of one key never share a time, whatever the clock does', async (t) => {
  const { dir, store } = aStore(t);
  await store.buckets.create('b', apollo);
  await store.objects.put('b', 'k', chunksOf('first'), { ...bare, content_type: 'text/first' });
  const future = Date.now() / 1000 + 1000;
  utimesSync(join(dir, 'b', 'k'), future, future);

  await store.objects.put('b', 'k', chunksOf('other'), bare);

  assert.ok(statSync(join(dir, 'b', 'k')).mtimeMs > future * 1000);
  assert.equal(store.objects.info('b', 'k').content_type, null);
});
