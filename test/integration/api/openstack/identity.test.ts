import assert from 'node:assert/strict';
import { test } from 'node:test';
import { start } from '../../../../src/api/main.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { aDatabase, anImage, aProject } from '../../../builders.ts';
import { freePort } from '../../../rigs/free_port.ts';
import { anApi, type Answer, type Api } from './an_api.ts';

const post = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});
const password = (name: string, secret: string, scope?: unknown) => ({
  auth: {
    identity: { methods: ['password'], password: { user: { name, domain: { name: 'Default' }, password: secret } } },
    ...(scope === undefined ? {} : { scope }),
  },
});
const loginV3 = (api: Api, body: unknown) => api.raw(`${api.identity}/v3/auth/tokens`, post(body));

test('a login of version 3 gives a token and a catalog whose compute entry takes it', async (t) => {
  const api = await anApi(t);

  const scope = { project: { name: 'apollo', domain: { id: 'default' } } };
  const { status, headers, json } = await loginV3(api, password('ann', 'ann-secret', scope));

  assert.equal(status, 201);
  const { user, project, methods, roles, catalog } = json.token;
  assert.deepEqual([user.name, project.id, methods], ['ann', 'apollo', ['password']]);
  assert.ok(roles.some(({ name }: { name: string }) => name === 'projectmanager'));
  const compute = catalog.find(({ type }: { type: string }) => type === 'compute');
  const { url } = compute.endpoints.find((endpoint: { interface: string }) => endpoint.interface === 'public');
  assert.equal(url, `${api.base}/v2/apollo`);
  const token = { 'x-auth-token': headers.get('x-subject-token') ?? '' };
  assert.deepEqual((await api.raw(`${url}/servers`, { headers: token })).json, { servers: [] });

  const shown = await api.raw(`${api.identity}/v3/auth/tokens`, {
    headers: { ...token, 'x-subject-token': token['x-auth-token'] },
  });
  assert.deepEqual([shown.status, shown.json.token.project.id], [200, 'apollo']);
  const projects = await api.raw(`${api.identity}/v3/auth/projects`, { headers: token });
  assert.deepEqual(
    projects.json.projects.map(({ id }: { id: string }) => id),
    ['apollo'],
  );
});

test('a token is good for another of its user projects, and for no project of others', async (t) => {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'bob');
  await aProject(api.db, 'mercury', 'eve');
  await api.db.insertInto('user_project_association').values({ user_id: 'ann', project_id: 'gemini' }).execute();
  const { headers } = await loginV3(api, password('ann', 'ann-secret'));
  const id = headers.get('x-subject-token') ?? '';
  const rescope = (name: string) =>
    loginV3(api, { auth: { identity: { methods: ['token'], token: { id } }, scope: { project: { name } } } });

  const gemini = await rescope('gemini');
  assert.deepEqual([gemini.status, gemini.json.token.project.id], [201, 'gemini']);
  const mercury = await rescope('mercury');
  assert.deepEqual([mercury.status, mercury.json.error.title], [401, 'Unauthorized']);
});

test('an administrator may name every project, and everybody else their own', async (t) => {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'root');
  await api.db.updateTable('users').set({ is_admin: 1 }).where('id', '=', 'root').execute();
  const login = async (name: string) =>
    (await loginV3(api, password(name, `${name}-secret`))).headers.get('x-subject-token') ?? '';
  const [ann, root] = [await login('ann'), await login('root')];
  const ids = async (token: string, path: string) => {
    const { json } = await api.raw(api.identity + path, { headers: { 'x-auth-token': token } });
    return (json.projects ?? json.tenants).map(({ id }: { id: string }) => id);
  };
  const shown = async (token: string, id: string) =>
    (await api.raw(`${api.identity}/v3/projects/${id}`, { headers: { 'x-auth-token': token } })).status;

  assert.deepEqual(await ids(root, '/v3/projects'), ['apollo', 'gemini']);
  assert.deepEqual(await ids(root, '/v3/projects?name=apollo'), ['apollo']);
  assert.equal(await shown(root, 'apollo'), 200);
  assert.equal(await shown(root, 'nope'), 404);
  assert.deepEqual(await ids(ann, '/v3/projects'), ['apollo']);
  assert.equal(await shown(ann, 'gemini'), 404);
  for (const path of ['/v3/auth/projects', '/v3/users/root/projects', '/v2.0/tenants'])
    assert.deepEqual(await ids(root, path), ['gemini'], path);
  const asked = async (token: string, path: string) =>
    (await api.raw(api.identity + path, { headers: { 'x-auth-token': token } })).status;
  assert.deepEqual(await ids(ann, '/v3/users/ann/projects'), ['apollo']);
  assert.equal(await asked(ann, '/v3/users/root/projects'), 403);
  assert.deepEqual(await ids(root, '/v3/users/ann/projects'), ['apollo']);
  assert.equal(await asked(root, '/v3/users/nobody/projects'), 404);
});

test('a token for another project acts there at every API, and ends with the one it was made by', async (t) => {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'bob');
  await api.db.insertInto('user_project_association').values({ user_id: 'ann', project_id: 'gemini' }).execute();
  await anImage(api.db, { name: 'of apollo', is_public: 0 });
  await anImage(api.db, { name: 'of gemini', is_public: 0, project_id: 'gemini' });
  const first = await loginV3(api, password('ann', 'ann-secret', { project: { name: 'apollo' } }));
  const tokenOf = ({ headers }: Answer): string => headers.get('x-subject-token') ?? '';
  const id = tokenOf(first);
  const rescope = (name: string) =>
    loginV3(api, { auth: { identity: { methods: ['token'], token: { id } }, scope: { project: { name } } } });
  const seen = async (token: string) => {
    const get = async (url: string) => (await api.raw(url, { headers: { 'x-auth-token': token } })).json;
    const images = (await get('/image/v2/images')).images as { name: string }[];
    const { catalog } = await get(`${api.identity}/v3/auth/catalog`);
    return {
      images: images.map(({ name }) => name).filter((name) => name.startsWith('of')),
      project: (await get(`${api.identity}/v3/auth/tokens`)).token.project.id,
      compute: catalog[0].endpoints[0].url.replace(/.*\//, ''),
    };
  };

  const gemini = await rescope('gemini');
  const { json: v2 } = await api.raw(`${api.identity}/v2.0/tokens`, post({ auth: { token: { id }, tenantName: 'gemini' } })); // prettier-ignore

  for (const token of [tokenOf(gemini), v2.access.token.id])
    assert.deepEqual(await seen(token), { images: ['of gemini'], project: 'gemini', compute: 'gemini' });
  assert.deepEqual(await seen(id), { images: ['of apollo'], project: 'apollo', compute: 'apollo' });
  assert.equal(gemini.json.token.expires_at, first.json.token.expires_at);
  assert.equal(tokenOf(await rescope('apollo')), id);
});

test('a login of version 2.0 gives the same in its own form', async (t) => {
  const api = await anApi(t);
  const passwordCredentials = { username: 'ann', password: 'ann-access' };

  const { status, json } = await api.raw(
    `${api.identity}/v2.0/tokens`,
    post({ auth: { passwordCredentials, tenantName: 'apollo' } }),
  );

  assert.equal(status, 200);
  const { token, user, serviceCatalog } = json.access;
  assert.deepEqual([user.username, token.tenant.name], ['ann', 'apollo']);
  const compute = serviceCatalog.find(({ type }: { type: string }) => type === 'compute');
  assert.equal(compute.endpoints[0].publicURL, `${api.base}/v2/apollo`);
  const { json: tenants } = await api.raw(`${api.identity}/v2.0/tenants`, { headers: { 'x-auth-token': token.id } });
  assert.equal(tenants.tenants[0].name, 'apollo');
});

test('who may not is told in the form of the identity API', async (t) => {
  const api = await anApi(t);
  const cases: [string, RequestInit, number, RegExp][] = [
    ['/v3/auth/tokens', post(password('ann', 'wrong')), 401, /no user with this key/],
    ['/v3/auth/tokens', post(password('ann', 'ann-secret', { project: { name: 'nope' } })), 401, /no project nope/],
    ['/v3/auth/tokens', post(password('ann', 'ann-secret', { system: { all: true } })), 401, /the scope is a project/],
    ['/v3/auth/tokens', post(password('ann', 'ann-secret', { domain: { id: 'default' } })), 401, /is a project/],
    ['/v3/auth/tokens', post({ auth: { identity: { methods: ['totp'] } } }), 400, /password or token/],
    ['/v3/auth/tokens', post({}), 400, /auth: /],
    ['/v3/auth/tokens', post(password('ann', '\0')), 400, /NUL/],
    ['/v2.0/tokens', post({ auth: {} }), 400, /passwordCredentials or a token/],
    ['/v3/auth/tokens', {}, 401, /X-Auth-Token/],
    ['/v3/auth/tokens', { method: 'PUT' }, 405, /offered: POST, GET/],
    ['/v3/nothing', {}, 404, /offers nothing at/],
    ['/constructor', {}, 404, /offers nothing at/],
  ];
  for (const [path, init, status, message] of cases) {
    const { status: got, json, headers } = await api.raw(api.identity + path, init);
    assert.deepEqual([got, json.error.code], [status, status], path);
    assert.match(json.error.message, message);
    assert.match(headers.get('x-openstack-request-id') ?? '', /^req-/);
  }
});

test('a token is revoked by its user, and by no other', async (t) => {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'bob');
  const login = async (name: string) =>
    (await loginV3(api, password(name, `${name}-secret`))).headers.get('x-subject-token') ?? '';
  const [ann, bob] = [await login('ann'), await login('bob')];
  const revoke = async (headers: Record<string, string>) =>
    (await api.raw(`${api.identity}/v3/auth/tokens`, { method: 'DELETE', headers })).status;

  assert.equal(await revoke({ 'x-auth-token': bob }), 400);
  assert.equal(await revoke({ 'x-auth-token': bob, 'x-subject-token': ann }), 403);
  assert.equal(await revoke({ 'x-auth-token': bob, 'x-subject-token': 'unknown' }), 404);
  assert.equal(await revoke({ 'x-auth-token': ann, 'x-subject-token': ann }), 204);
  assert.equal(await revoke({ 'x-auth-token': ann, 'x-subject-token': ann }), 401);
});

test('a token that one API of a nova-api revoked is none at the other from that moment on', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const [osapi_listen_port, identity_listen_port] = [await freePort(), await freePort()];
  const listen = { osapi_listen: '127.0.0.1', osapi_listen_port, identity_listen: '127.0.0.1', identity_listen_port };
  const flags = Flags.of({ enabled_apis: ['osapi', 'identity'], my_ip: '127.0.0.1', ...listen });
  const { stop } = await start({ db, flags, log: silentLog, bus: new MemoryBus(), host: 'node1' });
  try {
    const tokens = `http://127.0.0.1:${identity_listen_port}/v3/auth/tokens`;
    const { headers } = await fetch(tokens, post(password('ann', 'ann-secret')));
    const token = { 'x-auth-token': headers.get('x-subject-token') ?? '' };
    const listed = async () =>
      (await fetch(`http://127.0.0.1:${osapi_listen_port}/v2/apollo/servers`, { headers: token })).status;
    assert.equal(await listed(), 200);

    const subject = { ...token, 'x-subject-token': token['x-auth-token'] };
    assert.equal((await fetch(tokens, { method: 'DELETE', headers: subject })).status, 204);

    assert.equal(await listed(), 401);
  } finally {
    await stop();
  }
});

test('versions are told without a token', async (t) => {
  const api = await anApi(t);

  const ids = (values: { id: string }[]) => values.map(({ id }) => id);
  assert.deepEqual(ids((await api.raw(`${api.identity}/`)).json.versions.values), ['v3.0', 'v2.0']);
  assert.equal((await api.raw(`${api.identity}/v3`)).json.version.links[0].href, `${api.identity}/v3/`);
  assert.equal((await api.raw('/v2')).json.version.id, 'v2.0');
  assert.deepEqual(ids((await api.raw('/image')).json.versions), ['v2.0']);
});
