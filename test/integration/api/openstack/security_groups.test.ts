import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anInstance } from '../../../builders.ts';
import { anApi } from './an_api.ts';

test('a security group is made, shown with its rules, and deleted', async (t) => {
  const api = await anApi(t);

  const made = await api.ask('POST', '/os-security-groups', {
    security_group: { name: 'web', description: 'the web' },
  });

  assert.equal(made.status, 200);
  const { id } = made.json.security_group;
  assert.deepEqual(made.json.security_group, {
    id,
    name: 'web',
    description: 'the web',
    tenant_id: 'apollo',
    rules: [],
  });
  const names = (await api.ask('GET', '/os-security-groups')).json.security_groups.map(
    (one: { name: string }) => one.name,
  );
  assert.deepEqual(names, ['default', 'web']);
  const again = await api.ask('POST', '/os-security-groups', { security_group: { name: 'web', description: 'x' } });
  assert.deepEqual([again.status, Object.keys(again.json)], [400, ['badRequest']]);
  assert.equal((await api.ask('DELETE', `/os-security-groups/${id}`)).status, 202);
  assert.equal((await api.ask('GET', `/os-security-groups/${id}`)).status, 404);
  assert.equal((await api.ask('GET', '/os-security-groups/web')).status, 400);
});

test('rules by cidr and by group are added, shown in the group, and taken away', async (t) => {
  const api = await anApi(t);
  const { id } = (await api.ask('POST', '/os-security-groups', { security_group: { name: 'web', description: 'x' } }))
    .json.security_group;
  const add = (rule: object) =>
    api.ask('POST', '/os-security-group-rules', { security_group_rule: { parent_group_id: id, ...rule } });
  const ssh = { ip_protocol: 'tcp', from_port: '22', to_port: '22', cidr: '192.0.2.9/24', group_id: null };

  const by_cidr = await add(ssh);
  const by_group = await add({ ip_protocol: 'icmp', from_port: -1, to_port: -1, group_id: id });

  assert.deepEqual(
    [by_cidr.status, by_cidr.json.security_group_rule],
    [
      200,
      {
        id: 1,
        parent_group_id: id,
        ip_protocol: 'tcp',
        from_port: 22,
        to_port: 22,
        group: {},
        ip_range: { cidr: '192.0.2.0/24' },
      },
    ],
  );
  assert.deepEqual(by_group.json.security_group_rule.group, { name: 'web', tenant_id: 'apollo' });
  assert.deepEqual(by_group.json.security_group_rule.ip_range, {});
  const shown = (await api.ask('GET', `/os-security-groups/${id}`)).json.security_group.rules;
  assert.deepEqual(shown, [by_cidr.json.security_group_rule, by_group.json.security_group_rule]);
  const whole = (await add({ group_id: id })).json.security_group_rule;
  assert.deepEqual([whole.ip_protocol, whole.from_port, whole.to_port, whole.group.name], [null, null, null, 'web']);
  assert.equal((await api.ask('DELETE', `/os-security-group-rules/${whole.id}`)).status, 202);
  assert.equal(
    (await api.ask('GET', `/os-security-groups/${id}`)).json.security_group.rules.length,
    2,
    'it was one rule',
  );
  assert.equal((await add(ssh)).status, 400, 'a rule that is there');
  assert.equal((await add({ ...ssh, from_port: 23 })).status, 400, 'ports the wrong way round');
  assert.equal((await add({ ...ssh, group_id: 99, cidr: null })).status, 404);
  const nowhere = await add({ ...ssh, parent_group_id: 99 });
  assert.equal(nowhere.status, 404);
  assert.equal(nowhere.json.itemNotFound.message, 'project apollo has no security group 99');
  for (const no_id of [2 ** 31, 2 ** 53, '99999999999', -1, 1.5, 'web'])
    for (const name of ['parent_group_id', 'group_id'])
      assert.equal((await add({ ...ssh, cidr: null, [name]: no_id })).status, 400, `${name} ${no_id}`);
  assert.equal((await add({ parent_group_id: String(id), ...ssh, from_port: 21 })).status, 200, 'an id as text');
  assert.equal((await api.ask('DELETE', '/os-security-group-rules/1')).status, 202);
  assert.equal((await api.ask('DELETE', '/os-security-group-rules/1')).status, 404);
});

test('a group with a server in it stays, and the answer names the server', async (t) => {
  const api = await anApi(t);
  await api.ask('POST', '/os-security-groups', { security_group: { name: 'web', description: 'x' } });
  const { security_groups } = (await api.ask('GET', '/os-security-groups')).json;
  const { id } = security_groups.find((one: { name: string }) => one.name === 'web');
  const instance_id = await anInstance(api.db);
  await api.db
    .insertInto('security_group_instance_association')
    .values({ security_group_id: id, instance_id, created_at: 'now' })
    .execute();

  const answer = await api.ask('DELETE', `/os-security-groups/${id}`);

  assert.equal(answer.status, 409);
  assert.match(JSON.stringify(answer.json), /i-00000001/);
});

test('a server is put into groups of its project and taken out of them', async (t) => {
  const api = await anApi(t);
  await api.ask('POST', '/os-security-groups', { security_group: { name: 'web', description: 'x' } });
  const id = await anInstance(api.db);
  const act = async (name: string, group: string) =>
    (await api.ask('POST', `/servers/${id}/action`, { [name]: { name: group } })).status;
  const groups = async () =>
    (await api.ask('GET', `/servers/${id}/os-security-groups`)).json.security_groups.map((one: { name: string }) => one.name); // prettier-ignore

  assert.deepEqual(await groups(), []);
  assert.equal(await act('addSecurityGroup', 'web'), 202);
  assert.equal(await act('addSecurityGroup', 'default'), 202);
  assert.deepEqual(await groups(), ['default', 'web']);
  assert.equal(await act('addSecurityGroup', 'web'), 400, 'it is in it already');
  assert.equal(await act('addSecurityGroup', 'shop'), 404);
  assert.equal(await act('removeSecurityGroup', 'web'), 202);
  assert.equal(await act('removeSecurityGroup', 'web'), 400, 'it is not in it any more');
  assert.equal(await act('addSecurityGroup', ''), 400);
  assert.deepEqual(await groups(), ['default']);
  assert.equal((await api.ask('POST', '/servers/99/action', { addSecurityGroup: { name: 'web' } })).status, 404);
  const events = await api.db.selectFrom('events').select('event').where('resource', '=', `instance:${id}`).execute();
  assert.deepEqual(events.map(({ event }) => event), ['security group added', 'security group added', 'security group removed']); // prettier-ignore
});
