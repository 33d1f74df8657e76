import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { imageFetcher } from '../../../../src/common/image/fetch.ts';
import { findStoredImage, imagePath, storeImage } from '../../../../src/common/image/store.ts';
import {
  BackendAway,
  BackendUnavailable,
  Conflict,
  ImageNotFound,
  InvalidInput,
} from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { textIn } from '../../../../src/common/clock.ts';
import { failImage } from '../../../../src/common/db/images.ts';
import { aDatabase, anImage } from '../../../builders.ts';
import { later } from '../../../clock.ts';
import { tempDir } from '../../../rigs/tmp.ts';

const BYTES = Buffer.from('bytes of a disk');
const SHA256 = createHash('sha256').update(BYTES).digest('hex');
const signal = new AbortController().signal;
const anImageFetcher = (images_path: string, s3_port: number) =>
  imageFetcher({ flags: Flags.of({ images_path, s3_host: '127.0.0.1', s3_port }), log: silentLog });
/** @returns its port */
async function anObjectStore(t: TestContext, answer: RequestListener): Promise<number> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => void server.close());
  return (server.address() as AddressInfo).port;
}

test('stored bytes make the image active with their size and checksum', async (t) => {
  const db = await aDatabase(t);
  const images_path = tempDir(t);
  const id = await anImage(db, { status: 'queued', checksum: null, size_bytes: null });

  await storeImage(db, images_path, id, Readable.from([BYTES.subarray(0, 3), BYTES.subarray(3)]));

  const row = await db.selectFrom('images').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
  assert.deepEqual([row.status, row.size_bytes, row.checksum], ['active', BYTES.length, SHA256]);
  assert.deepEqual(await readFile(imagePath(images_path, id)), BYTES);
  assert.equal(await findStoredImage(db, images_path, SHA256), imagePath(images_path, id));
});

test('bytes that cannot be looked at are not said to be missing', async (t) => {
  const db = await aDatabase(t);
  const path = imagePath(tempDir(t), await anImage(db, { checksum: SHA256 }));
  const images_path = dirname(dirname(path));
  assert.equal(await findStoredImage(db, images_path, SHA256), null);

  await mkdir(dirname(path));
  await symlink(path, path);

  await assert.rejects(findStoredImage(db, images_path, SHA256), { code: 'ELOOP' });
});

test('a source that breaks off or is empty leaves no image behind', async (t) => {
  const db = await aDatabase(t);
  const images_path = tempDir(t);
  const id = await anImage(db, { status: 'queued', checksum: null, size_bytes: null });
  const broken = Readable.from(
    (async function* () {
      yield BYTES;
      throw new Error('the line broke');
    })(),
  );

  await assert.rejects(storeImage(db, images_path, id, broken), /the line broke/);
  await assert.rejects(storeImage(db, images_path, id, Readable.from([])), InvalidInput);

  assert.deepEqual(await readdir(join(images_path, '00000001')), []);
  const row = await db.selectFrom('images').select('status').where('id', '=', id).executeTakeFirstOrThrow();
  assert.equal(row.status, 'queued');
});

test('bytes that go on coming keep the image from being given up', async (t) => {
  const db = await aDatabase(t);
  const id = await anImage(db, { status: 'queued', task_deadline: textIn(600) });
  async function* slow(): AsyncGenerator<Buffer> {
    for (let i = 0; i < 3; i++) {
      yield BYTES;
      later(t, 500);
      const row = await db.selectFrom('images').select('task_deadline').where('id', '=', id).executeTakeFirstOrThrow();
      if (i > 0) assert.ok((row.task_deadline ?? '') > textIn(0), row.task_deadline ?? 'no deadline');
    }
  }

  await storeImage(db, tempDir(t), id, Readable.from(slow()));

  const row = await db.selectFrom('images').select(['status', 'task_deadline']).executeTakeFirstOrThrow();
  assert.deepEqual(row, { status: 'active', task_deadline: null });
});

test('an image that was given up while its bytes came stays so, and they are taken away', async (t) => {
  const db = await aDatabase(t);
  const images_path = tempDir(t);
  const id = await anImage(db, { status: 'queued' });
  async function* late(): AsyncGenerator<Buffer> {
    yield BYTES;
    await failImage(db, id, new Error('no bytes came'));
  }

  await assert.rejects(storeImage(db, images_path, id, Readable.from(late())), Conflict);

  assert.deepEqual(await readdir(images_path), []);
  const row = await db.selectFrom('images').select(['status', 'fault']).executeTakeFirstOrThrow();
  assert.deepEqual(row, { status: 'error', fault: 'no bytes came' });
});

test('an image of another host comes over HTTP, and wrong bytes are refused', async (t) => {
  const dir = tempDir(t);
  await mkdir(join(dir, 'images'));
  const s3_port = await anObjectStore(t, (req, res) => {
    if (req.url === `/_images/${SHA256}`) res.end(BYTES);
    else if (req.url === `/_images/${'b'.repeat(64)}`) res.end('something else');
    else res.writeHead(404).end();
  });
  const fetchImage = anImageFetcher(join(dir, 'images'), s3_port);
  const image = { id: 1, checksum: SHA256, size_bytes: BYTES.length };

  await fetchImage(image, join(dir, 'got'), signal);

  assert.deepEqual(await readFile(join(dir, 'got')), BYTES);
  await assert.rejects(fetchImage({ ...image, checksum: 'b'.repeat(64) }, join(dir, 'x'), signal), BackendUnavailable);
  await assert.rejects(fetchImage({ ...image, checksum: 'c'.repeat(64) }, join(dir, 'x'), signal), ImageNotFound);
});

test('an image of this host whose bytes are not those that were registered comes from the object store', async (t) => {
  const images_path = tempDir(t);
  const got = join(tempDir(t), 'got');
  const s3_port = await anObjectStore(t, (_req, res) => void res.end(BYTES));
  const local = imagePath(images_path, 1);
  await mkdir(join(local, '..'));
  const image = { id: 1, checksum: SHA256, size_bytes: BYTES.length };

  await writeFile(local, BYTES);
  await anImageFetcher(images_path, 1)(image, got, signal); // nobody listens there
  assert.deepEqual(await readFile(got), BYTES);

  await writeFile(local, 'b'.repeat(BYTES.length));
  await assert.rejects(anImageFetcher(images_path, 1)(image, got, signal), BackendAway);
  await anImageFetcher(images_path, s3_port)(image, got, signal);
  assert.deepEqual(await readFile(got), BYTES);
});

test('a download that breaks off names where it came from', async (t) => {
  const dir = tempDir(t);
  const s3_port = await anObjectStore(t, (_req, res) => {
    res.writeHead(200, { 'content-length': BYTES.length });
    res.write(BYTES.subarray(0, 3), () => res.destroy());
  });
  const image = { id: 1, checksum: SHA256, size_bytes: BYTES.length };

  await assert.rejects(anImageFetcher(join(dir, 'images'), s3_port)(image, join(dir, 'got'), signal), {
    name: 'BackendAway',
    message: new RegExp(`^http://127.0.0.1:${s3_port}/_images/${SHA256} broke off: `),
  });
});
