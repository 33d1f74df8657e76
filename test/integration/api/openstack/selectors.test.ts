import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { DbTokens } from '../../../../src/common/auth/tokens.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { aFixedIp, anImage, anInstance, aNetwork, aProject, aSnapshot, aVolume } from '../../../builders.ts';
import { anApi } from './an_api.ts';

/** With an administrator `root` of project gemini. */
async function aCloud(t: TestContext) {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'root');
  await api.db.updateTable('users').set({ is_admin: 1 }).where('id', '=', 'root').execute();
  const { token } = await new DbTokens({ db: api.db, flags: Flags.of({}) }).issue('root', 'root-access', null);
  return { ...api, admin: { 'x-auth-token': token } };
}

test('every selector of servers that clients send selects; a member’s `host` and `deleted` are left alone', async (t) => {
  const { admin, ...api } = await aCloud(t);
  const uuid = randomUUID();
  const key = { key_name: 'mine', task_state: 'rebooting' };
  const web = await anInstance(api.db, { uuid, availability_zone: 'east', ...key });
  const off = await anInstance(api.db, { host: 'node2', vm_state: 'stopped', power_state: 4, user_id: 'eve' });
  const other = await anInstance(api.db, { project_id: 'gemini', user_id: 'root', hostname: 'db' });
  const gone = { deleted: 1, vm_state: 'deleted', updated_at: '2031-01-01T00:00:00.000Z' };
  const old = await anInstance(api.db, gone);
  const network_id = await aNetwork(api.db, { cidr_v6: 'fd00::/64' });
  await aFixedIp(api.db, { network_id, instance_id: web, address: '10.0.0.2' });
  await aFixedIp(api.db, { network_id, instance_id: off, address: '10.0.0.20' });
  const list = async (query: string, headers?: Record<string, string>) => {
    const { status, json } = await api.ask('GET', `/servers?${query}`, undefined, headers);
    return status === 200 ? json.servers.map(({ id }: { id: number }) => id) : status;
  };
  const all = [web, off, other];

  for (const [query, wanted, member] of [
    ['host=node2', [off], [web, off]],
    ['host=nosuch&all_tenants=1', [], [web, off]],
    ['deleted=True', [old], [web, off]],
    ['deleted=False', all, [web, off]],
    ['deleted=False&changes-since=2031-01-01T00:00:00Z', [], [old]],
    ['ip=10.0.0.20', [off]],
    ['ip=10.0.0.2', [web, off]],
    ['ip=^10%5C.0%5C.0%5C.2$', [web]],
    ['ip=10.0.0.*', [web, off]],
    ['ip=0.0.2', []],
    ['ip=(1%2b)%2b$', 400],
    ['ip6=fd01', []],
    ['fixed_ip=10.0.0.2', [web]],
    ['tenant_id=gemini&all_tenants=1', [other], []],
    ['project_id=gemini', [other], []],
    ['user_id=eve', [off]],
    ['vm_state=stopped', [off]],
    ['task_state=rebooting', [web]],
    ['power_state=4', [off]],
    ['power_state=off', []],
    ['key_name=mine', [web]],
    ['hostname=db', [other], []],
    ['availability_zone=east', [web]],
    ['config_drive=True', []],
    [`uuid=${uuid.toUpperCase()}`, [web]],
    ['uuid=nosuch', []],
    ['tags=a', 400],
    ['nobody_knows=it', all, [web, off]],
  ] as const) {
    assert.deepEqual(await list(query, admin), wanted, `an administrator's ${query}`);
    assert.deepEqual(await list(query), member ?? wanted, `a member's ${query}`);
  }
});

test('an administrator’s list on /v2 is of the own project, of all with all_tenants; on /v1.1 the other way round', async (t) => {
  const { admin, ...api } = await aCloud(t);
  const server = await anInstance(api.db, { display_name: 'theirs' });
  const volume = await aVolume(api.db);
  const own = { servers: await anInstance(api.db, { project_id: 'gemini' }), volumes: 0, snapshots: 0 };
  own.volumes = await aVolume(api.db, { project_id: 'gemini' });
  own.snapshots = await aSnapshot(api.db, own.volumes, { project_id: 'gemini' });
  const all = { servers: [server, own.servers], volumes: [volume, own.volumes], snapshots: [0, own.snapshots] };
  all.snapshots[0] = await aSnapshot(api.db, volume);
  const count = async (version: string, what: keyof typeof all, query: string) => {
    const path = what === 'servers' ? what : `os-${what}`;
    const { json } = await api.ask('GET', `/../${version}/gemini/${path}${query}`, undefined, admin);
    return json[what].length;
  };

  for (const what of ['servers', 'volumes', 'snapshots'] as const)
    for (const [query, v2, v1_1] of [
      ['', 1, 2],
      ['/detail', 1, 2],
      ['?all_tenants', 2, 2],
      ['/detail?all_tenants=True', 2, 2],
      ['/detail?all_tenants=False', 1, 1],
      ['?all_tenants=0', 1, 1],
    ] as const)
      assert.deepEqual(
        [await count('v2', what, query), await count('v1.1', what, query)],
        [v2, v1_1],
        `${what}${query}`,
      );
  assert.equal(await count('v1.0', 'servers', ''), 2);
  assert.equal(await count('v2', 'servers', '?name=theirs'), 0);
  const shown = await api.ask('GET', `/../v2/gemini/servers/${server}`, undefined, admin);
  assert.equal(shown.status, 200);
});

test('every selector of volumes and snapshots that clients send selects', async (t) => {
  const { admin, ...api } = await aCloud(t);
  const data = await aVolume(api.db, { display_name: 'data', size: 2 });
  const east = await aVolume(api.db, { availability_zone: 'east', status: 'error', user_id: 'eve' });
  const other = await aVolume(api.db, { project_id: 'gemini', user_id: 'root' });
  const monday = await aSnapshot(api.db, data, { display_name: 'monday' });
  const tuesday = await aSnapshot(api.db, east);
  const copy = await aVolume(api.db, { snapshot_id: monday, user_id: 'eve' });
  const list = async (what: string, query: string, headers?: Record<string, string>) => {
    const project = headers === undefined ? 'apollo' : 'gemini';
    const { json } = await api.ask('GET', `/../volume/v3/${project}/${what}/detail?${query}`, undefined, headers);
    return json[what].map(({ id }: { id: string }) => Number(id));
  };

  for (const [query, wanted] of [
    ['all_tenants=1', [data, east, other, copy]],
    ['all_tenants=True&project_id=gemini', [other]],
    ['all_tenants=True&project_id=nosuch', []],
    ['all_tenants=False', [other]],
    ['all_tenants=1&user_id=eve', [east, copy]],
    ['all_tenants=1&user_id=eve&bootable=True', [copy]],
    ['all_tenants=1&availability_zone=east', [east]],
    ['all_tenants=1&size=2', [data]],
    ['all_tenants=1&name=data', [data]],
    ['all_tenants=1&status=error', [east]],
    [`all_tenants=1&id=${other}`, [other]],
  ] as const)
    assert.deepEqual(await list('volumes', query, admin), wanted, query);
  assert.deepEqual(await list('volumes', 'project_id=gemini&all_tenants=1'), [], 'of a member');
  assert.deepEqual(await list('snapshots', `volume_id=${east}`), [tuesday]);
  assert.deepEqual(await list('snapshots', 'name=monday'), [monday]);
  assert.deepEqual(await list('snapshots', 'all_tenants=1&project_id=gemini', admin), []);
});

test('every selector of images that clients send selects', async (t) => {
  const { image, ...api } = await aCloud(t);
  const broken = await anImage(api.db, { status: 'error', disk_format: 'qcow2', container_format: 'ami' });
  const list = async (query: string) =>
    (await api.ask('GET', `/../image/v2/images?${query}`)).json.images.map(({ id }: { id: string }) => Number(id));

  for (const [query, wanted] of [
    ['', [image, broken]],
    ['tag=a', []],
    ['os_hidden=True', []],
    ['os_hidden=False', [image, broken]],
    ['protected=true', []],
    ['status=killed', [broken]],
    ['disk_format=qcow2', [broken]],
    ['container_format=bare', [image]],
    [`id=${image}`, [image]],
    ['id=nosuch', []],
  ] as const)
    assert.deepEqual(await list(query), wanted, query);
});
