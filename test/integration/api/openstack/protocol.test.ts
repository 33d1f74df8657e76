import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { DbTokens, tokenFlags } from '../../../../src/common/auth/tokens.ts';
import { clock } from '../../../../src/common/clock.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { anInstance, aProject } from '../../../builders.ts';
import { anApi, type Answer, type Api } from './an_api.ts';

const faultOf = ({ json }: Answer): [string, { code: number; message: string }] =>
  Object.entries(json)[0] as [string, { code: number; message: string }];

async function assertFault(answer: Answer, status: number, name: string, message: RegExp, why = ''): Promise<void> {
  assert.equal(answer.status, status, `${why} ${JSON.stringify(answer.json)}`);
  const [got, fault] = faultOf(answer);
  assert.deepEqual([got, fault.code], [name, status], why);
  assert.match(fault.message, message);
  assert.match(answer.headers.get('x-compute-request-id') ?? '', /^req-[0-9a-f-]{36}$/);
}

test('the handshake gives a token and the address of the project, which then let the client in', async (t) => {
  const api = await anApi(t);
  const headers = { 'x-auth-user': 'ann', 'x-auth-key': 'ann-access' };

  for (const path of ['/v1.1', '/v1.1/']) {
    const given = await api.raw(path, { headers });

    assert.equal(given.status, 204);
    assert.equal(given.headers.get('x-server-management-url'), `${api.base}/v1.1/apollo`);
    assert.deepEqual([given.headers.get('x-storage-url'), given.headers.get('x-cdn-management-url')], ['', '']);
    const token = given.headers.get('x-auth-token') ?? '';
    const list = await fetch(`${given.headers.get('x-server-management-url')}/servers`, {
      headers: { 'x-auth-token': token },
    });
    assert.deepEqual(await list.json(), { servers: [] });
  }
});

test('who gives a wrong key, a wrong project or no token is told so with a 401', async (t) => {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'bob');
  const refused: [string, Record<string, string>, RegExp][] = [
    ['/v1.1', {}, /X-Auth-User/],
    ['/v1.1', { 'x-auth-user': 'ann' }, /X-Auth-Key/],
    ['/v1.1', { 'x-auth-user': 'ann', 'x-auth-key': 'bob-access' }, /no user with this key/],
    ['/v1.1', { 'x-auth-user': 'eve', 'x-auth-key': 'ann-access' }, /no user with this key/],
    ['/v1.1', { 'x-auth-user': 'ann', 'x-auth-key': 'ann-access', 'x-auth-project-id': 'gemini' }, /gemini/],
    ['/v1.1/servers', { 'x-auth-user': 'ann', 'x-auth-key': 'ann-access' }, /X-Auth-Token/],
    ['/v1.1/servers', { 'x-auth-token': 'nonsense' }, /token is unknown/],
  ];
  for (const [path, headers, message] of refused)
    await assertFault(await api.raw(path, { headers }), 401, 'unauthorized', message, JSON.stringify(headers));
});

test('itsec sees every project, and changes something only in one it is a member of', async (t) => {
  const { db, image, ...api } = await anApi(t);
  await aProject(db, 'gemini', 'sec');
  await db.insertInto('user_role_association').values({ user_id: 'sec', role: 'itsec' }).execute();
  const { token } = await new DbTokens({ db, flags: Flags.of() }).issue('sec', 'sec-access', null);
  const [own, other] = [await anInstance(db, { project_id: 'gemini' }), await anInstance(db, { host: null })];
  const asked = async (method: string, path: string, body?: object) =>
    (await api.ask(method, path, body, { 'x-auth-token': token })).status;

  const server = { name: 'web', imageRef: image, flavorRef: 1 };
  for (const [method, path, body, status] of [
    ['GET', `/apollo/servers/${other}`, undefined, 200],
    ['GET', `/gemini/servers/${other}`, undefined, 200],
    ['GET', '/gemini/os-quota-sets/apollo', undefined, 200],
    ['POST', `/apollo/servers/${other}/action`, { 'os-getConsoleOutput': {} }, 200],
    ['POST', `/apollo/servers/${other}/action`, { reboot: { type: 'SOFT' } }, 403],
    ['DELETE', `/apollo/servers/${other}`, undefined, 403],
    ['POST', '/apollo/servers', { server }, 403],
    ['DELETE', `/gemini/servers/${other}`, undefined, 404],
    ['PUT', '/gemini/os-quota-sets/apollo', { quota_set: { instances: 1 } }, 403],
    ['POST', '/gemini/os-volume-types', { volume_type: { name: 'fast' } }, 403],
    ['POST', '/gemini/servers', { server }, 202],
    ['DELETE', `/gemini/servers/${own}`, undefined, 204],
  ] as const)
    assert.equal(await asked(method, path, body), status, `${method} ${path}`);
});

test('a token that is too old is no token', async (t) => {
  const api = await anApi(t);
  const { token } = await new DbTokens({ db: api.db, flags: Flags.of() }).issue('ann', 'ann-access', null);
  const { now } = clock;
  t.after(() => (clock.now = now));
  clock.now = () => new Date(Date.now() + tokenFlags.auth_token_ttl.default * 1000 + 1000);

  const answer = await api.raw('/v1.1/servers', { headers: { 'x-auth-token': token } });

  await assertFault(answer, 401, 'unauthorized', /expired/);
});

test('versions are listed, described, and offered where none was named', async (t) => {
  const api = await anApi(t);

  const { json } = await api.raw('/');
  assert.deepEqual(json.versions[0], {
    id: 'v1.1',
    status: 'CURRENT',
    updated: '2011-01-21T11:33:21Z',
    links: [{ rel: 'self', href: `${api.base}/v1.1/` }],
  });
  const one = (await api.ask('GET', '/')).json.version;
  assert.deepEqual([one.id, one['media-types'][0].base], ['v1.1', 'application/json']);
  const choices = await api.raw('/servers/7?x=1');
  assert.deepEqual([choices.status, choices.json.choices[0].links[0].href], [300, `${api.base}/v1.1/servers/7`]);
});

test('the answer is JSON, and who takes only XML is told before anything is done', async (t) => {
  const api = await anApi(t);
  for (const accept of [
    '*/*',
    'application/json',
    'text/html',
    'application/xml;q=0.9, */*;q=0.1',
    'text/xml, application/*',
  ])
    assert.equal((await api.ask('GET', '/flavors', undefined, { accept })).status, 200, accept);
  assert.equal((await api.ask('GET', '/flavors.json', undefined, { accept: 'application/xml' })).status, 200);
  const pair = { keypair: { name: 'a.json' } };
  assert.equal((await api.ask('POST', '/os-keypairs', pair)).status, 200);
  assert.equal((await api.ask('DELETE', '/os-keypairs/a')).status, 404, 'a name may end in .json itself');
  assert.equal((await api.ask('DELETE', '/os-keypairs/a.json')).status, 202);
  for (const [path, accept] of [
    ['/flavors', 'application/xml'],
    ['/flavors', 'text/xml, application/json;q=0'],
    ['/flavors.xml', '*/*'],
  ] as const)
    await assertFault(
      await api.ask('GET', path, undefined, { accept }),
      406,
      'cloudServersFault',
      /JSON only/,
      path + accept,
    );
});

test('a wrong place, a wrong method and a wrong media type are told apart', async (t) => {
  const api = await anApi(t);
  await assertFault(await api.ask('GET', '/nothing'), 404, 'itemNotFound', /nothing at \/nothing/);
  await assertFault(await api.ask('GET', '/nothing/at/all'), 404, 'itemNotFound', /nothing at/);
  await assertFault(await api.ask('GET', '/servers/1/x/y'), 404, 'itemNotFound', /nothing at/);
  const method = await api.ask('DELETE', '/servers');
  await assertFault(method, 405, 'badMethod', /DELETE is not offered at \/servers; offered: GET, POST/);
  assert.equal(method.headers.get('allow'), 'GET, POST');
  for (const type of ['application/xml', 'application/x-www-form-urlencoded'])
    await assertFault(
      await api.ask('POST', '/servers', '<server/>', { 'content-type': type }),
      415,
      'badMediaType',
      /send JSON/,
    );
  await assertFault(await api.ask('POST', '/servers'), 422, 'cloudServersFault', /needs a body/);
});

test('hostile bodies are refused in JSON, and the next request is answered', async (t) => {
  const api = await anApi(t);
  const send = (body: string | Buffer) => api.ask('POST', '/servers', body);
  const bodies: [string, Buffer | string, number, RegExp][] = [
    ['deep arrays', `{"server":${'['.repeat(400_000)}`, 400, /nested deeper than 32/],
    ['deep objects', '{"a":'.repeat(150_000), 400, /nested deeper/],
    ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), 400, /not valid UTF-8/],
    ['cut off', '{"server": {"name": "we', 400, /not valid JSON/],
    ['a NUL', '{"server": {"name": "a\\u0000b", "imageRef": 1, "flavorRef": 1}}', 400, /NUL/],
    ['a scalar', '7', 400, /expected object/],
    ['null', 'null', 400, /expected object/],
    ['no JSON at all', 'name=web', 400, /not valid JSON/],
    ['too large', ' '.repeat(1024 * 1024 + 1), 413, /more than the 1048576 bytes/],
    ['a prototype', '{"__proto__": {"server": {}}}', 400, /has the key __proto__/],
    [
      'many keys',
      JSON.stringify({ server: { name: 'x', imageRef: 1, flavorRef: 1, metadata: manyPairs() } }),
      400,
      /pairs/,
    ],
  ];
  for (const [what, body, status, message] of bodies) {
    const answer = await send(body);
    await assertFault(answer, status, status === 413 ? 'overLimit' : 'badRequest', message, what);
  }
  assert.equal((await api.ask('GET', '/servers')).status, 200);
});
const manyPairs = () => Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`k${i}`, 'v']));

test('hostile paths and headers are refused in JSON', async (t) => {
  const api = await anApi(t);
  for (const path of ['/servers/%ff', '/servers/%00', '/servers?name=%00', '/%'])
    await assertFault(await api.ask('GET', path), 400, 'badRequest', /percent-encoded|NUL/, path);
  for (const path of ['/servers/../servers/__proto__', '/servers/constructor', '/flavors/1%20or%201=1', '/flavors/-1'])
    await assertFault(await api.ask('GET', path), 404, 'itemNotFound', /./, path);
  assert.equal((await api.ask('GET', `/servers/1/metadata/${'k'.repeat(8000)}`)).status, 404);
  const links = (await api.raw('/', { headers: { 'x-forwarded-host': 'evil' } })).json.versions[0].links;
  assert.equal(links[0].href, `${api.base}/v1.1/`);
});

/** Longer than TCP takes to send a lost packet again. */
const PAUSE_MS = 1500;

/** Sends bytes as they are, the rest after a pause, then ends the sending side (or leaves it open). @returns everything that came back */
async function bytes(api: Api, text: string, options: { end?: boolean; rest?: string } = {}): Promise<string> {
  const socket = connect({ port: api.port, host: '127.0.0.1', allowHalfOpen: true });
  let got = '';
  socket.setEncoding('utf8').on('data', (piece: string) => (got += piece));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()).once('end', () => socket.end()));
  socket.on('error', () => undefined); // a reset after the answer is the server's right
  socket.write(text);
  if (options.rest !== undefined) {
    await wait(PAUSE_MS);
    socket.write(options.rest);
  }
  if (options.end) socket.end();
  await Promise.race([closed, wait(10_000)]);
  socket.destroy();
  return got;
}
const POST = 'POST /v1.1/servers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';

test('a body that pauses, as after a lost packet, is read to its end', async (t) => {
  const api = await anApi(t);
  const auth = `X-Auth-Token: ${await tokenOf(api)}\r\nConnection: close\r\n`;
  const post = POST.replace('/servers', '/os-keypairs');

  const got = await bytes(api, `${post}${auth}Content-Length: 27\r\n\r\n{"keypair":`, { rest: '{"name":"slow"}}' });

  assert.match(got, /^HTTP\/1\.1 200 [^]*"name":"slow"/);
});

test('what is no HTTP, or breaks off, is answered in JSON with a request id', async (t) => {
  const api = await anApi(t);
  const auth = `X-Auth-Token: ${await tokenOf(api)}\r\n`;
  const cases: [string, string, boolean, RegExp, RegExp][] = [
    ['no HTTP', 'hello\r\n\r\n', true, /^HTTP\/1\.1 400 /, /this is no HTTP request/],
    [
      'a huge header',
      `GET / HTTP/1.1\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`,
      false,
      /^HTTP\/1\.1 431 /,
      /headers .* too large/,
    ],
    ['a body cut off', `${POST}${auth}Content-Length: 100\r\n\r\n{"server"`, true, /^HTTP\/1\.1 400 /, /broke off/],
    [
      'a body that stops',
      `${POST}${auth}Content-Length: 100\r\n\r\n{"server"`,
      false,
      /^HTTP\/1\.1 408 /,
      /9 of 100 bytes/,
    ],
    [
      'a bad chunk',
      `${POST}${auth}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
      false,
      /^HTTP\/1\.1 400 /,
      /no HTTP request/,
    ],
    ['a body without a token', `${POST}Content-Length: 900000\r\n\r\nxx`, false, /^HTTP\/1\.1 401 /, /X-Auth-Token/],
  ];
  for (const [what, text, end, status, message] of cases) {
    const got = await bytes(api, text, { end });
    assert.match(got, status, `${what}: ${got}`);
    assert.match(got, /\r\nx-compute-request-id: req-/i, what);
    assert.match(got, /\r\nconnection: close/i, what);
    const fault = JSON.parse(got.slice(got.indexOf('\r\n\r\n') + 4)) as Record<
      string,
      { code: number; message: string }
    >;
    const [{ code, message: told }] = Object.values(fault) as [{ code: number; message: string }];
    assert.equal(code, Number(got.slice(9, 12)), what);
    assert.match(told, message, what);
  }
});

async function tokenOf(api: Api): Promise<string> {
  const res = await api.raw('/v1.1', { headers: { 'x-auth-user': 'ann', 'x-auth-key': 'ann-access' } });
  return res.headers.get('x-auth-token') ?? '';
}

test('a failure of the server is told by its request id alone', async (t) => {
  const api = await anApi(t);
  await api.db.schema.dropTable('instance_types').execute();

  const answer = await api.ask('GET', '/flavors');

  await assertFault(answer, 500, 'cloudServersFault', /^this server failed/);
  const [, { message }] = faultOf(answer);
  assert.ok(message.includes(answer.headers.get('x-openstack-request-id') ?? '-'));
  assert.doesNotMatch(message, /instance_types/);
});
