import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { DbTokens } from '../../../../src/common/auth/tokens.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { aProject, aVolume } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { anApi } from './an_api.ts';
import { clientsOf } from './clients.ts';

/** With an administrator `root`, of project gemini. */
async function aCloud(t: TestContext) {
  const api = await anApi(t, { quota_volumes: 7, quota_cores: -1 });
  await aProject(api.db, 'gemini', 'root');
  await api.db.updateTable('users').set({ is_admin: 1 }).where('id', '=', 'root').execute();
  const { token } = await new DbTokens({ db: api.db, flags: Flags.of({}) }).issue('root', 'root-access', null);
  const set = (path: string, quota_set: object) => api.ask('PUT', path, { quota_set }, { 'x-auth-token': token });
  return { ...api, set };
}
const DEFAULTS = {
  instances: 10,
  cores: -1,
  ram: 51200,
  volumes: 7,
  gigabytes: 1000,
  floating_ips: 10,
  security_groups: 100,
  security_group_rules: 100,
  metadata_items: 128,
  injected_files: 5,
  injected_file_content_bytes: 10240,
};

test('quotas are read by the project and set by an administrator, and hold from then on', async (t) => {
  const { ask, set } = await aCloud(t);
  const apollo = '/os-quota-sets/apollo';
  const limits = { id: 'apollo', ...DEFAULTS };
  assert.deepEqual((await ask('GET', apollo)).json, { quota_set: limits });

  const made = await set(apollo, { instances: 0, ram: null, cores: '8', gigabytes: -1, tenant_id: 'apollo' });

  const changed = { ...limits, instances: 0, ram: -1, cores: 8, gigabytes: -1 };
  assert.deepEqual([made.status, made.json], [200, { quota_set: changed }]);
  assert.deepEqual((await ask('GET', apollo)).json, { quota_set: changed });
  assert.deepEqual((await ask('GET', `${apollo}/defaults`)).json, { quota_set: limits });
  const { absolute } = (await ask('GET', '/limits')).json.limits;
  assert.deepEqual([absolute.maxTotalInstances, absolute.maxTotalCores], [0, 8]);
});

test('the volume service has those of volumes, and its limits, in words of Cinder', async (t) => {
  const { db, ask, set } = await aCloud(t);
  await aVolume(db, { size: 3 });
  const of = (project: string) => `/../volume/v3/${project}/os-quota-sets/apollo`;

  assert.equal((await set(of('gemini'), { gigabytes: null })).status, 200);

  assert.deepEqual((await ask('GET', of('apollo'))).json, { quota_set: { id: 'apollo', volumes: 7, gigabytes: -1 } });
  assert.deepEqual((await ask('GET', '/../volume/v3/apollo/limits')).json.limits, {
    rate: [],
    absolute: { maxTotalVolumes: 7, maxTotalVolumeGigabytes: -1, totalVolumesUsed: 1, totalGigabytesUsed: 3 },
  });
});

test('quotas of others are not told, and what cannot be set is refused and changes nothing', async (t) => {
  const { db, ask, set } = await aCloud(t);

  for (const path of ['gemini', 'gemini/defaults', 'nobody'])
    assert.equal((await ask('GET', `/os-quota-sets/${path}`)).status, 403, path);
  assert.equal((await ask('PUT', '/os-quota-sets/apollo', { quota_set: { instances: 99 } })).status, 403);
  for (const [path, quota_set, status, message] of [
    ['apollo', { instances: 1, instance: 9 }, 400, /instance/],
    ['apollo', { instances: -2 }, 400, /is no limit: a whole number from 0 to 2147483647/],
    ['apollo', { instances: 'many' }, 400, /is no limit/],
    ['apollo?user_id=ann', { instances: 1 }, 400, /a user has none/],
    ['nobody', {}, 404, /there is no project nobody/],
  ] as const) {
    const { status: got, json } = await set(`/os-quota-sets/${path}`, quota_set);
    assert.equal(got, status, JSON.stringify(json));
    assert.match(JSON.stringify(json), message);
  }

  assert.deepEqual(await db.selectFrom('quotas').selectAll().execute(), []);
});

test(
  'the openstack and nova clients of today show quotas and limits, and set them, also of other projects',
  { skip: needs('openstack', 'nova') },
  async (t) => {
    const api = await aCloud(t);
    await api.db.updateTable('users').set({ is_admin: 1 }).where('id', '=', 'ann').execute();
    const clients = clientsOf(api);
    const run = (program: string, words: string) => clients.run(program, ...words.split(' '));

    await run('openstack', 'quota set --instances 3 --volumes 4 --gigabytes -1 apollo');
    await run('nova', 'quota-update --cores 5 apollo');

    const shown = JSON.parse(await run('openstack', 'quota show apollo -f json')) as Record<string, unknown>;
    const { instances, cores, volumes, gigabytes, project_name } = shown;
    assert.deepEqual([instances, cores, volumes, gigabytes, project_name], [3, 5, 4, -1, 'apollo']);
    assert.match(await run('openstack', 'quota show --default apollo -f json'), /"instances": 10/);
    assert.match(await run('nova', 'quota-show --tenant apollo'), /\| instances +\| 3 +\|/);
    await aProject(api.db, 'zeus', 'eve');
    await run('openstack', 'quota set --instances 5 zeus');
    assert.match(await run('openstack', 'quota show zeus -f json'), /"instances": 5/);
    const limits = await run('openstack', 'limits show --absolute -f value');
    assert.match(limits, /^maxTotalInstances 3$/m);
    assert.match(limits, /^maxTotalVolumeGigabytes -1$/m);
  },
);
