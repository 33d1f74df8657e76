import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock } from '../../../../src/common/clock.ts';
import { anImage, anInstance } from '../../../builders.ts';
import { anApi } from './an_api.ts';

test('the five flavors are listed by id, in full on request, and one by one', async (t) => {
  const api = await anApi(t);

  const names = (await api.ask('GET', '/flavors')).json.flavors;
  assert.deepEqual(
    names.map(({ id, name }: { id: number; name: string }) => [id, name]),
    [
      [1, 'm1.tiny'],
      [2, 'm1.small'],
      [3, 'm1.medium'],
      [4, 'm1.large'],
      [5, 'm1.xlarge'],
    ],
  );
  const small = {
    id: 2,
    name: 'm1.small',
    ram: 2048,
    disk: 20,
    vcpus: 1,
    swap: 0,
    rxtx_quota: 0,
    rxtx_cap: 0,
    links: [
      { rel: 'self', href: `${api.base}/v1.1/apollo/flavors/2` },
      { rel: 'bookmark', href: `${api.base}/apollo/flavors/2` },
    ],
  };
  assert.deepEqual((await api.ask('GET', '/flavors/detail?marker=1&limit=1')).json.flavors, [small]);
  assert.deepEqual((await api.ask('GET', '/flavors/2')).json, { flavor: small });
  assert.equal((await api.ask('GET', '/flavors/6')).status, 404);
  for (const [query, ids] of [
    ['minRam=4096', [3, 4, 5]],
    ['minDisk=1', [2, 3, 4, 5]],
    ['minRam=4097&minDisk=41', [4, 5]],
    ['minRam=999999', []],
  ] as const)
    for (const detail of ['', '/detail']) {
      const { flavors } = (await api.ask('GET', `/flavors${detail}?${query}`)).json;
      assert.deepEqual(flavors.map(({ id }: { id: number }) => id), ids, query); // prettier-ignore
    }
  const refused = await api.ask('GET', '/flavors?minRam=much');
  assert.deepEqual(
    [refused.status, refused.json.badRequest.message],
    [400, 'minRam is much; it is a number from 0 up'],
  );
});

test('images show their state, their properties and why they failed; those of others stay hidden', async (t) => {
  const api = await anApi(t);
  const properties = JSON.stringify({ instance_ref: 'http://x/servers/9', os: 'linux' });
  const snapshot = await anImage(api.db, { name: 'snap', is_public: 0, kernel_id: 5, status: 'saving', properties });
  const broken = await anImage(api.db, { name: 'bad', status: 'error', fault: 'checksum differs' });
  const hidden = await anImage(api.db, { is_public: 0, project_id: 'gemini' });

  const { images } = (await api.ask('GET', '/images/detail')).json;
  assert.deepEqual(
    images.map(({ id, status, progress }: Record<string, unknown>) => [id, status, progress]),
    [
      [String(api.image), 'ACTIVE', 100],
      [String(snapshot), 'SAVING', 0],
      [String(broken), 'ERROR', 0],
    ],
  );
  assert.equal(images[1].server.id, '9');
  const metadata = { architecture: 'x86_64', kernel_id: '5', instance_ref: 'http://x/servers/9', os: 'linux' };
  assert.deepEqual(images[1].metadata, metadata);
  assert.equal(images[2].fault.message, 'checksum differs');
  assert.deepEqual((await api.ask('GET', `/images/${snapshot}`)).json, { image: images[1] });
  assert.deepEqual((await api.ask('GET', `/images/${snapshot}/metadata`)).json, { metadata });
  assert.deepEqual((await api.ask('GET', `/images/${snapshot}/metadata/os`)).json, { meta: { os: 'linux' } });
  for (const path of [`/images/${hidden}`, '/images/abc', `/images/${snapshot}/metadata/toString`])
    assert.equal((await api.ask('GET', path)).status, 404, path);
  const listed = async (query: string) => {
    const { json } = await api.ask('GET', `/images?${query}`);
    return json.images.map(({ name }: { name: string }) => name);
  };
  assert.deepEqual(await listed('status=SAVING'), ['snap']);
  assert.deepEqual(await listed('name=bad'), ['bad']);
  assert.deepEqual(await listed('property-os=linux'), ['snap']);
  assert.deepEqual(await listed(`marker=${api.image}&limit=1`), ['snap']);
});

test('properties of an image are added to, replaced and taken away by its project alone', async (t) => {
  const api = await anApi(t);
  const path = `/images/${api.image}/metadata`;
  const ask = async (method: string, tail = '', body?: unknown) => {
    const { status, json } = await api.ask(method, path + tail, body);
    return [status, json];
  };
  const architecture = 'x86_64';

  assert.deepEqual(await ask('POST', '', { metadata: { a: '1', b: '2' } }), [
    200,
    { metadata: { a: '1', b: '2', architecture } },
  ]);
  assert.deepEqual(await ask('PUT', '/b', { meta: { b: '3' } }), [200, { meta: { b: '3' } }]);
  assert.deepEqual(await ask('PUT', '', { metadata: { b: '4' } }), [200, { metadata: { b: '4', architecture } }]);
  assert.deepEqual(await ask('DELETE', '/b'), [204, undefined]);
  assert.equal((await ask('DELETE', '/b'))[0], 404);
  assert.equal((await ask('DELETE', '/architecture'))[0], 404);
  assert.equal((await ask('POST', '', { metadata: { kernel_id: '7' } }))[0], 400);
  assert.deepEqual(await ask('GET'), [200, { metadata: { architecture } }]);
  const foreign = await anImage(api.db, { project_id: 'gemini' });
  const refused = await api.ask('POST', `/images/${foreign}/metadata`, { metadata: { a: '1' } });
  assert.deepEqual([refused.status, refused.json.forbidden.code], [403, 403]);
});

test('a deleted image is in no list any more, and another project cannot delete it', async (t) => {
  const api = await anApi(t);
  const foreign = await anImage(api.db, { project_id: 'gemini' });

  assert.equal((await api.ask('DELETE', `/images/${foreign}`)).status, 403);
  const gone = await api.ask('DELETE', `/images/${api.image}`);
  assert.deepEqual([gone.status, gone.json], [204, undefined]);

  assert.equal((await api.ask('GET', `/images/${api.image}`)).status, 404);
  assert.equal((await api.ask('DELETE', `/images/${api.image}`)).status, 404);
  assert.equal((await api.ask('GET', '/images')).json.images.length, 1);
});

test('a key pair is made or imported, listed without its private key, and forgotten', async (t) => {
  const api = await anApi(t);

  const made = (await api.ask('POST', '/os-keypairs', { keypair: { name: 'mine' } })).json.keypair;
  assert.match(made.private_key, /^-----BEGIN RSA PRIVATE KEY-----/);
  assert.equal(made.user_id, 'ann');
  const { public_key, fingerprint } = made;
  const imported = await api.ask('POST', '/os-keypairs', { keypair: { name: 'old', public_key } });
  assert.deepEqual([imported.status, imported.json.keypair.private_key], [200, undefined]);
  assert.equal(imported.json.keypair.fingerprint, fingerprint);
  assert.deepEqual((await api.ask('GET', '/os-keypairs')).json, {
    keypairs: ['mine', 'old'].map((name) => ({ keypair: { name, public_key, fingerprint } })),
  });
  assert.equal((await api.ask('POST', '/os-keypairs', { keypair: { name: 'mine' } })).status, 409);
  for (const keypair of [{ name: '' }, { name: 'x'.repeat(256) }, { name: 'x', public_key: 'nonsense' }, {}])
    assert.equal((await api.ask('POST', '/os-keypairs', { keypair })).status, 400, JSON.stringify(keypair));
  const gone = await api.ask('DELETE', '/os-keypairs/mine');
  assert.deepEqual([gone.status, gone.json], [202, undefined]);
  assert.equal((await api.ask('DELETE', '/os-keypairs/mine')).status, 404);
});

test('limits tell the quota of the project and what is used of it', async (t) => {
  const api = await anApi(t, { quota_cores: -1, quota_instances: 3 });
  await anInstance(api.db);

  const { limits } = (await api.ask('GET', '/limits')).json;

  assert.deepEqual(limits.rate, []);
  assert.deepEqual(limits.absolute, {
    maxTotalInstances: 3,
    maxTotalRAMSize: 51200,
    maxServerMeta: 128,
    maxImageMeta: 128,
    maxPersonality: 5,
    maxPersonalitySize: 10240,
    totalInstancesUsed: 1,
    totalCoresUsed: 1,
    totalRAMUsed: 512,
    maxTotalVolumes: 10,
    maxTotalVolumeGigabytes: 1000,
    totalVolumesUsed: 0,
    totalGigabytesUsed: 0,
  });
});

test('extensions are listed, and shown one by one', async (t) => {
  const api = await anApi(t);

  const { extensions } = (await api.ask('GET', '/extensions')).json;

  assert.ok(extensions.length > 0);
  for (const extension of extensions) {
    assert.deepEqual(Object.keys(extension), ['name', 'alias', 'description', 'namespace', 'updated', 'links']);
    assert.deepEqual((await api.ask('GET', `/extensions/${extension.alias}`)).json, { extension });
  }
  assert.equal((await api.ask('GET', '/extensions/nope')).status, 404);
});

test('with --osapi_rate_limits the eleventh POST is refused, and /limits tells what is left', async (t) => {
  const api = await anApi(t, { osapi_rate_limits: true });
  const { now } = clock;
  t.after(() => (clock.now = now));
  const frozen = new Date();
  clock.now = () => frozen;
  for (let i = 0; i < 10; i++) assert.equal((await api.ask('POST', '/servers', {})).status, 400);

  const { status, headers, json } = await api.ask('POST', '/servers', {});

  assert.equal(status, 403);
  assert.equal(headers.get('retry-after'), '6');
  assert.equal(json.overLimitFault.code, 403);
  assert.equal(json.overLimitFault.details, 'only 10 POST requests to * are taken every minute');
  const { rate } = (await api.ask('GET', '/limits')).json.limits;
  assert.deepEqual(
    rate.map(({ uri, limit }: { uri: string; limit: { verb: string }[] }) => [uri, limit.map(({ verb }) => verb)]),
    [
      ['*', ['POST', 'PUT', 'DELETE']],
      ['*/servers', ['POST']],
      ['*changes-since*', ['GET']],
    ],
  );
  assert.equal(rate[0].limit[0].remaining, 0);
});
