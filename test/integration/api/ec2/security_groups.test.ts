import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { writing } from '../../../../src/common/db/connect.ts';
import { ec2GroupId, ensureDefaultGroup, groupsOfProject } from '../../../../src/common/db/security_groups.ts';
import { sql } from '../../../../src/common/db/kysely.ts';
import { up } from '../../../../src/common/db/migrations/0007_group_rule_protocols.ts';
import { anInstance, aProject } from '../../../builders.ts';
import { aMember, anEc2Api } from './an_ec2_api.ts';

/** The API, and its `ask` as a user with the role netadmin. */
async function aCloud(t: TestContext, flags: Record<string, unknown> = {}) {
  const api = await anEc2Api(t, { flags });
  await aMember(api.db, 'net', ['netadmin']);
  const ask = (action: string, params: Record<string, string> = {}) => api.ask(action, params, 'net');
  const rules = async (name: string) =>
    (await ask('DescribeSecurityGroups', { 'GroupName.1': name })).xml.securityGroupInfo[0].ipPermissions;
  await ask('CreateSecurityGroup', { GroupName: 'web', GroupDescription: 'the web' });
  return { ...api, ask, rules };
}
const SSH = { IpProtocol: 'tcp', FromPort: '22', ToPort: '22', CidrIp: '192.0.2.7/24' };

test('a group is made with an id, shown by name, id and filter, and deleted', async (t) => {
  const { ask, rules } = await aCloud(t);

  const made = await ask('CreateSecurityGroup', { GroupName: 'db', GroupDescription: 'tables' });

  assert.deepEqual([made.status, made.xml.return], [200, 'true']);
  const id = made.xml.groupId;
  assert.match(id, /^sg-[0-9a-f]{8}$/);
  assert.equal(made.xml.securityGroupSet[0].groupName, 'db');
  for (const params of [
    { 'GroupId.1': id },
    { 'GroupName.1': 'db' },
    { 'Filter.1.Name': 'group-name', 'Filter.1.Value.1': 'd?' },
  ]) {
    const { xml } = await ask('DescribeSecurityGroups', params);
    assert.deepEqual(
      xml.securityGroupInfo.map((group: { groupId: string }) => group.groupId),
      [id],
    );
  }
  assert.equal(await rules('db'), '', 'it lets nobody in');
  assert.equal(
    (await ask('CreateSecurityGroup', { GroupName: 'db', GroupDescription: 'x' })).code,
    'InvalidGroup.Duplicate',
  );
  assert.equal((await ask('DeleteSecurityGroup', { GroupId: id })).xml.return, 'true');
  assert.equal((await ask('DeleteSecurityGroup', { GroupName: 'db' })).code, 'InvalidGroup.NotFound');
});

test("2011's form and today's make the same rules, and take them away", async (t) => {
  const { ask, rules } = await aCloud(t);
  const today = {
    'IpPermissions.1.IpProtocol': 'tcp',
    'IpPermissions.1.FromPort': '22',
    'IpPermissions.1.ToPort': '22',
    'IpPermissions.1.IpRanges.1.CidrIp': '192.0.2.0/24',
  };

  assert.equal((await ask('AuthorizeSecurityGroupIngress', { GroupName: 'web', ...SSH })).xml.return, 'true');

  const [rule] = await rules('web');
  assert.deepEqual(
    [rule.ipProtocol, rule.fromPort, rule.toPort, rule.ipRanges],
    ['tcp', '22', '22', [{ cidrIp: '192.0.2.0/24' }]],
  );
  const again = await ask('AuthorizeSecurityGroupIngress', { GroupName: 'web', ...today });
  assert.equal(again.code, 'InvalidPermission.Duplicate');
  assert.equal((await ask('RevokeSecurityGroupIngress', { GroupName: 'web', ...today })).xml.return, 'true');
  assert.equal(await rules('web'), '');
  assert.equal(
    (await ask('RevokeSecurityGroupIngress', { GroupName: 'web', ...SSH })).code,
    'InvalidPermission.NotFound',
  );
});

test('permissions are one rule for each source, all or none', async (t) => {
  const { ask, rules } = await aCloud(t);
  const params = {
    GroupName: 'web',
    'IpPermissions.1.IpProtocol': '-1',
    'IpPermissions.1.Groups.1.GroupName': 'default',
    'IpPermissions.1.Groups.2.GroupId': 'sg-00000002',
    'IpPermissions.1.IpRanges.1.CidrIp': '10.0.0.0/8',
    'IpPermissions.1.Ipv6Ranges.1.CidrIpv6': 'fd00::/8',
    'IpPermissions.2.IpProtocol': 'udp',
    'IpPermissions.2.FromPort': '53',
    'IpPermissions.2.ToPort': '53',
    'IpPermissions.2.IpRanges.1.CidrIp': '10.0.0.0/8',
  };

  const refused = await ask('AuthorizeSecurityGroupIngress', { ...params, 'IpPermissions.2.ToPort': '52' });
  assert.equal(refused.code, 'InvalidParameterValue');
  assert.equal(await rules('web'), '', 'of a refused request nothing stays');

  assert.equal((await ask('AuthorizeSecurityGroupIngress', params)).status, 200);
  const shown = await rules('web');
  assert.deepEqual(
    shown.map((rule: { ipProtocol: string }) => rule.ipProtocol),
    ['-1', '-1', '-1', '-1', 'udp'],
  );
  const json = JSON.stringify(shown);
  for (const source of ['"cidrIp":"10.0.0.0/8"', '"cidrIpv6":"fd00::/8"', '"groupName":"default"', '"groupName":"web"'])
    assert.ok(json.includes(source), source);
});

test('a source group may be of another project, named as owner', async (t) => {
  const { ask, rules, db } = await aCloud(t);
  await aProject(db, 'gemini', 'eve');
  await db
    .insertInto('security_groups')
    .values({ name: 'ops', description: 'x', user_id: 'eve', project_id: 'gemini', created_at: 'now' })
    .execute();
  const group = { GroupName: 'web', SourceSecurityGroupName: 'ops' };

  assert.equal((await ask('AuthorizeSecurityGroupIngress', group)).code, 'InvalidGroup.NotFound');
  const owned = await ask('AuthorizeSecurityGroupIngress', { ...group, SourceSecurityGroupOwnerId: 'eve:gemini' });

  assert.equal(owned.status, 200);
  assert.deepEqual(
    (await rules('web')).map((rule: { ipProtocol: string }) => rule.ipProtocol),
    ['icmp', 'tcp', 'udp'],
  );
  assert.equal((await rules('web'))[0].groups[0].userId, 'gemini');
});

/** What DescribeSecurityGroups shows, as a client sends it back. */
function sentBack(permissions: Record<string, unknown>[]): Record<string, string> {
  const params: Record<string, string> = {};
  const put = (name: string, value: unknown): void => {
    if (typeof value === 'string') {
      if (value !== '') params[name] = value;
    } else if (Array.isArray(value)) value.forEach((item, i) => put(`${name}.${i + 1}`, item));
    else for (const [key, part] of Object.entries(value as object)) put(`${name}.${key[0]?.toUpperCase()}${key.slice(1)}`, part); // prettier-ignore
  };
  put('IpPermissions', permissions);
  return params;
}

test('rules go in the form in which they are shown, all or some of them', async (t) => {
  const { ask, rules } = await aCloud(t);
  const from_default = { GroupName: 'web', SourceSecurityGroupName: 'default' };
  const fill = async () => {
    await ask('AuthorizeSecurityGroupIngress', { GroupName: 'web', ...SSH });
    assert.equal((await ask('AuthorizeSecurityGroupIngress', from_default)).status, 200);
  };
  const revoke = (params: Record<string, string>) =>
    ask('RevokeSecurityGroupIngress', { GroupId: 'sg-00000002', GroupName: 'web', ...params });

  await fill();
  const shown = await rules('web');
  assert.equal(shown.length, 4);
  assert.equal((await revoke(sentBack(shown))).message, undefined);
  assert.equal(await rules('web'), '');

  await fill();
  assert.equal((await revoke(sentBack([shown[1]]))).message, undefined);
  assert.deepEqual(
    (await rules('web')).map((rule: { ipProtocol: string }) => rule.ipProtocol),
    ['tcp', 'tcp', 'udp'],
  );
  const gone = await revoke({ SourceSecurityGroupName: 'default' });
  assert.equal(gone.code, 'InvalidPermission.NotFound');
  assert.match(gone.message ?? '', /no rule that lets in icmp -1 to -1 from sg-00000001/);

  const other = { ...shown[2].groups[0], groupName: 'web' };
  const mixed = await revoke(sentBack([{ ...shown[2], groups: [other] }]));
  assert.equal(mixed.code, 'InvalidParameterValue');
  assert.match(mixed.message ?? '', /sg-00000001 is the security group default, not web/);
});

test('rules of a group without a protocol that an earlier release stored are three after the upgrade', async (t) => {
  const { ask, rules, db } = await aCloud(t);
  await sql`insert into security_group_rules (created_at, parent_group_id, group_id) values ('then', 2, 1)`.execute(db);

  await writing(db, up);

  const shown = await rules('web');
  assert.deepEqual(shown.map((rule: { ipProtocol: string }) => rule.ipProtocol).sort(), ['icmp', 'tcp', 'udp']);
  const whole = { GroupName: 'web', SourceSecurityGroupName: 'default' };
  assert.equal((await ask('RevokeSecurityGroupIngress', whole)).status, 200);
  assert.equal(await rules('web'), '');
});

test('a group that is in use is not deleted, and the answer says by whom', async (t) => {
  const { ask, db } = await aCloud(t);
  await ask('CreateSecurityGroup', { GroupName: 'db', GroupDescription: 'tables' });
  const instance_id = await anInstance(db);
  const member = { security_group_id: 2, instance_id, created_at: 'now' };
  await db.insertInto('security_group_instance_association').values(member).execute();

  const used = await ask('DeleteSecurityGroup', { GroupName: 'web' });
  assert.equal(used.code, 'InvalidGroup.InUse');
  assert.match(used.message ?? '', /web has 1 instances: i-00000001/);

  await db.updateTable('security_group_instance_association').set({ deleted: 1 }).execute();
  const lets_in = { GroupName: 'db', SourceSecurityGroupName: 'web' };
  await ask('AuthorizeSecurityGroupIngress', lets_in);
  const named = await ask('DeleteSecurityGroup', { GroupName: 'web' });
  assert.equal(named.code, 'InvalidGroup.InUse');
  assert.match(named.message ?? '', /db of apollo/);

  await ask('RevokeSecurityGroupIngress', lets_in);
  assert.equal((await ask('DeleteSecurityGroup', { GroupName: 'web' })).status, 200);
  assert.equal((await ask('DeleteSecurityGroup', { GroupName: 'default' })).code, 'IncorrectState');
});

test('what makes no sense is refused with the reason', async (t) => {
  const { ask } = await aCloud(t);
  const cases: [Record<string, string>, string][] = [
    [{ ...SSH }, 'MissingParameter'],
    [{ ...SSH, GroupName: 'default', GroupId: 'sg-00000002' }, 'InvalidParameterValue'],
    [{ ...SSH, GroupId: 'web' }, 'InvalidParameterValue'],
    [{ ...SSH, GroupId: 'sg-000000ff' }, 'InvalidGroup.NotFound'],
    [{ GroupName: 'web' }, 'MissingParameter'],
    [{ ...SSH, GroupName: 'web', IpProtocol: 'gre' }, 'InvalidParameterValue'],
    [{ ...SSH, GroupName: 'web', CidrIp: '10.0.0.0/40' }, 'InvalidParameterValue'],
    [{ ...SSH, GroupName: 'web', SourceSecurityGroupName: 'default' }, 'InvalidParameterValue'],
    [{ ...SSH, GroupName: 'web', 'IpPermissions.1.IpProtocol': 'tcp' }, 'InvalidParameterValue'],
    [{ GroupName: 'web', 'IpPermissions.1.IpProtocol': 'tcp' }, 'MissingParameter'],
  ];
  for (const [params, code] of cases) {
    const answer = await ask('AuthorizeSecurityGroupIngress', params);
    assert.equal(answer.code, code, JSON.stringify(params) + answer.message);
    assert.notEqual(answer.message, '');
  }
  assert.equal(
    (await ask('CreateSecurityGroup', { GroupName: 'sg-1', GroupDescription: 'x' })).code,
    'InvalidParameterValue',
  );
});

test('only netadmins change groups, and every member sees them', async (t) => {
  const { ask } = await aCloud(t);
  const api = await anEc2Api(t);
  await aMember(api.db, 'bob');

  assert.equal(
    (await api.ask('CreateSecurityGroup', { GroupName: 'x', GroupDescription: 'x' }, 'bob')).code,
    'UnauthorizedOperation',
  );
  assert.equal((await api.ask('DescribeSecurityGroups', {}, 'bob')).status, 200);
  assert.equal((await ask('DescribeSecurityGroups')).status, 200);
});

test('an administrator asks for any group by the id that is listed, and by name for those of the own project', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'net', ['netadmin']);
  await aMember(api.db, 'root', ['cloudadmin']);
  await aProject(api.db, 'gemini', 'eve');
  await ensureDefaultGroup(api.db, 'gemini', 'eve');
  const [theirs] = await groupsOfProject(api.db, 'gemini');
  const id = ec2GroupId(theirs?.id ?? 0);
  const owners = async (params: Record<string, string>, as: string) => {
    const { xml, code } = await api.ask('DescribeSecurityGroups', params, as);
    return code ?? xml.securityGroupInfo.map((group: { ownerId: string }) => group.ownerId);
  };

  assert.deepEqual(await owners({ 'GroupId.1': id }, 'root'), ['gemini']);
  assert.deepEqual(await owners({ 'GroupName.1': 'default' }, 'root'), ['apollo']);
  assert.equal(await owners({ 'GroupId.1': id }, 'net'), 'InvalidGroup.NotFound');
});

test('the quota bounds groups of a project and rules of a group', async (t) => {
  const { ask } = await aCloud(t, { quota_security_groups: 2, quota_security_group_rules: 1 });

  const group = await ask('CreateSecurityGroup', { GroupName: 'third', GroupDescription: 'x' });
  assert.equal(group.code, 'ResourceLimitExceeded');
  assert.match(group.message ?? '', /3 security groups.*quota of 2/);
  assert.equal((await ask('AuthorizeSecurityGroupIngress', { GroupName: 'web', ...SSH })).status, 200);
  const second = await ask('AuthorizeSecurityGroupIngress', { GroupName: 'web', ...SSH, FromPort: '21' });
  assert.equal(second.code, 'ResourceLimitExceeded');
});

test('ModifyInstanceAttribute puts an instance into exactly these groups of its project', async (t) => {
  const { ask, db } = await aCloud(t);
  const web = (await ask('DescribeSecurityGroups', { 'GroupName.1': 'web' })).xml.securityGroupInfo[0].groupId;
  const shop = (await ask('CreateSecurityGroup', { GroupName: 'shop', GroupDescription: 'x' })).xml.groupId;
  const InstanceId = `i-0000000${await anInstance(db)}`;
  const set = (...ids: string[]) =>
    ask('ModifyInstanceAttribute', { InstanceId, ...Object.fromEntries(ids.map((id, i) => [`GroupId.${i + 1}`, id])) });
  const groups = async () =>
    (await ask('DescribeInstanceAttribute', { InstanceId, Attribute: 'groupSet' })).xml.groupSet.map((one: { groupName: string }) => one.groupName); // prettier-ignore

  assert.equal((await set(web, shop)).xml.return, 'true');
  assert.deepEqual((await groups()).sort(), ['shop', 'web']);
  assert.equal((await set(shop, shop)).status, 200);
  assert.deepEqual(await groups(), ['shop']);
  assert.equal((await set('sg-000000ff')).code, 'InvalidGroup.NotFound');
  assert.deepEqual(await groups(), ['shop'], 'all or none');
  assert.equal((await set()).code, 'MissingParameter');
  assert.equal((await ask('ModifyInstanceAttribute', { InstanceId, 'InstanceType.Value': 'm1.tiny' })).code, 'MissingParameter'); // prettier-ignore
});

test('every project has the group default, which lets nothing in', async (t) => {
  const api = await anEc2Api(t);

  const { xml } = await api.ask('DescribeSecurityGroups');

  assert.deepEqual(xml.securityGroupInfo, [
    {
      ownerId: 'apollo',
      groupName: 'default',
      groupDescription: 'default',
      groupId: 'sg-00000001',
      ipPermissions: '',
      ipPermissionsEgress: '',
      tagSet: '',
    },
  ]);
  assert.equal((await api.ask('DescribeSecurityGroups', { 'GroupName.1': 'none' })).code, 'InvalidGroup.NotFound');
  const launched = await api.ask('RunInstances', { ImageId: 'ami-00000001', 'SecurityGroupId.1': 'sg-00000001' });
  assert.equal(launched.status, 200);
});

test("a group's rules show ranges, groups, and a group without a protocol as three", async (t) => {
  const api = await anEc2Api(t);
  await api.ask('DescribeSecurityGroups');
  await aMember(api.db, 'net', ['netadmin']);
  const authorize = (params: Record<string, string>) =>
    api.ask('AuthorizeSecurityGroupIngress', { GroupName: 'default', ...params }, 'net');
  await authorize({ IpProtocol: 'tcp', FromPort: '22', ToPort: '22', CidrIp: '0.0.0.0/0' });
  await authorize({ SourceSecurityGroupName: 'default' });

  const { xml } = await api.ask('DescribeSecurityGroups');

  const groups = [{ groupName: 'default', groupId: 'sg-00000001', userId: 'apollo' }];
  assert.deepEqual(xml.securityGroupInfo[0].ipPermissions, [
    {
      ipProtocol: 'tcp',
      fromPort: '22',
      toPort: '22',
      groups: '',
      ipRanges: [{ cidrIp: '0.0.0.0/0' }],
      ipv6Ranges: '',
    },
    { ipProtocol: 'icmp', fromPort: '-1', toPort: '-1', groups, ipRanges: '', ipv6Ranges: '' },
    { ipProtocol: 'tcp', fromPort: '1', toPort: '65535', groups, ipRanges: '', ipv6Ranges: '' },
    { ipProtocol: 'udp', fromPort: '1', toPort: '65535', groups, ipRanges: '', ipv6Ranges: '' },
  ]);
});
