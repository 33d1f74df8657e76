import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { aFixedIp, anInstance, aNetwork } from '../../../builders.ts';
import { anApi } from './an_api.ts';

/** Ann's way in by the handshake of 1.0. */
async function anApi10(t: TestContext) {
  const api = await anApi(t);
  const { headers } = await api.raw('/v1.0', { headers: { 'x-auth-user': 'ann', 'x-auth-key': 'ann-access' } });
  const url = headers.get('x-server-management-url') ?? '';
  const token = headers.get('x-auth-token') ?? '';
  const ask = async (method: string, path: string, body?: unknown) => {
    const { status, json } = await api.raw(url + path, {
      method,
      headers: { 'x-auth-token': token, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return [status, json];
  };
  return { api, url, ask };
}

test('the handshake of 1.0 leads to 1.0, without a project in the address', async (t) => {
  const { api, url, ask } = await anApi10(t);

  assert.equal(url, `${api.base}/v1.0`);
  assert.deepEqual(await ask('GET', '/servers'), [200, { servers: [] }]);
});

test('a server is launched, shown, renamed and ended in the words of 1.0', async (t) => {
  const { api, ask } = await anApi10(t);

  const [status, { server }] = await ask('POST', '/servers', {
    server: { name: 'web', imageId: api.image, flavorId: 2, metadata: { a: '1' } },
  });
  assert.equal(status, 202);
  const { adminPass, ...shown } = server;
  assert.equal(adminPass.length, 16);
  assert.deepEqual(shown, {
    id: shown.id,
    uuid: shown.uuid,
    name: 'web',
    status: 'BUILD',
    progress: 0,
    user_id: 'ann',
    tenant_id: 'apollo',
    hostId: '',
    imageId: api.image,
    flavorId: 2,
    metadata: { a: '1' },
    addresses: { public: [], private: [] },
  });
  const path = `/servers/${shown.id}`;
  assert.deepEqual(await ask('GET', path), [200, { server: shown }]);
  assert.deepEqual(await ask('GET', '/servers/detail'), [200, { servers: [shown] }]);
  assert.deepEqual(await ask('PUT', path, { server: { name: 'db' } }), [204, undefined]);
  assert.equal((await ask('GET', path))[1].server.name, 'db');
  assert.deepEqual(await ask('DELETE', path), [202, undefined]);
  assert.equal((await ask('GET', path))[0], 404);
  assert.equal((await ask('POST', '/servers', { server: { name: 'x', imageRef: 1, flavorRef: 1 } }))[0], 400);
});

test('addresses of 1.0 are plain lists under public and private', async (t) => {
  const { api, ask } = await anApi10(t);
  const id = await anInstance(api.db);
  await aFixedIp(api.db, { network_id: await aNetwork(api.db), instance_id: id, address: '10.0.0.2' });

  assert.deepEqual(await ask('GET', `/servers/${id}/ips`), [200, { addresses: { public: [], private: ['10.0.0.2'] } }]);
  assert.deepEqual(await ask('GET', `/servers/${id}/ips/private`), [200, { private: ['10.0.0.2'] }]);
});

test('lists of 1.0 are cut by offset and limit', async (t) => {
  const { api, ask } = await anApi10(t);
  const ids: number[] = [];
  for (let i = 0; i < 3; i++) ids.push(await anInstance(api.db));

  const list = async (query: string) => {
    const [status, json] = await ask('GET', `/servers?${query}`);
    return status === 200 ? json.servers.map(({ id }: { id: number }) => id) : status;
  };
  assert.deepEqual(await list('offset=1&limit=1'), [ids[1]]);
  assert.deepEqual(await list('offset=2'), [ids[2]]);
  assert.deepEqual(await list('offset=9'), []);
  for (const query of ['offset=-1', 'offset=x', 'limit=x']) assert.equal(await list(query), 400, query);
});

test('flavors and images of 1.0 have no links, and what Nova never offered answers 501', async (t) => {
  const { api, ask } = await anApi10(t);

  assert.deepEqual(await ask('GET', '/flavors/1'), [200, { flavor: { id: 1, name: 'm1.tiny', ram: 512, disk: 0 } }]);
  assert.deepEqual((await ask('GET', '/flavors?limit=1'))[1], { flavors: [{ id: 1, name: 'm1.tiny' }] });
  assert.deepEqual(await ask('GET', '/images'), [200, { images: [{ id: api.image, name: 'tiny' }] }]);
  assert.deepEqual((await ask('GET', `/images/${api.image}`))[1].image.status, 'ACTIVE');
  assert.equal((await ask('GET', '/limits'))[1].limits.absolute.maxTotalInstances, 10);
  for (const [method, path] of [
    ['GET', '/shared_ip_groups'],
    ['GET', '/shared_ip_groups/detail'],
    ['DELETE', '/shared_ip_groups/1'],
    ['GET', '/servers/1/backup_schedule'],
    ['POST', '/images'],
  ] as const) {
    const [status, json] = await ask(method, path, method === 'POST' ? {} : undefined);
    assert.deepEqual([status, json.notImplemented.code], [501, 501], path);
  }
});
