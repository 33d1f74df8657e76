import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Aborted, BackendUnavailable, ImageNotFound, InvalidInput } from '../../../../src/common/errors.ts';
import type { FetchImage } from '../../../../src/compute/drivers/driver.ts';
import { ImageCache } from '../../../../src/compute/drivers/image_cache.ts';
import { until } from '../../../until.ts';
import { anImage } from './specs.ts';

const never = new AbortController().signal;

async function aDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'nova-cache-'));
  t.after(() => rm(dir, { recursive: true }));
  return dir;
}

/** A fetch that counts, and ends when `go` is called. */
function aFetch(text = 'data') {
  let go: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (go = resolve));
  const seen: AbortSignal[] = [];
  const fetch: FetchImage = async (_image, path, signal) => {
    seen.push(signal);
    await writeFile(path, text.slice(0, 2));
    const stopped = new Promise<never>((_resolve, reject) =>
      signal.addEventListener('abort', () => reject(new Aborted('fetch stopped')), { once: true }),
    );
    await Promise.race([gate, stopped]);
    await writeFile(path, text);
  };
  return { fetch, go, seen };
}

test('guests that want one image at the same time cause one fetch, and the next finds it there', async (t) => {
  const dir = await aDir(t);
  const cache = new ImageCache(dir);
  const { fetch, go, seen } = aFetch();

  const both = [cache.get(anImage(), fetch, never), cache.get(anImage(), fetch, never)];
  go();
  const [first, second] = await Promise.all(both);
  const third = await new ImageCache(dir).get(anImage(), () => assert.fail('fetched again'), never);

  assert.equal(seen.length, 1);
  assert.deepEqual([second, third], [first, first]);
  assert.equal(await readFile(first?.path ?? '', 'utf8'), 'data');
  assert.equal(first?.virtual_bytes, 4);
});

test('a fetch goes on while one guest still waits, and ends when the last one left', async (t) => {
  const cache = new ImageCache(await aDir(t));
  const { fetch, go, seen } = aFetch();
  const first = new AbortController();
  const leaving = cache.get(anImage(), fetch, first.signal);
  const staying = cache.get(anImage(), fetch, never);
  await until('it is being fetched', () => seen.length > 0);

  first.abort('deleted');
  await assert.rejects(leaving, Aborted);
  assert.equal(seen[0]?.aborted, false);
  go();
  await staying;

  const other = aFetch();
  const last = new AbortController();
  const alone = cache.get(anImage({ checksum: 'b'.repeat(64) }), other.fetch, last.signal);
  await until('it is being fetched', () => other.seen.length > 0);
  last.abort('deleted');
  await assert.rejects(alone, Aborted);
  assert.equal(other.seen[0]?.aborted, true);
});

test('who comes right after the last one left starts a fetch of their own', async (t) => {
  const cache = new ImageCache(await aDir(t));
  const { fetch, seen } = aFetch();
  const gone = new AbortController();
  const leaving = cache.get(anImage(), fetch, gone.signal);
  await until('it is being fetched', () => seen.length > 0);

  gone.abort('deleted');
  await assert.rejects(leaving, Aborted);
  const next = aFetch();
  next.go();

  assert.equal((await cache.get(anImage(), next.fetch, never)).virtual_bytes, 4);
});

test('a fetch that fails or brings too little leaves nothing behind', async (t) => {
  const dir = await aDir(t);
  const cache = new ImageCache(dir);
  const fails: FetchImage = async (_image, path) => {
    await writeFile(path, 'da');
    throw new ImageNotFound('image 1 is gone');
  };
  const short = aFetch('dat');
  short.go();

  await assert.rejects(cache.get(anImage(), fails, never), ImageNotFound);
  await assert.rejects(cache.get(anImage(), short.fetch, never), {
    name: BackendUnavailable.name,
    message: 'image 1 came with 3 bytes, it has 4',
  });

  assert.deepEqual(await readdir(dir), []);
});

test('an image that says qcow2 and is not, or has no room, is refused before any guest has it', async (t) => {
  const dir = await aDir(t);
  const cache = new ImageCache(dir);
  const { fetch, go } = aFetch();
  go();

  await assert.rejects(cache.get(anImage({ disk_format: 'qcow2' }), fetch, never), InvalidInput);
  await assert.rejects(cache.get(anImage({ disk_format: 'vmdk' }), fetch, never), /format 'vmdk'; raw, qcow2/);
  await assert.rejects(cache.get(anImage({ checksum: '../../etc/passwd' }), fetch, never), InvalidInput);
  await assert.rejects(cache.get(anImage({ size_bytes: 2 ** 60 }), fetch, never), /1099511627776 MiB, .* MiB free/);

  assert.deepEqual(await readdir(dir), []);
});

test('two daemons that fetch the same image end with one whole file', async (t) => {
  const dir = await aDir(t);
  const one = aFetch();
  const other = aFetch();

  const both = [
    new ImageCache(dir).get(anImage(), one.fetch, never),
    new ImageCache(dir).get(anImage(), other.fetch, never),
  ];
  await until('both fetch', () => one.seen.length + other.seen.length === 2);
  one.go();
  other.go();
  const [first, second] = await Promise.all(both);

  assert.deepEqual(second, first);
  assert.deepEqual(await readdir(dir), [`${'a'.repeat(64)}.raw`]);
});

test('a start takes away what a killed process of this host left half-fetched, and nothing else', async (t) => {
  const dir = await aDir(t);
  const part = (host: string, pid: number, start = 1) => `.${'a'.repeat(64)}.raw.${host}.${pid}.${start}.0abc.part`;
  const dead_pid = 2 ** 22 + 1; // above the kernel's highest
  const own_start = Math.floor(performance.timeOrigin);
  const kept = [
    part('elsewhere', dead_pid),
    part(hostname(), process.ppid),
    part(hostname(), process.pid, own_start),
    `${'a'.repeat(64)}.raw`,
  ];
  for (const name of [part(hostname(), dead_pid), part(hostname(), process.pid), ...kept])
    await writeFile(join(dir, name), 'x');

  await new ImageCache(dir).sweep();

  assert.deepEqual((await readdir(dir)).sort(), kept.sort());
});
