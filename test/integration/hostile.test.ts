import assert from 'node:assert/strict';
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, test, type TestContext } from 'node:test';
import { aCloud } from '../rigs/cloud.ts';
import { ec2 } from '../rigs/ec2_client.ts';
import { anyPort, http, raw, type Answer } from './raw_http.ts';

/**
 * What nobody means well by, sent to every port of a running nova-all. Each answer is a 4xx in that API's own form (or what
 * a browser would wait for: no answer to what never asked), and the next good request is answered.
 */
const cloud = await aCloud({ after }, { flags: { verbose: true } });
const flag = (name: string): number => Number(cloud.flags[name]);
const key = cloud.ec2.access;

const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };
const JSON_TYPE = { 'Content-Type': 'application/json' };
const XML_TYPE = { 'Content-Type': 'application/xml' };

const quote = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

/** A well signed EC2 request with whatever parameters; `raw_query` goes in as it stands. */
function signed(params: Record<string, string>, over: Record<string, string> = {}): Buffer {
  const all: Record<string, string> = {
    AWSAccessKeyId: key,
    SignatureMethod: 'HmacSHA256',
    SignatureVersion: '2',
    Timestamp: new Date().toISOString().slice(0, 19) + 'Z',
    Version: '2016-11-15',
    ...params,
  };
  const query = Object.keys(all)
    .toSorted((a, b) => (Buffer.from(a) < Buffer.from(b) ? -1 : 1))
    .map((name) => `${quote(name)}=${quote(all[name] ?? '')}`)
    .join('&');
  const text = `POST\nnova\n/services/Cloud\n${query}`;
  const signature = createHmac('sha256', cloud.ec2.secret).update(text).digest('base64');
  return http('POST /services/Cloud', { ...FORM, ...over }, `${query}&Signature=${quote(signature)}`);
}

const token = await (async () => {
  const { user, key: api_key, url } = cloud.openstack;
  const answer = await fetch(url, { headers: { 'X-Auth-User': user, 'X-Auth-Key': api_key } });
  return answer.headers.get('x-auth-token') ?? assert.fail(`no token: ${answer.status}`);
})();
const os = (line: string, body: string | Buffer = '', headers: Record<string, string> = {}): Buffer =>
  http(line, { 'X-Auth-Token': token, ...(body === '' ? {} : JSON_TYPE), ...headers }, body);

interface Endpoint {
  port: number;
  /** Of a refusal. */
  form: { type: RegExp; body: RegExp };
  good: () => Promise<void>;
  /** What any client may send, with a body. */
  post: string;
  hostile: Record<string, string | Buffer>;
}

const BOMB = `<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a0 "ha">${Array.from(
  { length: 30 },
  (_, i) => `<!ENTITY a${i + 1} "&a${i};&a${i};&a${i};&a${i};">`,
).join('')}<!ENTITY f SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&a30;&f;</Key></Object></Delete>`;
const DEEP = 200_000;
const many = (n: number, name: (i: number) => string, value = 'i-00000001'): Record<string, string> =>
  Object.fromEntries(Array.from({ length: n }, (_, i) => [name(i + 1), value]));
const NOT_UTF8 = Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]);

async function s3(
  method: string,
  path: string,
  body: string | Buffer = '',
  secret = cloud.ec2.secret,
): Promise<Answer> {
  return raw(flag('s3_port'), s3Request(method, path, body, secret));
}
/** Signature version 2, as s3cmd of then made it. */
function s3Request(method: string, path: string, body: string | Buffer = '', secret = cloud.ec2.secret): Buffer {
  const date = new Date().toUTCString();
  const md5 = body === '' ? '' : createHash('md5').update(body).digest('base64');
  const [plain = '', query = ''] = path.split('?');
  const resource = /^(uploads|uploadId=.*|delete)$/.test(query) ? path : plain;
  const text = [method, md5, body === '' ? '' : 'application/xml', date, resource].join('\n');
  const signature = createHmac('sha1', secret).update(text).digest('base64');
  const headers = { Date: date, Authorization: `AWS ${key}:${signature}` };
  return http(`${method} ${path}`, body === '' ? headers : { ...headers, ...XML_TYPE, 'Content-MD5': md5 }, body);
}

const ENDPOINTS: Record<string, Endpoint> = {
  ec2: {
    port: flag('ec2_listen_port'),
    form: { type: /^text\/xml/, body: /^<\?xml[^]*<Response><Errors><Error><Code>\w+[^]*<Message>.+<\/Message>/ },
    good: async () => void (await ec2(cloud.ec2, 'DescribeInstances')),
    post: 'POST /services/Cloud',
    hostile: {
      'no parameters at all': http('POST /services/Cloud', FORM, 'x'),
      'a broken signature': http(
        'GET /services/Cloud?Action=DescribeInstances&Version=2016-11-15&SignatureVersion=2&SignatureMethod=HmacSHA256' +
          `&AWSAccessKeyId=${key}&Timestamp=${new Date().toISOString().slice(0, 19)}Z&Signature=AAAA`,
      ),
      'an unknown key': signed({ Action: 'DescribeInstances', AWSAccessKeyId: "' or 1=1 --" }),
      'an expired request': signed({ Action: 'DescribeInstances', Timestamp: '2011-04-15T00:00:00Z' }),
      'a request of tomorrow': signed({ Action: 'DescribeInstances', Timestamp: '2999-04-15T00:00:00Z' }),
      'a time that is none': signed({ Action: 'DescribeInstances', Timestamp: 'yesterday' }),
      'an unknown action': signed({ Action: 'DescribeEverything' }),
      'an action from the prototype': signed({ Action: '__proto__' }),
      'another action from the prototype': signed({ Action: 'constructor' }),
      'a wrong type': signed({ Action: 'RunInstances', ImageId: cloud.image, MinCount: 'many', MaxCount: '1e9' }),
      'a structure for a text': signed({ Action: 'RunInstances', 'ImageId.Foo.Bar': 'x', MinCount: '1' }),
      'a number too large': signed({ Action: 'RunInstances', ImageId: cloud.image, MinCount: '99999999999999999999' }),
      'more than a request may ask for': signed({ Action: 'RunInstances', ImageId: cloud.image, MinCount: '2000000' }),
      'an id too long': signed({ Action: 'TerminateInstances', 'InstanceId.1': `i-${'f'.repeat(5000)}` }),
      'a huge list': signed({ Action: 'DescribeInstances', ...many(8000, (i) => `InstanceId.${i}`) }),
      'a list with a hole of a billion': signed({ Action: 'DescribeInstances', 'InstanceId.999999999999': 'i-1' }),
      'deep names': signed({ Action: 'DescribeInstances', [Array(5000).fill('A').join('.')]: 'x' }),
      'names of the prototype': signed({ Action: 'DescribeInstances', '__proto__.toString': 'x', 'InstanceId.x': 'y' }),
      'user data that is not base64': signed({ Action: 'RunInstances', ImageId: cloud.image, UserData: '!!!!' }),
      'too much user data': signed({ Action: 'RunInstances', ImageId: cloud.image, UserData: 'A'.repeat(80_000) }),
      'XML with entities': http('POST /services/Cloud', { 'Content-Type': 'text/xml' }, BOMB),
      'a body that is not UTF-8': http('POST /services/Cloud', FORM, Buffer.from([0x41, 0x3d, 0xff, 0xfe, 0x26])),
      'percent signs that encode no UTF-8': http('POST /services/Cloud', FORM, 'Action=%ff%fe&AWSAccessKeyId=%zz'),
      'a wrong verb': http('DELETE /services/Cloud'),
      'a wrong place': http('POST /services/Admin', FORM, 'Action=DescribeInstances'),
      'a signature of version 4 that is none': http('POST /', {
        ...FORM,
        Authorization: `AWS4-HMAC-SHA256 Credential=${key}/x/y, SignedHeaders=;;;, Signature=zz`,
      }),
      'a packed body': http('POST /services/Cloud', { ...FORM, 'Content-Encoding': 'gzip' }, randomBytes(100)),
    },
  },
  openstack: {
    port: flag('osapi_listen_port'),
    form: { type: /^application\/json/, body: /^\{"\w+":\{"code":4\d\d,"message":".+"/ },
    good: async () => {
      const answer = await fetch(`http://127.0.0.1:${flag('osapi_listen_port')}/v1.1/apollo/servers`, {
        headers: { 'X-Auth-Token': token },
      });
      assert.equal(answer.status, 200);
    },
    post: 'POST /v1.1/apollo/servers',
    hostile: {
      'no token': http('GET /v1.1/apollo/servers'),
      'a token that is none': http('GET /v1.1/apollo/servers', { 'X-Auth-Token': "' or 1=1 --" }),
      'a token of a megabyte, nearly': http('GET /v1.1/apollo/servers', { 'X-Auth-Token': 'x'.repeat(12_000) }),
      'a wrong key': http('GET /v1.1/', { 'X-Auth-User': 'ann', 'X-Auth-Key': 'x' }),
      'no JSON': os('POST /v1.1/apollo/servers', '{"server":'),
      'an array': os('POST /v1.1/apollo/servers', '[]'),
      'a number': os('POST /v1.1/apollo/servers', '1'),
      'wrong types': os('POST /v1.1/apollo/servers', '{"server":{"name":{"a":[]},"imageRef":[1],"flavorRef":{}}}'),
      'no image': os('POST /v1.1/apollo/servers', '{"server":{"name":"x","imageRef":"999999","flavorRef":"1"}}'),
      'deep JSON': os('POST /v1.1/apollo/servers', '['.repeat(DEEP) + ']'.repeat(DEEP)),
      'deep JSON that does not end': os('POST /v1.1/apollo/servers', '{"a":'.repeat(DEEP)),
      'a huge list': os('POST /v1.1/apollo/servers', `{"server":{"personality":[${'{},'.repeat(100_000)}{}]}}`),
      'huge metadata': os(
        'POST /v1.1/apollo/servers',
        JSON.stringify({ server: { name: 'x', imageRef: '1', flavorRef: '1', metadata: many(5000, (i) => `k${i}`) } }),
      ),
      'JSON that is not UTF-8': os('POST /v1.1/apollo/servers', NOT_UTF8),
      'JSON with a NUL': os('POST /v1.1/apollo/servers', '{"server":{"name":"a\\u0000b"}}'),
      'a number that is not finite': os('POST /v1.1/apollo/servers', '{"server":{"name":"x","min_count":1e999}}'),
      'XML with entities': os('POST /v1.1/apollo/servers', BOMB, XML_TYPE),
      'a page of minus one': os('GET /v1.1/apollo/servers?limit=-1'),
      'a page that is no number': os('GET /v1.1/apollo/servers?limit=lots&marker=x'),
      'an id that is none': os("GET /v1.1/apollo/servers/'%20or%201=1"),
      'a path that is not UTF-8': os('GET /v1.1/apollo/servers/%ff%fe'),
      'a path out of the API': os('GET /v1.1/apollo/../../../etc/passwd'),
      "another's project": os('GET /v1.1/gemini/servers'),
      'a wrong verb': os('PATCH /v1.1/apollo/servers'),
    },
  },
  identity: {
    port: flag('identity_listen_port'),
    form: { type: /^application\/json/, body: /^\{"error":\{"code":4\d\d,"title":".+","message":".+"/ },
    good: async () => {
      const answer = await fetch(`http://127.0.0.1:${flag('identity_listen_port')}/v3`);
      assert.equal(answer.status, 200);
    },
    post: 'POST /v3/auth/tokens',
    hostile: {
      'no JSON': http('POST /v3/auth/tokens', JSON_TYPE, '{"auth":'),
      'wrong types': http('POST /v3/auth/tokens', JSON_TYPE, '{"auth":{"identity":{"methods":[{}],"password":7}}}'),
      'a wrong password': http(
        'POST /v3/auth/tokens',
        JSON_TYPE,
        '{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"ann","domain":{"id":"default"},"password":"x"}}}}}',
      ),
      'a wrong password of version 2': http(
        'POST /v2.0/tokens',
        JSON_TYPE,
        '{"auth":{"passwordCredentials":{"username":"ann","password":"x"},"tenantName":"apollo"}}',
      ),
      'deep JSON': http('POST /v3/auth/tokens', JSON_TYPE, '{"auth":'.repeat(DEEP)),
      'XML with entities': http('POST /v2.0/tokens', XML_TYPE, BOMB),
      'JSON that is not UTF-8': http('POST /v3/auth/tokens', JSON_TYPE, NOT_UTF8),
      'no token': http('GET /v3/auth/catalog'),
      'a wrong place': http('GET /v3/__proto__'),
      'a wrong verb': http('DELETE /v3/auth/catalog', { 'X-Auth-Token': token }),
    },
  },
  metadata: {
    port: flag('metadata_port'),
    form: { type: /^text\/plain/, body: /^[\w.-].{10,}/ },
    good: async () => {
      const answer = await fetch(`http://127.0.0.1:${flag('metadata_port')}/`);
      assert.match(await answer.text(), /latest/);
    },
    post: 'PUT /latest/api/token',
    hostile: {
      'a stranger': http('GET /latest/meta-data/instance-id'),
      'a wrong verb': http('POST /latest/meta-data/', FORM, 'x=1'),
      'a path that is not UTF-8': http('GET /latest/%ff%fe/'),
      'a path out of the tree': http('GET /latest/../../etc/passwd'),
      'a version of the prototype': http('GET /__proto__/meta-data'),
      'a token for ever': http('PUT /latest/api/token', { 'X-aws-ec2-metadata-token-ttl-seconds': '1e9' }),
      'a token that is none': http('GET /latest/', { 'X-aws-ec2-metadata-token': 'x'.repeat(8000) }),
      'a proxy with a wrong signature': http('GET /latest/meta-data/', {
        'X-Instance-ID': '1',
        'X-Instance-ID-Signature': 'x',
        'X-Forwarded-For': '10.0.0.2',
      }),
    },
  },
  objectstore: {
    port: flag('s3_port'),
    form: { type: /^application\/xml/, body: /^<\?xml[^]*<Error><Code>\w+<\/Code><Message>.+<\/Message>/ },
    good: async () => assert.equal((await s3('GET', '/')).status, 200),
    post: 'PUT /shelf/key',
    hostile: {
      'no signature': http('GET /'),
      'a broken signature': s3Request('GET', '/', '', 'wrong'),
      'an old request': http('GET /', { Date: 'Fri, 15 Apr 2011 00:00:00 GMT', Authorization: `AWS ${key}:AAAA` }),
      'a signature of version 4 that is none': http('GET /', { Authorization: 'AWS4-HMAC-SHA256 Credential=,,,' }),
      'XML with entities': s3Request('POST', '/shelf?delete', BOMB),
      'XML that is none': s3Request('POST', '/shelf?delete', '<Delete><Object><Key>a'),
      'deep XML': s3Request('POST', '/shelf?delete', '<a>'.repeat(100_000)),
      'a huge list': s3Request(
        'POST',
        '/shelf?delete',
        `<Delete>${'<Object><Key>a</Key></Object>'.repeat(20_000)}</Delete>`,
      ),
      'a bucket that is a way out': s3Request('PUT', '/..%2f..%2fetc'),
      'a key that is a way out': s3Request('GET', '/shelf/../../../etc/passwd'),
      'a path that is not UTF-8': s3Request('GET', '/shelf/%ff%fe'),
      'a key with a NUL': s3Request('GET', '/shelf/a%00b'),
      'no such bucket': s3Request('GET', '/nowhere/key'),
    },
  },
};

async function isRefused({ form }: Endpoint, what: string, asked: Promise<Answer>): Promise<Answer> {
  const answer = await asked;
  const told = `${what}: ${answer.status} ${answer.type} ${answer.body.slice(0, 300)}`;
  assert.ok(answer.status >= 400 && answer.status < 500, told);
  assert.match(answer.type, form.type, told);
  assert.match(answer.body, form.body, told);
  assert.doesNotMatch(answer.body, /\n {4}at |node_modules|\/src\/|SQLITE|root:x:/, `${what} tells no inner workings`);
  return answer;
}

/** Kilobytes that nova-all holds in memory. */
const memory = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${cloud.killable[0]?.pid}/status`, 'utf8'))?.[1]);

for (const [name, endpoint] of Object.entries(ENDPOINTS)) {
  test(`${name}: every hostile request is a 4xx in its own form, and a good one follows`, async (t) => {
    for (const [what, bytes] of Object.entries(endpoint.hostile)) {
      await t.test(what, async () => {
        await isRefused(endpoint, what, raw(endpoint.port, bytes));
        await endpoint.good();
      });
    }
  });

  test(`${name}: what is no request is a 4xx in its own form, and a good one follows`, async (t) => {
    for (const [what, [bytes, how]] of Object.entries(anyPort(endpoint.post))) {
      await t.test(what, async () => {
        await isRefused(endpoint, what, raw(endpoint.port, bytes, how));
        await endpoint.good();
      });
    }
  });
}

test('bodies that break off, stop coming or never end are 4xx, and others are served meanwhile', async (t) => {
  await s3('PUT', '/shelf');
  const bodies = (post: string): Record<string, [bytes: string, end: boolean]> => ({
    'a body that breaks off': [`${post} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc`, true],
    'a body that stops coming': [`${post} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc`, false],
    'a body of a terabyte': [`${post} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\nabc`, false],
    'a body without end': [
      `${post} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${`4000\r\n${'x'.repeat(0x4000)}\r\n`.repeat(300)}`,
      false,
    ],
  });
  for (const [name, endpoint] of Object.entries(ENDPOINTS))
    for (const [what, [bytes, end]] of Object.entries(bodies(endpoint.post)))
      await t.test(`${name}: ${what}`, async () => {
        const refused = isRefused(endpoint, what, raw(endpoint.port, bytes, { end }));
        await endpoint.good();
        const { status } = await refused;
        if (end)
          assert.notEqual(status, 408, 'who may only be slow is waited for (BODY_LIMITS), not who has ended its side');
      });
});

test('objectstore: a signed upload that breaks off leaves nothing and is told so', async () => {
  await s3('PUT', '/shelf');
  const whole = s3Request('PUT', '/shelf/half', 'x'.repeat(100_000));
  const small = s3Request('PUT', '/shelf/half', 'x'.repeat(1000));
  for (const request of [whole, small]) {
    const answer = await raw(flag('s3_port'), request.subarray(0, request.length - 500), { end: true });
    assert.equal(answer.status, 400, answer.body);
    assert.match(answer.body, /<Code>\w+<\/Code><Message>.*broke off/);
  }
  assert.equal((await s3('GET', '/shelf/half')).status, 404);
});

test('a hundred hostile requests at once on every port: bounded memory, and good requests between them', async (t) => {
  for (let round = 0; round < 3; round++)
    await Promise.all(
      Object.values(ENDPOINTS).flatMap((endpoint) => {
        const all = [
          ...Object.values(endpoint.hostile).map((bytes): [string | Buffer, { end?: boolean }?] => [bytes]),
          ...Object.values(anyPort(endpoint.post)),
        ];
        const hostile = Array.from({ length: 100 }, async (_, i) => {
          const [bytes, how] = all[i % all.length] ?? [''];
          const { status } = await raw(endpoint.port, bytes, how);
          assert.ok(status >= 400 && status < 500, String(status));
        });
        return [...hostile, ...Array.from({ length: 5 }, () => endpoint.good())];
      }),
    );
  // Each request may hold a megabyte while it is read; what stays does not grow with further rounds.
  t.diagnostic(`nova-all holds ${Math.round(memory() / 1024)} MB`);
  assert.ok(memory() < 400 * 1024, `${memory()} KB`);
});

test('a client that never ends its head, or leaves before it is answered, takes nothing from others', async () => {
  const idle = Object.values(ENDPOINTS).map(({ port }) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ');
    return socket;
  });
  for (const { port, post } of Object.values(ENDPOINTS))
    for (let i = 0; i < 50; i++) {
      const socket = connect({ port, host: '127.0.0.1' });
      socket.on('error', () => undefined); // it is we who leave
      socket.write(`${post} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab`, () => socket.resetAndDestroy());
    }
  for (const endpoint of Object.values(ENDPOINTS)) await endpoint.good();
  for (const socket of idle) socket.destroy();
});

test('none of all that was a failure of the server, nor left anything behind', async (t: TestContext) => {
  await cloud.killable[0]?.stop(); // its log is complete then
  const log = cloud.killable[0]?.log() ?? [];
  const errors = log.filter((line) => line.level >= 50);
  assert.deepEqual(errors, []);
  t.diagnostic(`${log.length} lines logged`);

  const text = cloud.killable[0]?.text() ?? '';
  for (const secret of [cloud.ec2.secret, token, 'Signature=', 'X-Auth-Key']) {
    const line = text.split('\n').find((one) => one.includes(secret));
    assert.equal(line, undefined, 'the log holds a secret');
  }
});
