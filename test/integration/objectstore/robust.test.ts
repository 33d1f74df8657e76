import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { sleep } from '../../../src/common/clock.ts';
import { connectDb } from '../../../src/common/db/connect.ts';
import { syncDb } from '../../../src/common/db/migrate.ts';
import { aProject } from '../../builders.ts';
import { startDaemon, type Daemon } from '../../rigs/daemon.ts';
import { freePort } from '../../rigs/free_port.ts';
import { filesIn, tempDir, type Scope } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';
import { anObjectStore } from './an_object_store.ts';
import { ask, sign } from './s3_request.ts';

const MB = 1024 * 1024;

interface Running {
  daemon: Daemon;
  port: number;
  buckets_path: string;
}

/** nova-objectstore as a process of its own. */
async function aProcess(t: Scope): Promise<Running> {
  const dir = tempDir(t, 's3d');
  const db = await connectDb(`sqlite:///${dir}/nova.sqlite`);
  await syncDb(db);
  await aProject(db, 'apollo', 'ann');
  await db.destroy();
  const port = await freePort();
  const daemon = await startDaemon(t, 'nova-objectstore', {
    flags: { state_path: dir, fake_rabbit: true, s3_listen: '127.0.0.1', s3_port: port },
  });
  return { daemon, port, buckets_path: join(dir, 'buckets') };
}

/** An upload whose body the test sends piece by piece. */
function upload(port: number, path: string, size: number, headers: Record<string, string> = {}) {
  const signed = sign({ port }, 'PUT', path, { payload: 'UNSIGNED-PAYLOAD', headers });
  const req = request({
    host: '127.0.0.1',
    port,
    method: 'PUT',
    path,
    agent: false,
    headers: { ...signed.headers, 'content-length': size },
  });
  const status = new Promise<number | string>((resolve) => {
    req.on('response', (res) => resolve(res.resume().statusCode ?? 0));
    req.on('error', (err: NodeJS.ErrnoException) => resolve(err.code ?? err.message));
  });
  return { req, status };
}

test('nova-objectstore killed in the middle of an upload has the old object, whole, when it is back', async (t) => {
  const { daemon, port, buckets_path } = await aProcess(t);
  await ask({ port }, 'PUT', '/b');
  await ask({ port }, 'PUT', '/b/k', { body: 'old', headers: { 'content-type': 'text/old' } });
  const { req, status } = upload(port, '/b/k', 50 * MB);
  req.write(Buffer.alloc(20 * MB, 'n'));
  await until('a part of it is on the disk', () => filesIn(join(buckets_path, '.nova/tmp')).length > 0);

  await daemon.kill();
  await status;
  await daemon.start();

  const got = await ask({ port }, 'GET', '/b/k');
  assert.deepEqual([got.text, got.headers['content-type']], ['old', 'text/old']);
  const again = upload(port, '/b/k', 50 * MB);
  again.req.end(Buffer.alloc(50 * MB, 'n'));
  assert.equal(await again.status, 200);
  assert.equal((await ask({ port }, 'HEAD', '/b/k')).headers['content-length'], String(50 * MB));
});

test('a multipart upload outlives its daemon', async (t) => {
  const { daemon, port } = await aProcess(t);
  await ask({ port }, 'PUT', '/b');
  const upload_id = /<UploadId>(.*)<\/UploadId>/.exec((await ask({ port }, 'POST', '/b/k?uploads')).text)?.[1] ?? '';
  const etag = (await ask({ port }, 'PUT', `/b/k?partNumber=1&uploadId=${upload_id}`, { body: 'part 1, ' })).headers[
    'etag'
  ];

  await daemon.kill();
  await daemon.start();

  const second = await ask({ port }, 'PUT', `/b/k?partNumber=2&uploadId=${upload_id}`, { body: 'part 2' });
  const part = (number: number, tag: string | undefined) =>
    `<Part><PartNumber>${number}</PartNumber><ETag>${tag}</ETag></Part>`;
  const body = `<CompleteMultipartUpload>${part(1, etag)}${part(2, second.headers['etag'])}</CompleteMultipartUpload>`;
  assert.equal((await ask({ port }, 'POST', `/b/k?uploadId=${upload_id}`, { body })).status, 200);
  assert.equal((await ask({ port }, 'GET', '/b/k')).text, 'part 1, part 2');
});

test('many large uploads and downloads at once pass through little memory', async (t) => {
  const { daemon, port } = await aProcess(t);
  await ask({ port }, 'PUT', '/b');
  const memory = (): number =>
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) / 1024;
  const before = memory();
  const piece = Buffer.alloc(MB, 'p');

  const uploads = Array.from({ length: 8 }, async (_, i) => {
    const { req, status } = upload(port, `/b/k${i}`, 64 * MB);
    for (let sent = 0; sent < 64; sent++) if (!req.write(piece)) await once(req, 'drain');
    req.end();
    assert.equal(await status, 200);
  });
  await Promise.all(uploads);
  const downloads = Array.from({ length: 8 }, async (_, i) => {
    const { headers } = sign({ port }, 'GET', `/b/k${i}`, {});
    const req = request({ host: '127.0.0.1', port, path: `/b/k${i}`, headers, agent: false }).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    const hash = createHash('md5');
    for await (const bytes of res as AsyncIterable<Buffer>) {
      hash.update(bytes);
      await sleep(0); // slower than the disk
    }
    assert.equal(`"${hash.digest('hex')}"`, res.headers.etag);
  });
  await Promise.all(downloads);

  assert.ok(
    memory() - before < 150,
    `512 MB in and out took ${Math.round(memory() - before)} MB more than ${before} MB`,
  );
});

test('a client that asks first is refused before it sends, and is told why', async (t) => {
  const store = await anObjectStore(t);
  const { req, status } = upload(store.port, '/nowhere/k', 5_000 * MB, { expect: '100-continue' });
  req.on('continue', () => assert.fail('it was told to go on'));
  req.flushHeaders();
  assert.equal(await status, 404);
  req.destroy();
  await ask(store, 'PUT', '/b');
  const good = upload(store.port, '/b/k', 2, { expect: '100-continue' });
  good.req.on('continue', () => good.req.end('ok'));
  good.req.flushHeaders();
  assert.equal(await good.status, 200);
});

test('a refused upload leaves the connection fit for the next request', async (t) => {
  const store = await anObjectStore(t);
  const body = Buffer.alloc(MB, 'x');
  const bad = sign(store, 'PUT', '/nowhere/k', { body });
  const good = sign(store, 'GET', '/', {});
  const text = (method: string, path: string, headers: Record<string, string>) =>
    `${method} ${path} HTTP/1.1\r\n${Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('')}`;
  const socket = connect(store.port, '127.0.0.1');
  socket.write(`${text('PUT', '/nowhere/k', bad.headers)}content-length: ${body.length}\r\n\r\n`);
  socket.write(body);
  socket.write(`${text('GET', '/', good.headers)}connection: close\r\n\r\n`);
  let answered = '';
  for await (const bytes of socket as AsyncIterable<Buffer>) answered += bytes.toString();
  assert.deepEqual(
    [...answered.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]),
    ['404', '200'],
  );
});

test('a client that goes away in the middle of its upload leaves nothing behind', async (t) => {
  const store = await anObjectStore(t);
  await ask(store, 'PUT', '/b');
  const tmp = join(store.buckets_path, '.nova/tmp');
  const { req, status } = upload(store.port, '/b/k', 50 * MB);
  req.write(Buffer.alloc(5 * MB));
  await until('a part of it is on the disk', () => filesIn(tmp).length > 0);

  req.destroy();
  await status;

  await until('the half of the upload is gone from the disk', () => filesIn(tmp).length === 0);
  assert.equal(existsSync(join(store.buckets_path, 'b/k')), false);
});

test('a read that is refused leaves no file open', async (t) => {
  const store = await anObjectStore(t);
  await ask(store, 'PUT', '/b');
  await ask(store, 'PUT', '/b/k', { body: Buffer.alloc(MB) });
  const isOpen = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(store.buckets_path);
    } catch {
      return false; // closed meanwhile
    }
  };

  for (const method of ['GET', 'HEAD'])
    assert.equal((await ask(store, method, '/b/k?response-content-language=%E2%82%AC')).status, 400);
  assert.equal((await ask(store, 'GET', '/b/k', { headers: { range: `bytes=${MB}-` } })).status, 416);

  assert.deepEqual(readdirSync('/proc/self/fd').filter(isOpen), []);
});

test('what is no request gets a 4xx and harms nobody', async (t) => {
  const store = await anObjectStore(t);
  for (const path of [
    '/%',
    '/b/%zz',
    '/b/%ff',
    `/${'b'.repeat(300)}`,
    `/b/${'k'.repeat(2000)}`,
    '/b/k?partNumber=1&uploadId=../../x',
    '/b/k?uploadId=%00',
  ]) {
    for (const method of ['GET', 'PUT', 'DELETE', 'POST']) {
      const { status } = await ask(store, method, path, { body: 'x' });
      assert.ok(status >= 400 && status < 500, `${method} ${path}: ${status}`);
    }
  }
  assert.equal((await ask(store, 'GET', '/')).status, 200);
  await ask(store, 'PUT', '/b');
  for (const query of ['max-keys=-1', 'max-keys=1e3', 'encoding-type=x', 'list-type=2&continuation-token='])
    assert.equal((await ask(store, 'GET', `/b?${query}`)).code, 'InvalidArgument', query);
});
