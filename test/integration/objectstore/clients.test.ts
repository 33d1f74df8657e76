import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { needs } from '../../rigs/needs.ts';
import { accessKey, anObjectStore, run, secretKey } from './an_object_store.ts';

// Clients as people run them: the AWS command line (version 4) and boto of 2011's Python (version 2), unchanged.

const store = await anObjectStore({ after });

async function aws(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await store.aws(args);
  assert.equal(code, 0, `aws ${args.join(' ')}: ${stderr}`);
  return stdout;
}

test(
  'aws s3: make, copy in and out in many parts, copy inside, sync, list, presign, remove',
  { skip: needs('aws') },
  async () => {
    const big = join(store.dir, 'big');
    writeFileSync(big, randomBytes(20_000_000)); // three parts: the command line cuts from 8 MB on
    await aws('s3', 'mb', 's3://cli');
    await aws('s3', 'cp', '--no-progress', big, 's3://cli/dir/big');
    await aws('s3', 'cp', '--no-progress', 's3://cli/dir/big', 's3://cli/copy');
    await aws('s3', 'cp', '--no-progress', 's3://cli/copy', `${big}.back`);
    assert.ok(readFileSync(big).equals(readFileSync(`${big}.back`)));
    const listed = await aws('s3', 'ls', '--recursive', 's3://cli');
    assert.deepEqual(
      listed
        .trim()
        .split('\n')
        .map((line) => line.split(/\s+/).slice(2)),
      [
        ['20000000', 'copy'],
        ['20000000', 'dir/big'],
      ],
    );
    assert.match(await aws('s3', 'ls', 's3://cli/'), /PRE dir\//);

    const tree = join(store.dir, 'tree');
    mkdirSync(join(tree, 'sub dir'), { recursive: true });
    writeFileSync(join(tree, 'sub dir', 'ä+%.txt'), 'text');
    assert.match(await aws('s3', 'sync', '--no-progress', tree, 's3://cli/tree'), /upload/);
    assert.equal(await aws('s3', 'sync', '--no-progress', tree, 's3://cli/tree'), '');
    const url = (await aws('s3', 'presign', 's3://cli/tree/sub dir/ä+%.txt')).trim();
    assert.equal(await (await fetch(url)).text(), 'text');

    await aws('s3', 'rm', '--recursive', 's3://cli');
    await aws('s3', 'rb', 's3://cli');
    assert.equal((await aws('s3', 'ls')).trim(), '');
  },
);

test(
  'aws s3api: every operation that is offered answers what the client understands',
  { skip: needs('aws') },
  async () => {
    const file = join(store.dir, 'file');
    writeFileSync(file, 'body');
    const json = async (...args: string[]): Promise<Record<string, unknown>> => {
      const out = await aws('s3api', ...args, '--bucket', 'api');
      return out === '' ? {} : (JSON.parse(out) as Record<string, unknown>);
    };
    await json('create-bucket');
    await json('head-bucket');
    assert.equal((await json('get-bucket-location'))['LocationConstraint'], null);
    assert.deepEqual(await json('get-bucket-versioning'), {});
    const put = await json('put-object', '--key', 'k', '--body', file, '--metadata', 'a=1', '--content-type', 'text/x');
    assert.equal(put['ETag'], '"841a2d689ad86bd1611447453c22c6fc"');
    const head = await json('head-object', '--key', 'k');
    assert.deepEqual([head['ContentType'], head['ContentLength'], head['Metadata']], ['text/x', 4, { a: '1' }]);
    assert.equal(
      (await json('get-object', '--key', 'k', '--range', 'bytes=1-2', `${file}.part`))['ContentRange'],
      'bytes 1-2/4',
    );
    assert.equal(readFileSync(`${file}.part`, 'utf8'), 'od');
    assert.deepEqual((await json('get-object-tagging', '--key', 'k'))['TagSet'], []);
    await json('get-object-acl', '--key', 'k');
    await json('copy-object', '--key', 'k2', '--copy-source', 'api/k');
    assert.equal(((await json('list-objects'))['Contents'] as unknown[]).length, 2);
    const page = await json('list-objects-v2', '--max-keys', '1', '--no-paginate');
    assert.deepEqual([page['KeyCount'], page['IsTruncated']], [1, true]);

    const upload = (await json('create-multipart-upload', '--key', 'm', '--content-type', 'text/m'))[
      'UploadId'
    ] as string;
    const part = await json('upload-part', '--key', 'm', '--upload-id', upload, '--part-number', '7', '--body', file);
    const copied = await json(
      'upload-part-copy',
      '--key',
      'm',
      '--upload-id',
      upload,
      '--part-number',
      '9',
      '--copy-source',
      'api/k',
      '--copy-source-range',
      'bytes=0-1',
    );
    assert.equal(((await json('list-multipart-uploads'))['Uploads'] as unknown[]).length, 1);
    assert.equal(((await json('list-parts', '--key', 'm', '--upload-id', upload))['Parts'] as unknown[]).length, 2);
    const parts = [
      { PartNumber: 7, ETag: part['ETag'] },
      { PartNumber: 9, ETag: (copied['CopyPartResult'] as Record<string, unknown>)['ETag'] },
    ];
    const complete = [
      'complete-multipart-upload',
      '--key',
      'm',
      '--upload-id',
      upload,
      '--multipart-upload',
      JSON.stringify({ Parts: parts }),
    ];
    const done = await json(...complete);
    assert.match(String(done['ETag']), /^"[0-9a-f]{32}-2"$/);
    assert.deepEqual((await json(...complete))['ETag'], done['ETag'], 'completing twice is completing once');
    const whole = await json('get-object', '--key', 'm', `${file}.whole`);
    assert.deepEqual([readFileSync(`${file}.whole`, 'utf8'), whole['ContentType']], ['bodybo', 'text/m']);
    const given_up = (await json('create-multipart-upload', '--key', 'x'))['UploadId'] as string;
    await json('abort-multipart-upload', '--key', 'x', '--upload-id', given_up);
    const late = await store.aws([
      's3api',
      'upload-part',
      '--bucket',
      'api',
      '--key',
      'x',
      '--upload-id',
      given_up,
      '--part-number',
      '1',
      '--body',
      file,
    ]);
    assert.match(late.stderr, /NoSuchUpload/);
    const deleted = await json(
      'delete-objects',
      '--delete',
      JSON.stringify({ Objects: ['k', 'k2', 'm'].map((Key) => ({ Key })) }),
    );
    assert.equal((deleted['Deleted'] as unknown[]).length, 3);
    await json('delete-bucket');
  },
);

test("aws: another project's bucket and a missing key fail with S3's codes", { skip: needs('aws') }, async () => {
  await aws('s3', 'mb', 's3://annas');
  assert.match((await store.aws(['s3', 'ls', 's3://annas'], 'bob')).stderr, /AccessDenied/);
  assert.match(
    (await store.aws(['s3api', 'get-object', '--bucket', 'annas', '--key', 'no', '/dev/null'])).stderr,
    /NoSuchKey/,
  );
});

const BOTO = `
import sys, io
from boto.s3.connection import S3Connection, OrdinaryCallingFormat
from boto.exception import S3ResponseError
def connect(secret): return S3Connection(sys.argv[2], secret, host='127.0.0.1', port=int(sys.argv[1]), is_secure=False, calling_format=OrdinaryCallingFormat())
def code(f):
    try: f()
    except S3ResponseError as e: return (e.status, e.error_code)
c = connect(sys.argv[3])
b = c.create_bucket('boto')
assert 'boto' in [x.name for x in c.get_all_buckets()]
name = 'k \\u00e9+%/x'
assert b.new_key(name).set_contents_from_string('hallo', headers={'x-amz-meta-a': '1'}) == 5
k = b.get_key(name)
assert (k.size, k.metadata, k.get_contents_as_string()) == (5, {'a': '1'}, b'hallo')
assert [(x.name, x.size, x.etag) for x in b.list()] == [(name, 5, '"598d4c200461b81522a3328565c25f7c"')]
assert b.get_key('nope') is None
print(k.generate_url(60))
mp = b.initiate_multipart_upload('mp')
mp.upload_part_from_file(io.BytesIO(b'a' * 5242880), 1); mp.upload_part_from_file(io.BytesIO(b'end'), 2)
mp.complete_upload()
assert b.get_key('mp').size == 5242883
b.copy_key('copy', 'boto', 'mp')
assert b.get_key('copy').etag == b.get_key('mp').etag
assert code(lambda: c.create_bucket('boto')) == (403, 'BucketAlreadyOwnedByYou')
assert code(lambda: c.delete_bucket('boto')) == (403, 'BucketNotEmpty')
assert code(lambda: b.delete_key('nope')) == (404, 'NoSuchKey')
b.delete_key('copy')
r = b.delete_keys(['mp', 'zzz']); assert not r.errors
assert code(lambda: c.get_bucket('nope')) == (404, 'NoSuchBucket')
assert code(lambda: connect('wrong').get_all_buckets()) == (403, 'SignatureDoesNotMatch')
`;

test(
  "boto, the client of Nova's days, creates, lists, puts, gets, copies and deletes",
  { skip: needs('python3') },
  async (t) => {
    if ((await run('/usr/bin/python3', ['-c', 'import boto'])).code !== 0)
      return t.skip('python3-boto is not installed: see scripts/setup');
    const done = await run('/usr/bin/python3', ['-c', BOTO, String(store.port), accessKey('ann'), secretKey('ann')]);
    assert.equal(done.code, 0, done.stderr);
    assert.equal(await (await fetch(done.stdout.trim())).text(), 'hallo');
  },
);
