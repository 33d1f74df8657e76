import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { FORM, anApi, head, outcome, post, raw, signed, works } from './a_protocol_api.ts';

test('the root lists the nine API versions, and so does any other path that asks for nothing', async (t) => {
  const { port } = await anApi(t);

  for (const path of ['/', '/anything', '/services']) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    const lines = (await response.text()).split('\n');
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type') ?? '', /^text\/html/);
    assert.deepEqual([lines.length, lines[0], lines[8], lines[9]], [10, '1.0', '2009-04-04', '']);
  }
});

test("GET and POST, at Nova's path and at the root, are answered alike, under one request id", async (t) => {
  const api = await anApi(t);
  const { port } = api;
  const ask = { Action: 'DescribeInstances', 'InstanceId.1': 'i-0000000b' };

  for (const path of ['/services/Cloud', '/services/Cloud/', '/']) {
    const query = signed(port, ask, { method: 'GET', path });
    const got = await fetch(`http://127.0.0.1:${port}${path}?${query}`);
    const posted = await post(port, signed(port, ask, { path }), path);
    for (const response of [got, posted]) {
      const request_id = response.headers.get('x-amzn-requestid') ?? '';
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('content-type'), 'text/xml');
      assert.equal(response.headers.get('x-openstack-request-id'), request_id);
      assert.equal(
        await response.text(),
        '<?xml version="1.0" ?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2009-04-04/">' +
          `<requestId>${request_id}</requestId><ownerId>web</ownerId><ids><item>11</item></ids></DescribeInstancesResponse>`,
      );
      const line = api.log.find((entry) => entry['request_id'] === request_id);
      assert.equal(`${String(line?.['action'])} ${String(line?.['status'])}`, 'DescribeInstances 200');
    }
  }
});

test('a request that is not right says which rule it broke', async (t) => {
  const { port } = await anApi(t);
  const right = { Action: 'DescribeInstances' };
  const without = (name: string) => signed(port, right).replace(new RegExp(`(^|&)${name}=[^&]*`), '');
  const bodies: [string, string][] = [
    ['400 MissingParameter', ''],
    ['400 MissingParameter', without('Signature')],
    ['400 MissingParameter', without('AWSAccessKeyId')],
    ['400 MissingParameter', without('Timestamp')],
    ['400 MissingParameter', without('SignatureMethod')],
    ['400 MissingParameter', without('SignatureVersion')],
    ['400 MissingParameter', signed(port, {})],
    ['400 MissingParameter', signed(port, { ...right, Version: '' })],
    ['400 InvalidParameterValue', signed(port, { ...right, SignatureVersion: '9' })],
    ['400 InvalidParameterValue', signed(port, { ...right, Timestamp: 'yesterday' })],
    ['400 RequestExpired', signed(port, { ...right, Timestamp: '2011-04-15T00:00:00Z' })],
    ['403 SignatureDoesNotMatch', signed(port, right).replace('DescribeInstances', 'AllocateAddress')],
    ['403 SignatureDoesNotMatch', `${signed(port, right)}&More=1`],
    ['403 AuthFailure', signed(port, { ...right, AWSAccessKeyId: 'akid:other' })],
    ['401 UnauthorizedOperation', signed(port, { Action: 'AllocateAddress' })],
    ['400 InvalidAction', signed(port, { Action: 'DescribeUnicorns' })],
    ['400 InvalidAction', signed(port, { Action: '__proto__' })],
    ['400 InvalidParameterValue', signed(port, { ...right, MaxResults: '4' })],
    ['400 InvalidParameterValue', signed(port, { ...right, 'InstanceId.1': 'i-nothing' })],
    ['400 InvalidInstanceID.NotFound', signed(port, { ...right, 'InstanceId.1': 'i-ffffffff' })],
    ['412 DryRunOperation', signed(port, { ...right, DryRun: 'true' })],
    ['400 MalformedQueryString', `${signed(port, right)}&a=%ff`],
    ['400 MalformedQueryString', `${signed(port, right)}&a.b.c.d.e.f.g.h.i=1&`.replace(/^/, 'x=1&x=2&')],
  ];
  for (const [expected, body] of bodies) {
    assert.equal(await outcome(await post(port, body)), expected, `${expected}: ${body.slice(0, 200)}`);
  }
});

test("a fault of ours is a 500 with the request's id, and its stack is in the log only", async (t) => {
  const api = await anApi(t);

  const response = await post(api.port, signed(api.port, { Action: 'Break' }));
  const text = await response.text();

  assert.equal(response.status, 500);
  assert.match(text, /<Code>InternalError<\/Code>/);
  assert.doesNotMatch(text, /TypeError|not a cloud|\.ts|\.js/);
  const logged = api.log.find((line) => line['msg'] === 'ec2 request failed');
  assert.equal(logged?.['request_id'], response.headers.get('x-amzn-requestid'));
  assert.match(text, new RegExp(`<RequestID>${String(logged?.['request_id'])}</RequestID>`));
  assert.match(JSON.stringify(logged?.['err']), /undefined is not a cloud/);
  await works(api);
});

test('no log line holds a signature or a secret', async (t) => {
  const api = await anApi(t);
  const query = signed(api.port, { Action: 'DescribeInstances' }, { method: 'GET' });

  await (await fetch(`http://127.0.0.1:${api.port}/services/Cloud?${query}`)).text();

  assert.equal(api.log.length, 1);
  assert.doesNotMatch(JSON.stringify(api.log), /Signature|s3"/);
});

test('GetCallerIdentity answers as STS does, errors too', async (t) => {
  const { port } = await anApi(t);
  const ask = { Action: 'GetCallerIdentity', Version: '2011-06-15' };

  const answer = await (await post(port, signed(port, ask, { path: '/' }), '/')).text();
  const refused = await (await post(port, signed(port, { ...ask, AWSAccessKeyId: 'x' }, { path: '/' }), '/')).text();

  assert.match(
    answer,
    /<GetCallerIdentityResult><Arn>arn:aws:iam::web:user\/ann<\/Arn><UserId>ann<\/UserId><Account>web</,
  );
  assert.match(
    refused,
    /^<\?xml version="1.0"\?>\n<ErrorResponse xmlns="https:\/\/sts\.[^>]*><Error><Type>Sender<\/Type><Code>AuthFailure/,
  );
});

test('an action learns that its caller left', async (t) => {
  const api = await anApi(t);
  const stop = new AbortController();

  const asked = fetch(`http://127.0.0.1:${api.port}/services/Cloud`, {
    method: 'POST',
    body: signed(api.port, { Action: 'WaitForever' }),
    headers: { 'content-type': FORM },
    signal: stop.signal,
  });
  await Promise.race([api.begun, asked]); // what fails before is told
  stop.abort();

  await assert.rejects(asked, { name: 'AbortError' });
  assert.match(String(await api.left), /the client closed the connection/);
  assert.deepEqual(
    api.log.filter((line) => Number(line['level']) >= 50),
    [],
  );
});

const MIB = 1024 * 1024;
const HOSTILE: [string, RegExp, (port: number, socket: ReturnType<typeof connect>) => void][] = [
  [
    'announces a body of 1 MiB and a byte, and sends it all',
    /^HTTP\/1.1 413 .*RequestEntityTooLarge/s,
    (port, socket) => {
      socket.write(head(port, `Content-Length: ${MIB + 1}`));
      socket.write(Buffer.alloc(MIB + 1, 0x61));
    },
  ],
  [
    'announces a body of 1 TB, and sends nothing',
    /^HTTP\/1.1 413 /,
    (port, socket) => socket.write(head(port, 'Content-Length: 1099511627776')),
  ],
  [
    'sends chunks without end',
    /^HTTP\/1.1 413 /,
    (port, socket) => {
      socket.write(head(port, 'Transfer-Encoding: chunked'));
      const chunk = `10000\r\n${'a'.repeat(0x10000)}\r\n`;
      const more = () => {
        if (!socket.destroyed && socket.writable) socket.write(chunk, () => setImmediate(more));
      };
      more();
    },
  ],
  [
    'stops in the middle of its body',
    /^HTTP\/1.1 408 .*RequestTimeout.*after 7 of 100 bytes/s,
    (port, socket) => socket.write(`${head(port, 'Content-Length: 100')}Action=`),
  ],
  [
    'ends in the middle of its body',
    /^HTTP\/1.1 400 /,
    (port, socket) => socket.end(`${head(port, 'Content-Length: 100')}Action=`),
  ],
  [
    'has two lengths',
    /^HTTP\/1.1 400 /,
    (port, socket) => socket.write(`${head(port, 'Content-Length: 1', 'Content-Length: 2')}aa`),
  ],
  [
    'has a length and chunks',
    /^HTTP\/1.1 400 /,
    (port, socket) => socket.write(`${head(port, 'Content-Length: 1', 'Transfer-Encoding: chunked')}a`),
  ],
  [
    'has 101 headers and more',
    /^HTTP\/1.1 400 .*more than 100 headers/s,
    (port, socket) => socket.end(head(port, ...Array.from({ length: 101 }, (_, i) => `X-${i}: x`))),
  ],
  [
    'has a header of 100 KB',
    /^HTTP\/1.1 431 /,
    (port, socket) => socket.write(head(port, `X-Long: ${'x'.repeat(100 * 1024)}`)),
  ],
  [
    'speaks no HTTP',
    /^HTTP\/1.1 400 /,
    (_port, socket) => socket.write('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n'),
  ],
  [
    'compresses its body',
    /^HTTP\/1.1 415 .*UnsupportedMediaType/s,
    (port, socket) => socket.end(`${head(port, 'Content-Encoding: gzip', 'Content-Length: 2')}ab`),
  ],
  [
    'sends JSON',
    /^HTTP\/1.1 415 /,
    (port, socket) => socket.end(`${head(port, 'Content-Length: 2').replace(FORM, 'application/json')}{}`),
  ],
  [
    'uses another method',
    /^HTTP\/1.1 405 .*UnsupportedHttpVerb/s,
    (port, socket) => socket.end(head(port, 'Content-Length: 0').replace('POST', 'DELETE')),
  ],
  [
    'posts where no API is',
    /^HTTP\/1.1 404 .*NoSuchEndpoint.*\/services\/Cloud/s,
    (port, socket) => socket.end(head(port, 'Content-Length: 0').replace('Cloud', 'Nothing')),
  ],
  [
    'has a path that cannot be decoded',
    /^HTTP\/1.1 4\d\d /,
    (port, socket) => socket.end(head(port, 'Content-Length: 0').replace('Cloud', '%ff%zz')),
  ],
];
for (const [what, expected, send] of HOSTILE) {
  test(`a request that ${what} gets a 4xx, and the next one works`, async (t) => {
    const api = await anApi(t);

    const answer = await raw(api.port, (socket) => send(api.port, socket));

    assert.match(answer, expected);
    await works(api);
    assert.deepEqual(
      api.log.filter((line) => Number(line['level']) >= 50),
      [],
    );
  });
}

test('a body that pauses, as after a lost packet, is read to its end', async (t) => {
  const { port } = await anApi(t);
  const body = signed(port, { Action: 'DescribeInstances' });

  const answer = await raw(port, (socket) => {
    socket.write(`${head(port, `Content-Length: ${body.length}`, 'Connection: close')}${body.slice(0, 10)}`);
    setTimeout(() => socket.write(body.slice(10)), 1500);
  });

  assert.match(answer, /^HTTP\/1\.1 200 /);
});

test('requests sent in one go over one connection are answered in their order', async (t) => {
  const { port } = await anApi(t);
  const request = (action: string) => {
    const body = signed(port, { Action: action });
    return `${head(port, `Content-Length: ${body.length}`)}${body}`;
  };

  const answer = await raw(port, (socket) =>
    socket.end(request('DescribeInstances') + request('DescribeUnicorns') + request('DescribeInstances')),
  );

  assert.deepEqual(answer.match(/HTTP\/1.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 400', 'HTTP/1.1 200']);
});
