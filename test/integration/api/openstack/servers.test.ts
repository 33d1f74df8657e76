import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aFixedIp, anInstance, aNetwork, aProject } from '../../../builders.ts';
import { anApi } from './an_api.ts';

const newServer = (image: number, over: Record<string, unknown> = {}) => ({
  server: { name: 'web', imageRef: String(image), flavorRef: '1', ...over },
});

test('a new server is told with a password, and is then shown, listed and found by uuid', async (t) => {
  const api = await anApi(t);

  const made = await api.ask('POST', '/servers', newServer(api.image, { metadata: { role: 'front' } }));

  assert.equal(made.status, 202);
  const { adminPass, ...server } = made.json.server;
  assert.match(adminPass, /^[2-9A-HJ-NP-Za-km-z]{16}$/);
  assert.equal(made.headers.get('location'), `${api.base}/v1.1/apollo/servers/${server.id}`);
  const { created, uuid, ...rest } = server;
  assert.match(created, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.deepEqual(rest, {
    id: server.id,
    name: 'web',
    status: 'BUILD',
    progress: 0,
    user_id: 'ann',
    tenant_id: 'apollo',
    updated: rest.updated,
    hostId: '',
    image: {
      id: String(api.image),
      links: [{ rel: 'bookmark', href: `${api.base}/apollo/images/${api.image}` }],
    },
    flavor: { id: '1', links: [{ rel: 'bookmark', href: `${api.base}/apollo/flavors/1` }] },
    addresses: {},
    accessIPv4: '',
    accessIPv6: '',
    metadata: { role: 'front' },
    key_name: '',
    config_drive: '',
    links: [
      { rel: 'self', href: `${api.base}/v1.1/apollo/servers/${server.id}` },
      { rel: 'bookmark', href: `${api.base}/apollo/servers/${server.id}` },
    ],
  });
  for (const path of [`/servers/${server.id}`, `/apollo/servers/${uuid}`, `/servers/${server.id}.json`])
    assert.deepEqual((await api.ask('GET', path)).json, { server }, path);
  assert.deepEqual((await api.ask('GET', '/servers/detail')).json, { servers: [server] });
  const { id, name, links } = server;
  assert.deepEqual((await api.ask('GET', '/apollo/servers')).json, { servers: [{ id, uuid, name, links }] });
});

test('references may be URLs that end in the id', async (t) => {
  const api = await anApi(t);
  const refs = {
    imageRef: `http://elsewhere:9292/v1.1/apollo/images/${api.image}`,
    flavorRef: 'http://x/v1.1/flavors/2',
  };

  const { json } = await api.ask('POST', '/servers', newServer(api.image, refs));

  assert.equal(json.server.flavor.id, '2');
});

test('a server that runs shows its host as a hash, its addresses by network, and why it failed when it did', async (t) => {
  const api = await anApi(t);
  const id = await anInstance(api.db, { image_id: api.image });
  await aFixedIp(api.db, { network_id: await aNetwork(api.db), instance_id: id, address: '10.0.0.2' });
  const broken = await anInstance(api.db, { vm_state: 'error', fault: 'no host has 512 MB free' });

  const { server } = (await api.ask('GET', `/servers/${id}`)).json;
  assert.deepEqual(
    [server.status, server.progress, server.hostId.length, server.addresses],
    ['ACTIVE', 100, 56, { private: [{ version: 4, addr: '10.0.0.2' }] }],
  );
  assert.deepEqual((await api.ask('GET', `/servers/${id}/ips`)).json, { addresses: server.addresses });
  assert.deepEqual((await api.ask('GET', `/servers/${id}/ips/private`)).json, server.addresses);
  assert.equal((await api.ask('GET', `/servers/${id}/ips/other`)).status, 404);
  const error = (await api.ask('GET', `/servers/${broken}`)).json.server;
  assert.deepEqual([error.status, error.fault.message], ['ERROR', 'no host has 512 MB free']);
});

test('what a new server needs is checked, and each answer names the place', async (t) => {
  const api = await anApi(t);
  const refused: [Record<string, unknown>, number, RegExp][] = [
    [{ name: ' ' }, 400, /server\.name: is blank/],
    [{ name: 7 }, 400, /server\.name: /],
    [{ imageRef: '999' }, 400, /there is no image/],
    [{ imageRef: 'http://x/images/abc' }, 400, /server\.imageRef: .*is no id/],
    [{ imageRef: '99999999999' }, 400, /server\.imageRef/],
    [{ flavorRef: '77' }, 400, /there is no flavor 77/],
    [{ flavorRef: undefined }, 400, /server\.flavorRef/],
    [{ key_name: 'nope' }, 400, /no key pair nope/],
    [{ security_groups: [{ name: 'nope' }] }, 400, /no security group nope/],
    [{ user_data: 'not base64!' }, 400, /server\.user_data: is not base64/],
    [{ metadata: { a: 1 } }, 400, /server\.metadata\.a/],
    [{ metadata: { ['k'.repeat(256)]: 'v' } }, 400, /1 to 255 characters/],
    [{ min_count: 3, max_count: 2 }, 400, /max_count 2 is less than min_count 3/],
    [{ min_count: 0 }, 400, /min_count/],
    [{ adminPass: '' }, 400, /adminPass: is empty/],
    [{ personality: [{ path: '/x', contents: '' }] }, 400, /personality: is not offered/],
    [{ return_reservation_id: 'True' }, 400, /return_reservation_id: is not offered/],
    [{ host: 'node1' }, 400, /host: is not offered/],
    [{ hypervisor_hostname: 'node1' }, 400, /hypervisor_hostname: is not offered/],
    [{ min_count: 11, max_count: 11 }, 413, /quota/],
  ];
  for (const [over, status, message] of refused) {
    const { json, status: got } = await api.ask('POST', '/servers', newServer(api.image, over));
    const fault = json.badRequest ?? json.overLimit;
    assert.deepEqual([got, fault?.code], [status, status], JSON.stringify(over));
    assert.match(fault.message, message);
  }
  for (const name of ['os:scheduler_hints', 'OS-SCH-HNT:scheduler_hints']) {
    const { status, json } = await api.ask('POST', '/servers', { ...newServer(api.image), [name]: { group: 'g' } });
    assert.deepEqual([status, json.badRequest.message], [400, `${name}: is not offered; leave it out`]);
  }
  assert.deepEqual((await api.ask('GET', '/servers')).json, { servers: [] });
  const none = { ...newServer(api.image, { return_reservation_id: false }), 'os:scheduler_hints': {} };
  assert.equal((await api.ask('POST', '/servers', none)).status, 202);
});

test('two of a batch are launched and the first is told', async (t) => {
  const api = await anApi(t);

  await api.ask('POST', '/servers', newServer(api.image, { min_count: '2', max_count: 2 }));

  assert.equal((await api.ask('GET', '/servers')).json.servers.length, 2);
});

test('a key that no object keeps is refused wherever it stands', async (t) => {
  const api = await anApi(t);
  const id = await anInstance(api.db);

  for (const [method, path, body] of [
    ['POST', '/servers', `{"server": {"name": "x", "imageRef": 1, "flavorRef": 1, "metadata": {"__proto__": "x"}}}`],
    ['POST', `/servers/${id}/metadata`, '{"metadata": {"__proto__": "x"}}'],
    ['PUT', `/servers/${id}/metadata/__proto__`, '{"meta": {"\\u005f_proto__": "x"}}'],
  ] as const) {
    const { status, json } = await api.ask(method, path, body);
    assert.deepEqual([status, json.badRequest?.message], [400, 'the body has the key __proto__, which nothing here may have']); // prettier-ignore
  }
});

test('a rename shows at once, a deletion takes the server away, and both know when there is none', async (t) => {
  const api = await anApi(t);
  const id = await anInstance(api.db, { host: null, vm_state: 'building', task_state: 'scheduling' });

  const renamed = await api.ask('PUT', `/servers/${id}`, { server: { name: ' db ' } });
  assert.deepEqual([renamed.status, renamed.json.server.name], [200, 'db']);
  for (const [version, address] of [
    ['accessIPv4', '192.0.2.1'],
    ['accessIPv6', 'fd00::1'],
  ] as const) {
    const { status, json } = await api.ask('PUT', `/servers/${id}`, { server: { name: 'x', [version]: address } });
    assert.deepEqual([status, json.badRequest.message], [400, `server.${version}: is not offered; leave it out`]);
  }
  const gone = await api.ask('DELETE', `/servers/${id}`);
  assert.deepEqual([gone.status, gone.json], [204, undefined]);

  for (const path of [`/servers/${id}`, '/servers/99999999999999', '/servers/x%2fy'])
    for (const [method, body] of [['GET'], ['PUT', { server: { name: 'x' } }], ['DELETE']] as [string, unknown?][]) {
      const { status, json } = await api.ask(method, path, body);
      assert.deepEqual([status, json.itemNotFound.code], [404, 404], `${method} ${path}`);
    }
});

test('nobody sees or touches the servers of another project', async (t) => {
  const api = await anApi(t);
  await aProject(api.db, 'gemini', 'bob');
  const id = await anInstance(api.db, { project_id: 'gemini', user_id: 'bob' });

  assert.deepEqual((await api.ask('GET', '/servers/detail')).json, { servers: [] });
  assert.equal((await api.ask('GET', `/servers/${id}`)).status, 404);
  assert.equal((await api.ask('DELETE', `/servers/${id}`)).status, 404);
  assert.equal((await api.ask('POST', `/servers/${id}/action`, { reboot: { type: 'SOFT' } })).status, 404);
  assert.equal((await api.ask('GET', '/gemini/servers')).status, 401);
});

test('a server reboots soft or hard, once it is active', async (t) => {
  const api = await anApi(t);
  const id = await anInstance(api.db);
  const act = (body: unknown) => api.ask('POST', `/servers/${id}/action`, body);

  const rebooted = await act({ reboot: { type: 'HARD' } });

  assert.deepEqual([rebooted.status, rebooted.json], [202, undefined]);
  assert.equal((await api.ask('GET', `/servers/${id}`)).json.server.status, 'REBOOT');
  const job = await api.db.selectFrom('jobs').selectAll().where('method', '=', 'reboot_instance').executeTakeFirst();
  assert.equal(JSON.parse(job?.args ?? '{}').reboot_type, 'HARD');
  const building = await anInstance(api.db, { vm_state: 'building', task_state: 'spawning' });
  const busy = await api.ask('POST', `/servers/${building}/action`, { reboot: { type: 'soft' } });
  assert.deepEqual([busy.status, busy.json.inProgress?.code], [409, 409]);
  const refused: [unknown, number, RegExp][] = [
    [{ reboot: {} }, 400, /type/],
    [{ reboot: null }, 400, /./],
    [{ reboot: { type: 'WARM' } }, 400, /type: is SOFT or HARD/],
    [{}, 400, /names one action, of: reboot/],
    [{ reboot: { type: 'SOFT' }, resize: {} }, 400, /given: reboot, resize/],
    [{ explode: {} }, 400, /given: explode/],
    [[], 400, /given: none/],
    ['"reboot"', 400, /given: none/],
    [{ resize: { flavorRef: '2' } }, 501, /resize is not offered/],
  ];
  for (const [body, status, message] of refused) {
    const answer = await act(body);
    const fault = Object.values(answer.json)[0] as { code: number; message: string };
    assert.deepEqual([answer.status, fault.code], [status, status], JSON.stringify(body));
    assert.match(fault.message, message);
  }
});

test('metadata is read, added to, replaced and taken away', async (t) => {
  const api = await anApi(t, { quota_metadata_items: 3 });
  const id = await anInstance(api.db);
  const path = `/servers/${id}/metadata`;
  const ask = async (method: string, tail = '', body?: unknown) => {
    const { status, json } = await api.ask(method, path + tail, body);
    return [status, json];
  };

  assert.deepEqual(await ask('GET'), [200, { metadata: {} }]);
  assert.deepEqual(await ask('POST', '', { metadata: { a: '1', b: '2' } }), [200, { metadata: { a: '1', b: '2' } }]);
  assert.deepEqual(await ask('POST', '', { metadata: { b: '3' } }), [200, { metadata: { a: '1', b: '3' } }]);
  assert.deepEqual(await ask('GET', '/b'), [200, { meta: { b: '3' } }]);
  assert.deepEqual(await ask('PUT', '/c', { meta: { c: '4' } }), [200, { meta: { c: '4' } }]);
  assert.deepEqual((await ask('PUT', '/c', { meta: { d: '4' } }))[0], 400);
  assert.deepEqual((await ask('PUT', '/d', { meta: { d: '4', e: '5' } }))[0], 400);
  const [status, json] = await ask('PUT', '/d', { meta: { d: '5' } });
  assert.deepEqual([status, json.overLimit.retryAfter], [413, 0]);
  assert.match(json.overLimit.message, /4 metadata pairs; .* at most 3/);
  assert.deepEqual(await ask('PUT', '', { metadata: { z: '9' } }), [200, { metadata: { z: '9' } }]);
  assert.deepEqual(await ask('DELETE', '/z'), [204, undefined]);
  assert.equal((await ask('DELETE', '/z'))[0], 404);
  assert.equal((await ask('GET', '/z'))[0], 404);
  assert.deepEqual(await ask('GET'), [200, { metadata: {} }]);
});

test('lists are cut by limit and marker, and filtered', async (t) => {
  const api = await anApi(t, { osapi_max_limit: 3 });
  const ids: number[] = [];
  for (const display_name of ['web1', 'web2', 'db', 'old']) ids.push(await anInstance(api.db, { display_name }));
  const [web1, web2, db, old] = ids as [number, number, number, number];
  const deleted = { deleted: 1, vm_state: 'deleted', updated_at: '2031-01-01T00:00:00.000Z' };
  await api.db.updateTable('instances').set(deleted).where('id', '=', old).execute();
  const extra = await anInstance(api.db, { display_name: 'x', vm_state: 'error', instance_type_id: 2 });
  const list = async (query: string) => {
    const { status, json } = await api.ask('GET', `/servers?${query}`);
    return status === 200 ? json.servers.map(({ id }: { id: number }) => id) : status;
  };

  assert.deepEqual(await list('limit=2'), [web1, web2]);
  assert.deepEqual(await list(`limit=2&marker=${web2}`), [db, extra]);
  assert.deepEqual(await list(`marker=${old}`), [extra], 'the marker was deleted meanwhile');
  for (const query of ['', 'limit=0', 'limit=999']) assert.deepEqual(await list(query), [web1, web2, db], query);
  for (const query of ['limit=-1', 'limit=x', 'limit=1e3', 'marker=999', 'marker=x', 'status=up', 'changes-since=x'])
    assert.equal(await list(query), 400, query);
  assert.deepEqual(await list('name=web'), [web1, web2]);
  assert.deepEqual(await list('name=^web2$'), [web2]);
  assert.deepEqual(await list(`name=b&marker=${web1}&limit=1`), [web2]);
  assert.equal(await list('name=(a%2b)%2b$'), 400);
  assert.deepEqual(await list('status=error'), [extra]);
  assert.deepEqual(await list('flavor=http://x/flavors/2'), [extra]);
  assert.deepEqual(await list('changes-since=2031-01-01T00:00:00Z'), [old]);
});

test('the console of a server without a host is empty', async (t) => {
  const api = await anApi(t);
  const id = await anInstance(api.db, { host: null });

  const { status, json } = await api.ask('POST', `/servers/${id}/action`, { 'os-getConsoleOutput': { length: 5 } });

  assert.deepEqual([status, json], [200, { output: '' }]);
});

test('a list shows what was written a moment ago', async (t) => {
  const api = await anApi(t);
  const names = async () =>
    (await api.ask('GET', '/servers')).json.servers.map(({ name }: { name: string }) => name) as string[];

  for (let i = 0; i < 5; i++) {
    assert.equal((await names()).length, i);
    await anInstance(api.db, { display_name: `web${i}` });
  }
  const [id] = (await api.ask('GET', '/servers')).json.servers.map(({ id }: { id: number }) => id);
  await api.ask('PUT', `/servers/${id}`, { server: { name: 'renamed' } });
  assert.ok((await names()).includes('renamed'));
});

test('with --use_ipv6 a server on a network with an IPv6 block shows its address of it, without it does not', async (t) => {
  for (const use_ipv6 of [true, false]) {
    const api = await anApi(t, { use_ipv6 });
    const id = await anInstance(api.db);
    const network_id = await aNetwork(api.db, { cidr_v6: 'fd00::/64' });
    await aFixedIp(api.db, { network_id, instance_id: id, address: '10.0.0.2' }); // its card is 02:16:3e:00:00:02

    const { server } = (await api.ask('GET', `/servers/${id}`)).json;

    const v4 = { version: 4, addr: '10.0.0.2' };
    assert.deepEqual(server.addresses.private, use_ipv6 ? [v4, { version: 6, addr: 'fd00::16:3eff:fe00:2' }] : [v4]);
  }
});
