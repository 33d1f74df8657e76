import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { clock } from '../../../src/common/clock.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { isMetadataPath, metadataHandler, VERSIONS } from '../../../src/api/metadata/app.ts';
import { aDatabase, aFixedIp, anInstance, aNetwork } from '../../builders.ts';

const USER_DATA = Buffer.from([0x50, 0x4b, 3, 4, 0, 255, 13, 10]);

/** A listening service; the guest at 127.0.0.1 is instance `id`, the one at 10.0.0.9 another. */
async function aService(t: TestContext, flags: Record<string, unknown> = {}) {
  const db = await aDatabase(t);
  const network_id = await aNetwork(db);
  const id = await anInstance(db, {
    user_data: USER_DATA.toString('base64'),
    key_name: 'mine',
    key_data: 'ssh-rsa AAAA',
  });
  const other = await anInstance(db);
  await aFixedIp(db, { network_id, instance_id: id, address: '127.0.0.1' });
  await aFixedIp(db, { network_id, instance_id: other, address: '10.0.0.9' });
  const server = createServer(metadataHandler({ db, flags: Flags.of(flags), log: silentLog })).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const get = async (path: string, init: RequestInit = {}) => {
    const res = await fetch(base + path, init);
    return {
      status: res.status,
      body: Buffer.from(await res.arrayBuffer()),
      type: res.headers.get('content-type') ?? '',
    };
  };
  const text = async (path: string, headers: Record<string, string> = {}) => {
    const { status, body } = await get(path, { headers });
    return `${status} ${body.toString()}`;
  };
  return { db, get, text, id, other };
}
const ec2Id = (id: number) => `i-${id.toString(16).padStart(8, '0')}`;

test('a guest is known by its address, under every version', async (t) => {
  const { text, id } = await aService(t);

  for (const version of VERSIONS) assert.equal(await text(`/${version}/meta-data/instance-id`), `200 ${ec2Id(id)}`);
  assert.equal(await text('/latest'), '200 user-data\nmeta-data/');
  assert.match(await text('/'), /^200 1\.0\n2007-01-19\n(.*\n)*2009-04-04\nlatest\n$/);
  assert.match(await text('/2031-01-01/meta-data'), /^404 there is no version 2031-01-01/);
  assert.match(await text('/latest/meta-data/nope'), /^404 there is no meta-data\/nope/);
});

test('user data is sent as the bytes it is', async (t) => {
  const { get } = await aService(t);

  const answer = await get('/2009-04-04/user-data');

  assert.deepEqual(answer.body, USER_DATA);
  assert.equal(answer.type, 'application/octet-stream');
});

test('a deleted instance, a given-up address and an address held twice get nothing', async (t) => {
  const { db, text, id } = await aService(t);
  const asked = () => text('/latest/meta-data/instance-id');

  await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', id).execute();
  assert.equal(await asked(), '404 127.0.0.1 is not the fixed ip of an instance');
  await db.updateTable('instances').set({ deleted: 0 }).where('id', '=', id).execute();
  await db.updateTable('fixed_ips').set({ allocated: 0 }).where('instance_id', '=', id).execute();
  assert.match(await asked(), /^404/);
  await db.updateTable('fixed_ips').set({ allocated: 1 }).where('instance_id', '=', id).execute();
  const twin = await aNetwork(db, { cidr: '127.0.0.0/24' });
  const row = await db.selectFrom('fixed_ips').selectAll().where('instance_id', '=', id).executeTakeFirstOrThrow();
  await db
    .insertInto('fixed_ips')
    .values({ ...row, id: undefined, network_id: twin, instance_id: await anInstance(db) })
    .execute();
  assert.match(await asked(), /^404/);
});

test('X-Forwarded-For chooses the instance only with --use_forwarded_for, and its last item counts', async (t) => {
  const headers = { 'x-forwarded-for': '127.0.0.1, 10.0.0.9' };
  const plain = await aService(t);
  const proxied = await aService(t, { use_forwarded_for: true });

  assert.equal(await plain.text('/latest/meta-data/instance-id', headers), `200 ${ec2Id(plain.id)}`);
  assert.equal(await proxied.text('/latest/meta-data/instance-id', headers), `200 ${ec2Id(proxied.other)}`);
});

test('a proxy is believed when it signs with the shared secret, and nobody when there is no secret', async (t) => {
  const sign = (secret: string) => ({
    'x-instance-address': '10.0.0.9',
    'x-instance-signature': createHmac('sha256', secret).update('10.0.0.9').digest('hex'),
  });
  const shared = await aService(t, { metadata_proxy_shared_secret: 's3cret' });
  const none = await aService(t);
  const path = '/latest/meta-data/instance-id';

  assert.equal(await shared.text(path, sign('s3cret')), `200 ${ec2Id(shared.other)}`);
  assert.match(await shared.text(path, sign('wrong')), /^403 X-Instance-Signature does not fit/);
  assert.match(await shared.text(path, { 'x-instance-address': '10.0.0.9' }), /^403/);
  assert.equal(await none.text(path, sign('')), `200 ${ec2Id(none.id)}`);
});

test('a session token is given, taken, bound to its address and its time', async (t) => {
  const { get, text, id } = await aService(t, { use_forwarded_for: true });
  const ask = (ttl?: string) =>
    get('/latest/api/token', {
      method: 'PUT',
      headers: ttl === undefined ? {} : { 'x-aws-ec2-metadata-token-ttl-seconds': ttl },
    });

  const given = await ask('60');
  assert.equal(given.status, 200);
  const token = { 'x-aws-ec2-metadata-token': given.body.toString() };

  assert.equal(await text('/latest/meta-data/instance-id', token), `200 ${ec2Id(id)}`);
  assert.match(await text('/latest/meta-data/', { 'x-aws-ec2-metadata-token': 'x' }), /^401/);
  assert.match(await text('/latest/meta-data/', { ...token, 'x-forwarded-for': '10.0.0.9' }), /^401/);
  const { now } = clock;
  t.after(() => (clock.now = now));
  clock.now = () => new Date(Date.now() + 61_000);
  assert.match(await text('/latest/meta-data/', token), /^401/);
  for (const ttl of ['0', '21601', 'x', '', undefined]) assert.equal((await ask(ttl)).status, 400, `ttl ${ttl}`);
});

test('a session token is demanded where the flag says so, or the instance, which counts for more', async (t) => {
  const demanding = await aService(t, { metadata_require_token: true });
  const relaxed = await aService(t);
  const set = (service: typeof relaxed, http_tokens: string | null) =>
    service.db.updateTable('instances').set({ http_tokens }).where('id', '=', service.id).execute();
  const path = '/latest/meta-data/instance-id';
  const refused = /^401 this instance is answered with a session token only; get one with PUT \/latest\/api\/token$/;

  assert.match(await demanding.text(path), refused);
  assert.match(await demanding.text('/'), refused);
  const headers = { 'x-aws-ec2-metadata-token-ttl-seconds': '60' };
  const token = (await demanding.get('/latest/api/token', { method: 'PUT', headers })).body.toString();
  assert.match(await demanding.text(path, { 'x-aws-ec2-metadata-token': token }), /^200 i-/);
  await set(demanding, 'optional');
  assert.match(await demanding.text(path), /^200 i-/);

  assert.match(await relaxed.text(path), /^200 i-/);
  await set(relaxed, 'required');
  assert.match(await relaxed.text(path), refused);
});

test('an instance whose metadata is turned off is told nothing, with a token neither', async (t) => {
  const { db, get, text, id } = await aService(t);
  const headers = { 'x-aws-ec2-metadata-token-ttl-seconds': '60' };
  const token = (await get('/latest/api/token', { method: 'PUT', headers })).body.toString();
  await db.updateTable('instances').set({ http_endpoint: 'disabled' }).where('id', '=', id).execute();

  assert.match(await text('/latest/user-data', { 'x-aws-ec2-metadata-token': token }), /^403 the metadata service is turned off/); // prettier-ignore
  assert.equal((await get('/latest/api/token', { method: 'PUT', headers })).status, 403);
});

test('no session token is given through a proxy that says whom it asks for, unless it is ours', async (t) => {
  const headers = { 'x-aws-ec2-metadata-token-ttl-seconds': '60', 'x-forwarded-for': '10.0.0.9' };
  const plain = await aService(t);
  const proxied = await aService(t, { use_forwarded_for: true });

  assert.equal((await plain.get('/latest/api/token', { method: 'PUT', headers })).status, 403);
  assert.equal((await proxied.get('/latest/api/token', { method: 'PUT', headers })).status, 200);
});

test('bad paths and methods are told what is wrong', async (t) => {
  const { get } = await aService(t);

  assert.equal((await get('/latest/%ff')).status, 400);
  assert.equal((await get('/latest/meta-data', { method: 'POST', body: 'x' })).status, 405);
  assert.equal((await get('/latest/meta-data', { method: 'HEAD' })).status, 200);
});

test('a database that fails is a 500 without its words', async (t) => {
  const { db, text } = await aService(t);
  await db.schema.dropTable('fixed_ips').execute();

  assert.equal(await text('/latest/meta-data/'), '500 the metadata cannot be read now; try again');
});

test('paths of the metadata service are told apart from those of the EC2 API', () => {
  for (const url of ['/latest', '/latest/meta-data?x', '/2009-04-04/user-data', '//1.0/'])
    assert.ok(isMetadataPath(url), url);
  for (const url of ['/', '/services/Cloud', '/latestx', '/?Action=X', '']) assert.ok(!isMetadataPath(url), url);
});
