import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aCloud } from '../../../rigs/cloud.ts';
import { until } from '../../../until.ts';

test('from the handshake to the deletion, with every daemon at work', async (t) => {
  const cloud = await aCloud(t, { flags: { use_forwarded_for: true } });
  const { url, user, key } = cloud.openstack;
  const entry = await fetch(url, { headers: { 'x-auth-user': user, 'x-auth-key': key } });
  const base = entry.headers.get('x-server-management-url') ?? '';
  const token = entry.headers.get('x-auth-token') ?? '';
  const ask = async (method: string, path: string, body?: unknown) => {
    const res = await fetch(base + path, {
      method,
      headers: { 'x-auth-token': token, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await res.text();
    return { status: res.status, json: text === '' ? undefined : JSON.parse(text) };
  };
  const active = (path: string) =>
    until(`${path} is active`, async () => {
      const { server } = (await ask('GET', path)).json;
      assert.notEqual(server.status, 'ERROR', JSON.stringify(server.fault));
      return server.status === 'ACTIVE' && server;
    });
  const image = Number.parseInt(cloud.image.slice('ami-'.length), 16);
  const user_data = Buffer.from('hello').toString('base64');

  const made = await ask('POST', '/servers', { server: { name: 'web', imageRef: image, flavorRef: 1, user_data } });
  assert.equal(made.status, 202, JSON.stringify(made.json));
  const path = `/servers/${made.json.server.id}`;
  const server = await active(path);
  const [network] = Object.values(server.addresses) as { addr: string }[][];
  const address = network?.[0]?.addr ?? '';
  assert.match(address, /^10\.0\./);
  const { metadata_port } = cloud.flags;
  const guest = { headers: { 'x-forwarded-for': address } };
  const told = await fetch(`http://127.0.0.1:${String(metadata_port)}/latest/user-data`, guest);
  assert.equal(await told.text(), 'hello');

  assert.equal((await ask('POST', `${path}/action`, { reboot: { type: 'HARD' } })).status, 202);
  await active(path);
  const console_log = await ask('POST', `${path}/action`, { 'os-getConsoleOutput': {} });
  assert.deepEqual([console_log.status, typeof console_log.json.output], [200, 'string']);

  assert.equal((await ask('DELETE', path)).status, 204);
  await until(`${path} is gone`, async () => (await ask('GET', path)).status === 404);
  assert.deepEqual((await ask('GET', '/servers')).json, { servers: [] });
  assert.equal(
    (await fetch(`http://127.0.0.1:${String(metadata_port)}/latest/user-data`, guest)).status,
    404,
    'the address tells nothing any more',
  );
});
