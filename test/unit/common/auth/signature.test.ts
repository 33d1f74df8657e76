import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import type { SignedRequest } from '../../../../src/common/auth/claim.ts';
import { readEc2Claim, readS3Claim } from '../../../../src/common/auth/signature.ts';
import { readV4Claim } from '../../../../src/common/auth/signature_v4.ts';
import {
  AuthFailure,
  InvalidInput,
  MissingParameter,
  RequestExpired,
  SignatureDoesNotMatch,
} from '../../../../src/common/errors.ts';

function aRequest(over: Partial<SignedRequest> = {}): SignedRequest {
  return { method: 'GET', path: '/', query: '', headers: {}, ...over };
}
const headers = (given: Record<string, string | string[]>): NodeJS.Dict<string[]> =>
  Object.fromEntries(Object.entries(given).map(([name, value]) => [name, [value].flat()]));

// ---- EC2 versions 0, 1, 2: vectors that Nova 2011.2's own signer gave ----

const NOW_2011 = new Date('2011-04-15T00:05:00Z');
const nobody = Buffer.alloc(0);

function params(over: Record<string, string | null> = {}): Map<string, string> {
  const all: Record<string, string | null> = {
    AWSAccessKeyId: 'akid:proj',
    Action: 'DescribeInstances',
    Timestamp: '2011-04-15T00:00:00Z',
    Version: '2009-04-04',
    SignatureVersion: '2',
    SignatureMethod: 'HmacSHA256',
    'InstanceId.1': 'i-00000001',
    'InstanceId.2': 'i-0000000a',
    ...over,
  };
  return new Map(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== null));
}
const cloud = (over: Partial<SignedRequest> = {}): SignedRequest =>
  aRequest({ path: '/services/Cloud', headers: headers({ host: '127.0.0.1:8773' }), ...over });
const checked = (request: SignedRequest, given: Map<string, string>, now = NOW_2011) => {
  const claim = readEc2Claim(request, given, nobody);
  claim.verify('secretkey', now);
  return claim;
};

const VECTORS: [string, SignedRequest, Map<string, string>][] = [
  ['version 2, GET', cloud(), params({ Signature: 'uofynKlMtykyhTjylXw30vrUYN2X+6zB/zLrw74luds=' })],
  [
    'version 2, POST, path with a slash at its end',
    cloud({ method: 'POST', path: '/services/Cloud/' }),
    params({ Signature: 'UI9DXY8mOcOzmgFE1hKEwANbgXc41PwLdyC4mKUgcPU=' }),
  ],
  [
    'version 2 made without the port that the Host header has',
    cloud(),
    params({ Signature: 'keJEpNcGvw51F3wmo+itAMLUn0t49TdAGoZ64Wxg/CI=' }),
  ],
  [
    'version 1',
    cloud(),
    params({ SignatureVersion: '1', SignatureMethod: null, Signature: '6nJFJsUAyYPKtXuAKnMuGoEaRlw=' }),
  ],
  ['version 0', cloud(), params({ SignatureVersion: '0', Signature: 'HPvIKuUkVVwsC9qUZVtAnpnvQEQ=' })],
  [
    'version 2 of text that is not ASCII',
    cloud(),
    params({ KeyName: 'a b/c~d*é+', Signature: 'JcXI6ywmYS+o86Zhhm61Mg/rsxpdWEY0ZEBL9zLs9Is=' }),
  ],
];
for (const [name, request, given] of VECTORS) {
  test(`an EC2 signature of ${name} is accepted, and nothing near it`, () => {
    assert.equal(checked(request, given).access_key, 'akid:proj');

    assert.throws(() => readEc2Claim(request, given, nobody).verify('Secretkey', NOW_2011), SignatureDoesNotMatch);
    const forged = new Map(given).set('Action', 'TerminateInstances');
    assert.throws(() => checked(request, forged), SignatureDoesNotMatch);
    const cut = new Map(given).set('Signature', (given.get('Signature') ?? '').slice(0, -1));
    assert.throws(() => checked(request, cut), SignatureDoesNotMatch);
  });
}

test('an EC2 version 2 signature with HmacSHA1 is refused however it is made', () => {
  const given = params({ SignatureMethod: 'HmacSHA1' });
  const query = [...given].sort().map((pair) => pair.map(encodeURIComponent).join('='));
  const text = `GET\n127.0.0.1:8773\n/services/Cloud\n${query.join('&')}`;
  given.set('Signature', createHmac('sha1', 'secretkey').update(text).digest('base64'));

  assert.throws(() => checked(cloud(), given), /HmacSHA1 is refused: sign with HmacSHA256/);
});

test('an EC2 request is refused when its Timestamp is more than 15 minutes off, either way', () => {
  const given = VECTORS[0]![2];

  checked(cloud(), given, new Date('2011-04-15T00:15:00Z'));
  checked(cloud(), given, new Date('2011-04-14T23:45:00Z'));

  assert.throws(() => checked(cloud(), given, new Date('2011-04-15T00:15:01Z')), RequestExpired);
  assert.throws(() => checked(cloud(), given, new Date('2011-04-14T23:44:59Z')), /1 s before|901 s after/);
});

test('Expires stands in for Timestamp and is honoured to the second', () => {
  const given = params({
    SignatureVersion: '1',
    SignatureMethod: null,
    Timestamp: null,
    Expires: '2011-04-16T00:00:00',
  });
  const text = [...given].sort((a, b) => (a[0].toLowerCase() < b[0].toLowerCase() ? -1 : 1)).flat();
  given.set('Signature', createHmac('sha1', 'secretkey').update(text.join('')).digest('base64'));

  checked(cloud(), given, new Date('2011-04-16T00:00:00Z'));

  assert.throws(() => checked(cloud(), given, new Date('2011-04-16T00:00:01Z')), RequestExpired);
});

test('an EC2 request names the parameter that it needs and lacks', () => {
  const complete = { Signature: 'x' };
  for (const name of ['AWSAccessKeyId', 'Signature', 'SignatureVersion', 'SignatureMethod', 'Timestamp']) {
    const given = params({ ...complete, [name]: null });
    assert.throws(
      () => readEc2Claim(cloud(), given, nobody),
      (err) => err instanceof MissingParameter && err.message.includes(` ${name} `),
    );
  }
  assert.throws(() => readEc2Claim(cloud(), params({ ...complete, SignatureVersion: '3' }), nobody), InvalidInput);
  assert.throws(() => readEc2Claim(cloud(), params({ ...complete, Timestamp: 'now' }), nobody), /Timestamp 'now'/);
});

// ---- Version 4: vectors that AWS publishes ----

const SUITE_NOW = new Date('2015-08-30T12:36:00Z');
const SUITE_SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';
const suiteAuthorization = (signed: string, signature: string, service = 'service') =>
  `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/${service}/aws4_request, SignedHeaders=${signed}, Signature=${signature}`;
const suiteHeaders = (authorization: string, more: Record<string, string | string[]> = {}) =>
  headers({ host: 'example.amazonaws.com', 'x-amz-date': '20150830T123600Z', authorization, ...more });
const FORM = 'application/x-www-form-urlencoded';

const SUITE: [string, string, Partial<SignedRequest>, string, Record<string, string | string[]>, string][] = [
  ['get-vanilla', '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31', {}, 'host;x-amz-date', {}, ''],
  [
    'get-slashes',
    '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31',
    { path: '//./..//' },
    'host;x-amz-date',
    {},
    '',
  ],
  [
    'get-vanilla-query-order-key-case',
    'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
    { query: 'Param2=value2&Param1=value1' },
    'host;x-amz-date',
    {},
    '',
  ],
  [
    'get-unreserved',
    '07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f',
    { path: '/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz' },
    'host;x-amz-date',
    {},
    '',
  ],
  [
    'get-header-value-trim',
    'acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736',
    {},
    'host;my-header1;my-header2;x-amz-date',
    { 'my-header1': ' value1', 'my-header2': ' "a   b   c"' },
    '',
  ],
  [
    'get-header-key-duplicate',
    'c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea',
    {},
    'host;my-header1;x-amz-date',
    { 'my-header1': ['value2', 'value2', 'value1'] },
    '',
  ],
  [
    'post-vanilla',
    '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
    { method: 'POST' },
    'host;x-amz-date',
    {},
    '',
  ],
  [
    'post-x-www-form-urlencoded',
    'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
    { method: 'POST' },
    'content-type;host;x-amz-date',
    { 'content-type': FORM },
    'Param1=value1',
  ],
];
for (const [name, signature, over, signed, more, body] of SUITE) {
  test(`AWS's version 4 test ${name} verifies, and not with another body`, () => {
    const request = aRequest({ ...over, headers: suiteHeaders(suiteAuthorization(signed, signature), more) });

    const claim = readV4Claim(request, Buffer.from(body));
    claim.verify(SUITE_SECRET, SUITE_NOW);

    assert.equal(claim.access_key, 'AKIDEXAMPLE');
    assert.throws(
      () => readV4Claim(request, Buffer.from(`${body} `)).verify(SUITE_SECRET, SUITE_NOW),
      SignatureDoesNotMatch,
    );
  });
}

test("the request of AWS's version 4 manual verifies, within its 15 minutes", () => {
  const signature = '5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7';
  const request = aRequest({
    query: 'Action=ListUsers&Version=2010-05-08',
    headers: suiteHeaders(suiteAuthorization('content-type;host;x-amz-date', signature, 'iam'), {
      host: 'iam.amazonaws.com',
      'content-type': `${FORM}; charset=utf-8`,
    }),
  });
  const claim = readEc2Claim(request, new Map(), nobody);

  claim.verify(SUITE_SECRET, SUITE_NOW);

  assert.equal(claim.service, 'iam');
  assert.throws(() => claim.verify(SUITE_SECRET, new Date('2015-08-30T12:51:01Z')), RequestExpired);
});

test('a version 4 signature that is for S3, without the host, or in pieces is refused', () => {
  const of = (authorization: string) =>
    readEc2Claim(aRequest({ headers: suiteHeaders(authorization) }), new Map(), nobody);

  assert.throws(
    () => of(suiteAuthorization('host;x-amz-date', 'ab', 's3')),
    /for the service s3; sign for the service ec2/,
  );
  assert.throws(() => of(suiteAuthorization('x-amz-date', 'ab', 'ec2')), /leaves out host/);
  assert.throws(() => of('AWS4-HMAC-SHA256'), AuthFailure);
  assert.throws(() => of('AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00'), /KEY\/YYYYMMDD/);
  assert.throws(() => of(suiteAuthorization('host', 'ab', 'ec2').replace('20150830', '20150831')), /of 20150831/);
});

// ---- S3: the examples of Amazon's S3 manual ----

const S3_SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
const S3_NOW = new Date('2013-05-24T00:00:00Z');
const EMPTY_HASH = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const s3Headers = (signed: string, signature: string, more: Record<string, string> = {}) =>
  headers({
    host: 'examplebucket.s3.amazonaws.com',
    'x-amz-content-sha256': EMPTY_HASH,
    'x-amz-date': '20130524T000000Z',
    authorization: `AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=${signed},Signature=${signature}`,
    ...more,
  });

const S3_REQUESTS: [string, SignedRequest][] = [
  [
    'GET object with a range',
    aRequest({
      path: '/test.txt',
      headers: s3Headers(
        'host;range;x-amz-content-sha256;x-amz-date',
        'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
        { range: 'bytes=0-9' },
      ),
    }),
  ],
  [
    'PUT object whose name has a $',
    aRequest({
      method: 'PUT',
      path: '/test$file.text',
      headers: s3Headers(
        'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
        '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
        {
          date: 'Fri, 24 May 2013 00:00:00 GMT',
          'x-amz-storage-class': 'REDUCED_REDUNDANCY',
          'x-amz-content-sha256': '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
        },
      ),
    }),
  ],
  [
    'GET bucket lifecycle',
    aRequest({
      query: 'lifecycle',
      headers: s3Headers(
        'host;x-amz-content-sha256;x-amz-date',
        'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
      ),
    }),
  ],
  [
    'list objects',
    aRequest({
      query: 'max-keys=2&prefix=J',
      headers: s3Headers(
        'host;x-amz-content-sha256;x-amz-date',
        '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
      ),
    }),
  ],
];
for (const [name, request] of S3_REQUESTS) {
  test(`the S3 manual's version 4 example verifies: ${name}`, () => {
    readS3Claim(request, null)?.verify(S3_SECRET, S3_NOW);

    const other = { ...request, path: `${request.path}x` };
    assert.throws(() => readS3Claim(other, null)?.verify(S3_SECRET, S3_NOW), SignatureDoesNotMatch);
  });
}

test("the S3 manual's presigned URL verifies for as long as it says", () => {
  const request = aRequest({
    path: '/test.txt',
    query:
      'X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request' +
      '&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host' +
      '&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
    headers: headers({ host: 'examplebucket.s3.amazonaws.com' }),
  });
  const claim = readS3Claim(request, null);
  assert.ok(claim);

  claim.verify(S3_SECRET, new Date('2013-05-24T23:59:59Z'));

  assert.throws(() => claim.verify(S3_SECRET, new Date('2013-05-25T00:00:01Z')), RequestExpired);
  const longer = { ...request, query: request.query.replace('86400', '604800') };
  assert.throws(() => readS3Claim(longer, null)?.verify(S3_SECRET, S3_NOW), SignatureDoesNotMatch);
  const endless = { ...request, query: request.query.replace('86400', '604801') };
  assert.throws(() => readS3Claim(endless, null), /from 1 to 604800/);
});

const V2_EXAMPLES: [string, Partial<SignedRequest>, Record<string, string>, string, string | null][] = [
  [
    'GET object',
    { path: '/photos/puppy.jpg' },
    { host: 'johnsmith.s3.amazonaws.com', date: 'Tue, 27 Mar 2007 19:36:42 +0000' },
    'bWq2s1WEIj+Ydj0vQ697zp+IXMU=',
    'johnsmith',
  ],
  [
    'PUT object',
    { method: 'PUT', path: '/photos/puppy.jpg' },
    {
      host: 'johnsmith.s3.amazonaws.com',
      date: 'Tue, 27 Mar 2007 21:15:45 +0000',
      'content-type': 'image/jpeg',
      'content-length': '94328',
    },
    'MyyxeRY7whkBe+bq8fHCL/2kKUg=',
    'johnsmith',
  ],
  [
    'list of a bucket, whose parameters are not signed',
    { query: 'prefix=photos&max-keys=50&marker=puppy' },
    { host: 'johnsmith.s3.amazonaws.com', date: 'Tue, 27 Mar 2007 19:42:41 +0000' },
    'htDYFYduRNen8P9ZfE/s9SuKy0U=',
    'johnsmith',
  ],
  [
    'GET ?acl, which is',
    { query: 'acl' },
    { host: 'johnsmith.s3.amazonaws.com', date: 'Tue, 27 Mar 2007 19:44:46 +0000' },
    'c2WLPFtWHVgbEmeEG93a4cG37dM=',
    'johnsmith',
  ],
];
for (const [name, over, given, signature, bucket] of V2_EXAMPLES) {
  test(`the S3 manual's version 2 example verifies: ${name}`, () => {
    const authorization = `AWS AKIAIOSFODNN7EXAMPLE:${signature}`;
    const request = aRequest({ ...over, headers: headers({ ...given, authorization }) });
    const now = new Date(given['date'] ?? '');

    readS3Claim(request, bucket)?.verify(S3_SECRET, now);

    assert.throws(() => readS3Claim(request, 'other')?.verify(S3_SECRET, now), SignatureDoesNotMatch);
    assert.throws(() => readS3Claim(request, bucket)?.verify(S3_SECRET, new Date()), RequestExpired);
  });
}

test('an S3 access key may name its project after a colon', () => {
  const request = aRequest({ headers: headers({ authorization: 'AWS akid:proj:c2lnbmF0dXJl' }) });

  assert.equal(readS3Claim(request, null)?.access_key, 'akid:proj');
  assert.equal(readS3Claim(aRequest(), null), null);
  assert.throws(() => readS3Claim(aRequest({ headers: headers({ authorization: 'AWS akid' }) }), null), AuthFailure);
});
