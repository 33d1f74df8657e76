import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { filesIn } from '../../rigs/tmp.ts';
import { anObjectStore } from './an_object_store.ts';
import { ask, bucketsOf, send, sign, signedChunks } from './s3_request.ts';

// Expected answers: objectstore-and-images.md, section 7 (Nova 2011), and AWS where Nova had nothing.

const store = await anObjectStore({ after });
const aBucket = bucketsOf(store);
const md5 = (text: string | Buffer): string => createHash('md5').update(text).digest('hex');
const keysOf = (xml: string): string[] => [...xml.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1] as string);

test('an object is the plain file bucket/key, with its md5 as etag and an unknown type', async () => {
  const b = await aBucket();
  const before = Math.floor(Date.now() / 1000) * 1000; // the header has whole seconds
  const put = await ask(store, 'PUT', `/${b}/k`, { body: 'hello' });
  assert.deepEqual([put.status, put.text, put.headers['etag']], [200, '', `"${md5('hello')}"`]);
  assert.equal(readFileSync(join(store.buckets_path, b, 'k'), 'utf8'), 'hello');
  const got = await ask(store, 'GET', `/${b}/k`);
  assert.deepEqual([got.status, got.text], [200, 'hello']);
  assert.equal(got.headers['content-type'], 'application/unknown');
  assert.equal(got.headers['etag'], `"${md5('hello')}"`);
  assert.ok(Date.parse(got.headers['last-modified'] ?? '') >= before);
  const head = await ask(store, 'HEAD', `/${b}/k`);
  assert.deepEqual([head.status, head.headers['content-length'], head.text], [200, '5', '']);
  assert.equal((await ask(store, 'DELETE', `/${b}/k`)).status, 204);
  const gone = await ask(store, 'GET', `/${b}/k`);
  assert.deepEqual([gone.status, gone.code], [404, 'NoSuchKey']);
  assert.equal((await ask(store, 'DELETE', `/${b}/k`)).status, 404);
});

test('a put into a bucket that is not there says so and leaves nothing', async () => {
  const put = await ask(store, 'PUT', '/nowhere/k', { body: 'x' });
  assert.deepEqual([put.status, put.code], [404, 'NoSuchBucket']);
  assert.equal(existsSync(join(store.buckets_path, 'nowhere')), false);
});

test('a file that an operator puts into a bucket is an object, small or large', async () => {
  const b = await aBucket();
  writeFileSync(join(store.buckets_path, b, 'small'), 'operator');
  writeFileSync(join(store.buckets_path, b, 'large'), Buffer.alloc(1_000_000, 'x'));
  const small = await ask(store, 'GET', `/${b}/small`);
  assert.deepEqual([small.text, small.headers['etag']], ['operator', `"${md5('operator')}"`]);
  const large = await ask(store, 'GET', `/${b}/large`);
  assert.equal(large.body.length, 1_000_000);
  assert.match(large.headers['etag'] ?? '', /^"[0-9a-f]{32}-0"$/); // no md5: nobody worked it out
  assert.deepEqual(keysOf((await ask(store, 'GET', `/${b}`)).text), ['large', 'small']);
});

test('keys with slashes, dots and every odd character live side by side and never leave the bucket', async () => {
  const b = await aBucket();
  const outside = readdirSync(store.dir).sort();
  const keys = [
    'a',
    'a/b',
    'a/b/',
    '../../escape',
    '..',
    '.',
    '.nova',
    'a%2Fb',
    'é/日本',
    'sp ace+plus',
    'x'.repeat(900),
    '\u0001',
  ];
  for (const key of keys) {
    const put = await ask(store, 'PUT', `/${b}/${encodeURIComponent(key)}`, { body: `body of ${key}` });
    assert.equal(put.status, 200, key);
  }
  for (const key of keys)
    assert.equal((await ask(store, 'GET', `/${b}/${encodeURIComponent(key)}`)).text, `body of ${key}`, key);
  const list = await ask(store, 'GET', `/${b}?encoding-type=url`);
  const listed = keysOf(list.text).map(decodeURIComponent);
  assert.deepEqual(
    listed,
    keys.toSorted((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y))),
  );
  assert.deepEqual(readdirSync(store.dir).sort(), outside);
  const raw = await ask(store, 'PUT', `/${b}/../../../etc/nova-was-here`, { body: 'x' });
  assert.equal(raw.status, 200);
  assert.equal(existsSync('/etc/nova-was-here'), false);
  for (const key of [...keys, '../../../etc/nova-was-here'])
    assert.equal((await ask(store, 'DELETE', `/${b}/${encodeURIComponent(key)}`)).status, 204, key);
  assert.equal((await ask(store, 'DELETE', `/${b}`)).status, 204);
});

test('lists are in byte order, cut by prefix, marker and max-keys, and carry the namespace', async () => {
  const b = await aBucket();
  for (const key of ['b', 'a/2', 'a/1', 'B', 'é', 'z'])
    await ask(store, 'PUT', `/${b}/${encodeURIComponent(key)}`, { body: key });
  const all = await ask(store, 'GET', `/${b}/`);
  assert.match(all.text, /<ListBucketResult xmlns="http:\/\/doc\.s3\.amazonaws\.com\/2006-03-01">/);
  assert.match(all.text, /<MaxKeys>50000<\/MaxKeys>.*<IsTruncated>false<\/IsTruncated>/);
  assert.deepEqual(keysOf(all.text), ['B', 'a/1', 'a/2', 'b', 'z', 'é']);
  assert.match(
    all.text,
    new RegExp(`<Key>B</Key><LastModified>[^<]*Z</LastModified><ETag>&quot;${md5('B')}&quot;</ETag><Size>1</Size>`),
  );
  const page = await ask(store, 'GET', `/${b}?max-keys=2&marker=B`);
  assert.deepEqual(keysOf(page.text), ['a/1', 'a/2']);
  assert.match(page.text, /<Marker>B<\/Marker><NextMarker>a\/2<\/NextMarker><MaxKeys>2<\/MaxKeys><IsTruncated>true/);
  assert.deepEqual(keysOf((await ask(store, 'GET', `/${b}?prefix=a%2F`)).text), ['a/1', 'a/2']);
  const folded = await ask(store, 'GET', `/${b}?delimiter=%2F`);
  assert.deepEqual(keysOf(folded.text), ['B', 'b', 'z', 'é']);
  assert.match(folded.text, /<CommonPrefixes><Prefix>a\/<\/Prefix><\/CommonPrefixes>/);
  const terse = await ask(store, 'GET', `/${b}?terse=1&prefix=b`);
  assert.match(terse.text, /<Contents><Key>b<\/Key><\/Contents>/);
  assert.equal((await ask(store, 'GET', `/${b}?max-keys=x`)).code, 'InvalidArgument');
});

test('a listing in two pages sees what was put in between', async () => {
  const b = await aBucket();
  for (const key of ['a', 'c', 'e']) await ask(store, 'PUT', `/${b}/${key}`, { body: key });
  const first = await ask(store, 'GET', `/${b}?list-type=2&max-keys=1`);
  const token = /<NextContinuationToken>([^<]*)</.exec(first.text)?.[1] ?? assert.fail();
  await ask(store, 'PUT', `/${b}/b`, { body: 'b' });
  await ask(store, 'DELETE', `/${b}/c`);
  const second = await ask(store, 'GET', `/${b}?list-type=2&continuation-token=${token}`);
  assert.deepEqual(keysOf(second.text), ['b', 'e']);
  assert.match(second.text, /<KeyCount>2<\/KeyCount>/);
});

test('content type and metadata come back, and go when the object is replaced without them', async () => {
  const b = await aBucket();
  const headers = {
    'content-type': 'text/x',
    'x-amz-meta-colour': 'red',
    'cache-control': 'no-cache',
    'content-encoding': 'gzip, aws-chunked',
  };
  await ask(store, 'PUT', `/${b}/k`, { headers, body: 'x' });
  const got = await ask(store, 'HEAD', `/${b}/k`);
  assert.deepEqual(
    [
      got.headers['content-type'],
      got.headers['x-amz-meta-colour'],
      got.headers['cache-control'],
      got.headers['content-encoding'],
    ],
    ['text/x', 'red', 'no-cache', 'gzip'],
  );
  await ask(store, 'PUT', `/${b}/k`, { body: 'x' });
  const bare = await ask(store, 'HEAD', `/${b}/k`);
  assert.deepEqual(
    [bare.headers['content-type'], bare.headers['x-amz-meta-colour']],
    ['application/unknown', undefined],
  );
  const big = await ask(store, 'PUT', `/${b}/k`, { headers: { 'x-amz-meta-big': 'x'.repeat(9000) }, body: 'x' });
  assert.equal(big.code, 'MetadataTooLarge');
});

test('a file changed behind the back of the store loses what was known of the old one', async () => {
  const b = await aBucket();
  await ask(store, 'PUT', `/${b}/k`, { headers: { 'content-type': 'text/x' }, body: 'old' });
  writeFileSync(join(store.buckets_path, b, 'k'), 'new');
  utimesSync(join(store.buckets_path, b, 'k'), 1, 1);
  const got = await ask(store, 'GET', `/${b}/k`);
  assert.deepEqual(
    [got.text, got.headers['etag'], got.headers['content-type']],
    ['new', `"${md5('new')}"`, 'application/unknown'],
  );
});

test('ranges and conditions are kept', async () => {
  const b = await aBucket();
  const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
  for (const body of [bytes, bytes.subarray(0, 1000)]) {
    const put = await ask(store, 'PUT', `/${b}/k`, { body });
    const part = await ask(store, 'GET', `/${b}/k`, { headers: { range: 'bytes=10-19' } });
    assert.deepEqual([part.status, part.headers['content-range']], [206, `bytes 10-19/${body.length}`]);
    assert.deepEqual(part.body, body.subarray(10, 20));
    assert.deepEqual((await ask(store, 'GET', `/${b}/k`, { headers: { range: 'bytes=-5' } })).body, body.subarray(-5));
    const none = await ask(store, 'GET', `/${b}/k`, { headers: { range: `bytes=${body.length}-` } });
    assert.deepEqual(
      [none.status, none.code, none.headers['content-range']],
      [416, 'InvalidRange', `bytes */${body.length}`],
    );
    const etag = put.headers['etag'] ?? '';
    assert.equal((await ask(store, 'GET', `/${b}/k`, { headers: { 'if-none-match': etag } })).status, 304);
    assert.equal((await ask(store, 'GET', `/${b}/k`, { headers: { 'if-match': '"x"' } })).status, 412);
    assert.equal(
      (await ask(store, 'PUT', `/${b}/k`, { headers: { 'if-none-match': '*' }, body: 'y' })).code,
      'PreconditionFailed',
    );
    assert.deepEqual((await ask(store, 'GET', `/${b}/k`)).body, body);
  }
});

test('a body that is not what its sender vouched for is refused, and the object stays as it was', async () => {
  const b = await aBucket();
  await ask(store, 'PUT', `/${b}/k`, { body: 'before' });
  const wrong = async (asked: Parameters<typeof ask>[3]) => (await ask(store, 'PUT', `/${b}/k`, asked)).code;
  assert.equal(await wrong({ body: 'x', payload: '0'.repeat(64) }), 'XAmzContentSHA256Mismatch');
  assert.equal(
    await wrong({ body: 'x', headers: { 'content-md5': Buffer.from(md5('y'), 'hex').toString('base64') } }),
    'BadDigest',
  );
  assert.equal(await wrong({ body: 'x', headers: { 'content-md5': 'x' } }), 'InvalidDigest');
  for (const sum of ['crc32', 'crc32c', 'crc64nvme', 'sha1', 'sha256'])
    assert.equal(await wrong({ body: 'x', headers: { [`x-amz-checksum-${sum}`]: 'AAAAAA==' } }), 'BadDigest', sum);
  assert.equal((await ask(store, 'GET', `/${b}/k`)).text, 'before');
  assert.deepEqual(filesIn(join(store.buckets_path, '.nova/tmp')), []);
  const good = Buffer.alloc(4);
  good.writeUInt32BE(crc32('right'));
  const put = await ask(store, 'PUT', `/${b}/k`, {
    body: 'right',
    headers: { 'x-amz-checksum-crc32': good.toString('base64') },
  });
  assert.deepEqual([put.status, put.headers['x-amz-checksum-crc32']], [200, good.toString('base64')]);
});

test('a body signed chunk by chunk is taken, and one changed byte is not', async () => {
  const b = await aBucket();
  const chunks = ['a'.repeat(70_000), 'b'.repeat(10), 'c'];
  const size = chunks.join('').length;
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(chunks.join('')));
  for (const trailers of [{}, { 'x-amz-checksum-crc32': sum.toString('base64') }]) {
    const with_trailer = Object.keys(trailers).length > 0;
    const asked = {
      payload: `STREAMING-AWS4-HMAC-SHA256-PAYLOAD${with_trailer ? '-TRAILER' : ''}`,
      headers: {
        'content-encoding': 'aws-chunked',
        'x-amz-decoded-content-length': String(size),
        ...(with_trailer ? { 'x-amz-trailer': 'x-amz-checksum-crc32' } : {}),
      },
    };
    const first = sign(store, 'PUT', `/${b}/k`, asked);
    const body = signedChunks(first, chunks, trailers);
    assert.equal((await send(store, 'PUT', `/${b}/k`, first.headers, body)).status, 200);
    assert.equal((await ask(store, 'GET', `/${b}/k`)).text, chunks.join(''));
    const forged = await send(store, 'PUT', `/${b}/k`, first.headers, body.replace('bbb', 'bxb'));
    assert.deepEqual([forged.status, forged.code], [403, 'SignatureDoesNotMatch']);
    const cut = await send(store, 'PUT', `/${b}/k`, first.headers, body.slice(0, body.lastIndexOf('0;chunk')));
    assert.equal(cut.code, 'IncompleteBody');
    if (with_trailer) {
      const other = signedChunks(first, chunks, { 'x-amz-checksum-crc32': 'AAAAAA==' });
      assert.equal((await send(store, 'PUT', `/${b}/k`, first.headers, other)).code, 'BadDigest');
      const unsigned = body.replace(/x-amz-trailer-signature:.{8}/, 'x-amz-trailer-signature:00000000');
      assert.equal((await send(store, 'PUT', `/${b}/k`, first.headers, unsigned)).code, 'SignatureDoesNotMatch');
    }
    assert.equal((await ask(store, 'GET', `/${b}/k`)).text, chunks.join(''));
  }
  const trailing = await ask(store, 'PUT', `/${b}/k`, {
    payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    headers: { 'x-amz-decoded-content-length': '2', 'x-amz-trailer': 'x-amz-checksum-crc32' },
    body: '2\r\nhi\r\n0\r\nx-amz-checksum-crc32:2nmSrg==\r\n\r\n',
  });
  assert.equal(trailing.code, 'BadDigest');
});

test('nobody gets in unsigned, with a wrong or old signature, or with an unknown key', async () => {
  const b = await aBucket();
  const refused = async (asked: Parameters<typeof ask>[3]) => {
    const answer = await ask(store, 'GET', `/${b}`, asked);
    return [answer.status, answer.code];
  };
  assert.deepEqual(await refused({ as: null }), [403, 'AccessDenied']);
  assert.deepEqual(await refused({ secret: 'wrong' }), [403, 'SignatureDoesNotMatch']);
  assert.deepEqual(await refused({ now: new Date(Date.now() - 3_600_000) }), [403, 'RequestTimeTooSkewed']);
  assert.deepEqual(await refused({ as: 'eve', secret: 'x' }), [403, 'InvalidAccessKeyId']);
});

test('an object is copied with or without its metadata, onto itself too', async () => {
  const b = await aBucket();
  await ask(store, 'PUT', `/${b}/a`, { body: 'x', headers: { 'content-type': 'text/x', 'x-amz-meta-a': '1' } });
  const copy = await ask(store, 'PUT', `/${b}/d/b`, { headers: { 'x-amz-copy-source': `/${b}/a` } });
  assert.match(copy.text, new RegExp(`<CopyObjectResult.*<ETag>&quot;${md5('x')}&quot;</ETag>`, 's'));
  const head = await ask(store, 'HEAD', `/${b}/d/b`);
  assert.deepEqual([head.headers['content-type'], head.headers['x-amz-meta-a']], ['text/x', '1']);
  const replace = { 'x-amz-copy-source': `${b}/a`, 'x-amz-metadata-directive': 'REPLACE', 'x-amz-meta-b': '2' };
  await ask(store, 'PUT', `/${b}/a`, { headers: replace });
  const self = await ask(store, 'HEAD', `/${b}/a`);
  assert.deepEqual([self.headers['x-amz-meta-a'], self.headers['x-amz-meta-b']], [undefined, '2']);
  assert.equal(
    (await ask(store, 'PUT', `/${b}/c`, { headers: { 'x-amz-copy-source': `/${b}/no` } })).code,
    'NoSuchKey',
  );
});

test('many objects are deleted at once, and what is not there counts as deleted', async () => {
  const b = await aBucket();
  for (const key of ['a', 'b&c', 'd']) await ask(store, 'PUT', `/${b}/${encodeURIComponent(key)}`, { body: key });
  const body =
    '<Delete><Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object><Object><Key>no</Key></Object></Delete>';
  const answer = await ask(store, 'POST', `/${b}?delete`, { body });
  assert.equal([...answer.text.matchAll(/<Deleted>/g)].length, 3);
  assert.deepEqual(keysOf((await ask(store, 'GET', `/${b}`)).text), ['d']);
  for (const wrong of [
    '',
    'x',
    '<Delete/>',
    '<Delete><Object/></Delete>',
    '<!DOCTYPE x [<!ENTITY e "e">]><Delete>&e;</Delete>',
  ])
    assert.equal((await ask(store, 'POST', `/${b}?delete`, { body: wrong })).code, 'MalformedXML', wrong);
});

test('what the store does not offer is refused by name, not ignored', async () => {
  const b = await aBucket();
  assert.equal((await ask(store, 'GET', `/${b}?policy`)).code, 'NotImplemented');
  assert.equal((await ask(store, 'PUT', `/${b}?versioning`)).code, 'NotImplemented');
  assert.equal((await ask(store, 'POST', `/${b}/k`)).code, 'MethodNotAllowed');
  assert.equal((await ask(store, 'PATCH', `/${b}/k`)).code, 'MethodNotAllowed');
  for (const headers of [{ 'x-amz-acl': 'public-read' }, { 'x-amz-server-side-encryption': 'AES256' }])
    assert.equal((await ask(store, 'PUT', `/${b}/k`, { headers, body: 'x' })).code, 'NotImplemented');
  assert.match((await ask(store, 'GET', `/${b}?acl`)).text, /<Permission>FULL_CONTROL<\/Permission>/);
  assert.match(
    (await ask(store, 'GET', `/${b}?location`)).text,
    /<LocationConstraint xmlns="[^"]*"><\/LocationConstraint>/,
  );
});

test('puts of one key side by side leave one of them whole', async () => {
  const b = await aBucket();
  const bodies = Array.from({ length: 20 }, (_, i) => Buffer.alloc(i % 2 === 0 ? 100 : 100_000, `${i % 10}`));
  const answers = await Promise.all(
    bodies.map((body) => ask(store, 'PUT', `/${b}/k`, { body, headers: { 'x-amz-meta-md5': md5(body) } })),
  );
  assert.ok(answers.every((answer) => answer.status === 200));
  const got = await ask(store, 'GET', `/${b}/k`);
  assert.deepEqual([got.headers['etag'], got.headers['x-amz-meta-md5']], [`"${md5(got.body)}"`, md5(got.body)]);
  assert.equal(readdirSync(join(store.buckets_path, '.nova/buckets', b, 'meta')).length, 1);
});

test('an image is served to whoever knows its sha256, and nothing else is', async () => {
  const path = join(store.dir, 'image');
  writeFileSync(path, 'kernel bytes');
  const sha256 = createHash('sha256').update('kernel bytes').digest('hex');
  store.images.set(sha256, path);
  assert.equal((await ask(store, 'GET', `/_images/${sha256}`, { as: null })).text, 'kernel bytes');
  const part = await ask(store, 'GET', `/_images/${sha256}`, { as: null, headers: { range: 'bytes=7-' } });
  assert.deepEqual([part.status, part.text], [206, 'bytes']);
  for (const wrong of ['', 'x', sha256.toUpperCase(), '0'.repeat(64), '../buckets', `${sha256}/..`])
    assert.equal((await ask(store, 'GET', `/_images/${wrong}`, { as: null })).status, 404, wrong);
});
