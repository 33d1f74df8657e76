import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowText, textIn } from '../../../../src/common/clock.ts';
import { aFixedIp, aNetwork, anInstance } from '../../../builders.ts';
import { aMember, anEc2Api, type Ec2Api } from './an_ec2_api.ts';

const idsOf = (xml: { reservationSet: { instancesSet: { instanceId: string }[] }[] | '' }): string[] =>
  (xml.reservationSet || []).flatMap(({ instancesSet }) => instancesSet.map(({ instanceId }) => instanceId));

const setState = (api: Ec2Api, id: number, state: { vm_state?: string; task_state?: string | null; fault?: string }) =>
  api.db.updateTable('instances').set(state).where('id', '=', id).execute();

test('RunInstances answers with its reservation, whose instances are pending', async (t) => {
  const api = await anEc2Api(t);

  const { status, xml } = await api.ask('RunInstances', {
    ImageId: 'ami-00000001',
    MinCount: '2',
    MaxCount: '2',
    InstanceType: 'm1.tiny',
    UserData: Buffer.from('#!/bin/sh\n').toString('base64'),
    DisplayName: 'web one',
    'TagSpecification.1.ResourceType': 'instance',
    'TagSpecification.1.Tag.1.Key': 'role',
    'TagSpecification.1.Tag.1.Value': 'web',
  });

  assert.equal(status, 200);
  assert.match(xml.reservationId, /^r-[0-9a-z]{8}$/);
  assert.equal(xml.ownerId, 'apollo');
  assert.deepEqual(xml.groupSet, [{ groupId: 'default', groupName: 'default' }]);
  assert.equal(xml.instancesSet.length, 2);
  const { launchTime, ...first } = xml.instancesSet[0];
  assert.match(launchTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.deepEqual(first, {
    instanceId: 'i-00000001',
    imageId: 'ami-00000001',
    instanceState: { code: '0', name: 'pending' },
    privateDnsName: '',
    publicDnsName: '',
    dnsName: '',
    reason: '',
    keyName: '',
    amiLaunchIndex: '0',
    productCodesSet: '',
    instanceType: 'm1.tiny',
    placement: { availabilityZone: 'unknown zone', tenancy: 'default' },
    monitoring: { state: 'disabled' },
    displayName: 'web one',
    displayDescription: '',
    groupSet: [{ groupId: 'default', groupName: 'default' }],
    rootDeviceName: '/dev/sda1',
    rootDeviceType: 'instance-store',
    blockDeviceMapping: '',
    virtualizationType: 'hvm',
    metadataOptions: {
      state: 'applied',
      httpTokens: 'optional',
      httpEndpoint: 'enabled',
      httpProtocolIpv6: 'disabled',
      instanceMetadataTags: 'disabled',
    },
    tagSet: [{ key: 'role', value: 'web' }],
  });
  const row = await api.db.selectFrom('instances').select('user_data').where('id', '=', 1).executeTakeFirstOrThrow();
  assert.equal(Buffer.from(row.user_data ?? '', 'base64').toString(), '#!/bin/sh\n');
});

test('the groups of an instance have ids, which are read, added to and written back; before 2011 the name was the id', async (t) => {
  const api = await anEc2Api(t);
  const { ImageId } = { ImageId: `ami-0000000${api.image}` };
  await aMember(api.db, 'net', ['netadmin', 'sysadmin']);
  const ask = (action: string, params: Record<string, string>) => api.ask(action, { Version: '2016-11-15', ...params }, 'net'); // prettier-ignore
  const web = (await ask('CreateSecurityGroup', { GroupName: 'web', GroupDescription: 'x' })).xml.groupId;
  const launched = (await ask('RunInstances', { ImageId })).xml;
  const { instanceId: InstanceId } = launched.instancesSet[0];
  const groups = async (params: Record<string, string> = {}) =>
    (await ask('DescribeInstances', { 'InstanceId.1': InstanceId, ...params })).xml.reservationSet[0].groupSet;

  assert.deepEqual(launched.groupSet, [{ groupId: 'sg-00000001', groupName: 'default' }]);
  const ids = (await groups()).map((group: { groupId: string }) => group.groupId);
  const changed = await ask('ModifyInstanceAttribute', { InstanceId, 'GroupId.1': ids[0], 'GroupId.2': web });
  assert.equal(changed.status, 200);

  const both = [{ groupId: 'sg-00000001', groupName: 'default' }, { groupId: web, groupName: 'web' }]; // prettier-ignore
  assert.deepEqual(await groups(), both);
  const attribute = await ask('DescribeInstanceAttribute', { InstanceId, Attribute: 'groupSet' });
  assert.deepEqual(attribute.xml.groupSet, both);
  assert.deepEqual(
    (await groups({ Version: '2010-11-15' })).map((group: { groupId: string }) => group.groupId),
    ['default', 'web'],
  );
  for (const [name, value] of [
    ['group-id', web],
    ['instance.group-id', web],
    ['group-name', 'web'],
    ['instance.group-name', 'web'],
  ] as const) {
    const found = (value: string) => ask('DescribeInstances', { 'Filter.1.Name': name, 'Filter.1.Value.1': value });
    assert.equal((await found(value)).xml.reservationSet.length, 1, name);
    assert.equal((await found('sg-0000ffff')).xml.reservationSet, '', name);
  }
});

test('an instance without a DisplayName is called Server and its number', async (t) => {
  const api = await anEc2Api(t);

  const { xml } = await api.ask('RunInstances', { ImageId: 'ami-1' });

  assert.equal(xml.instancesSet[0].displayName, 'Server 1');
});

test('the same ClientToken is the same launch, or a mismatch', async (t) => {
  const api = await anEc2Api(t);
  const launch = { ImageId: 'ami-00000001', ClientToken: 'once' };

  const first = await api.ask('RunInstances', launch);
  const again = await api.ask('RunInstances', launch);
  const other = await api.ask('RunInstances', { ...launch, MaxCount: '2' });

  assert.equal(again.xml.reservationId, first.xml.reservationId);
  assert.equal(`${other.status} ${other.code}`, '400 IdempotentParameterMismatch');
  assert.deepEqual(idsOf((await api.ask('DescribeInstances')).xml), ['i-00000001']);
});

test('within the quota as many start as fit; fewer than MinCount is InstanceLimitExceeded', async (t) => {
  const api = await anEc2Api(t, { flags: { quota_instances: 3 } });

  const fits = await api.ask('RunInstances', { ImageId: 'ami-00000001', MinCount: '1', MaxCount: '9' });
  const over = await api.ask('RunInstances', { ImageId: 'ami-00000001', MinCount: '1', MaxCount: '1' });

  assert.equal(fits.xml.instancesSet.length, 3);
  assert.equal(`${over.status} ${over.code}`, '400 InstanceLimitExceeded');
});

const REFUSED: [Record<string, string>, string][] = [
  [{}, 'MissingParameter'],
  [{ ImageId: 'ami-00000009' }, 'InvalidAMIID.NotFound'],
  [{ ImageId: 'tiny' }, 'InvalidParameterValue'],
  [{ ImageId: 'ami-00000001', InstanceType: 'm9.none' }, 'InvalidParameterValue'],
  [{ ImageId: 'ami-00000001', KeyName: 'none' }, 'InvalidKeyPair.NotFound'],
  [{ ImageId: 'ami-00000001', 'SecurityGroup.1': 'none' }, 'InvalidGroup.NotFound'],
  [{ ImageId: 'ami-00000001', 'SecurityGroupId.1': 'sg-00000009' }, 'InvalidGroup.NotFound'],
  [{ ImageId: 'ami-00000001', MinCount: '3', MaxCount: '2' }, 'InvalidParameterValue'],
  [{ ImageId: 'ami-00000001', MinCount: '0' }, 'InvalidParameterValue'],
  [{ ImageId: 'ami-00000001', UserData: 'not base64' }, 'InvalidParameterValue'],
  [{ ImageId: 'ami-00000001', UserData: Buffer.alloc(49153).toString('base64') }, 'InvalidParameterValue'],
  [{ ImageId: 'ami-00000001', KernelId: 'aki-00000009' }, 'InvalidAMIID.NotFound'],
  [{ ImageId: 'ami-00000001', 'TagSpecification.1.ResourceType': 'volume' }, 'InvalidParameterValue'],
];
test('a launch that cannot be is refused with the code that tells why, and nothing is made', async (t) => {
  const api = await anEc2Api(t);

  for (const [params, code] of REFUSED) {
    const answer = await api.ask('RunInstances', params);
    assert.equal(`${answer.status} ${answer.code}`, `400 ${code}`, JSON.stringify(params));
  }
  assert.deepEqual(idsOf((await api.ask('DescribeInstances')).xml), []);
});

test("an instance's states have AWS's names and codes, and a failed one says why", async (t) => {
  const api = await anEc2Api(t);
  const id = await anInstance(api.db);
  const shown = async () => (await api.ask('DescribeInstances')).xml.reservationSet[0].instancesSet[0];
  const states: [Parameters<typeof setState>[2], string][] = [
    [{ vm_state: 'building', task_state: 'spawning' }, '0 pending'],
    [{ vm_state: 'active', task_state: null }, '16 running'],
    [{ vm_state: 'active', task_state: 'rebooting' }, '16 running'],
    [{ vm_state: 'active', task_state: 'deleting' }, '32 shutting-down'],
    [{ vm_state: 'stopped', task_state: null }, '80 stopped'],
    [{ vm_state: 'error', task_state: null, fault: 'no host has 512 MB free' }, '80 error'],
  ];

  for (const [state, expected] of states) {
    await setState(api, id, state);
    const { instanceState } = await shown();
    assert.equal(`${instanceState.code} ${instanceState.name}`, expected);
  }
  assert.deepEqual((await shown()).stateReason, { code: 'Server.InternalError', message: 'no host has 512 MB free' });
});

test('addresses and the reservation are where Nova and AWS have them', async (t) => {
  const api = await anEc2Api(t);
  const id = await anInstance(api.db);
  await aFixedIp(api.db, { network_id: await aNetwork(api.db), instance_id: id, address: '10.0.0.5' });

  const { xml } = await api.ask('DescribeInstances', { InstanceId: 'i-00000001' });

  assert.deepEqual(Object.keys(xml), ['requestId', 'reservationSet']);
  const [reservation] = xml.reservationSet;
  assert.deepEqual(Object.keys(reservation), ['reservationId', 'ownerId', 'groupSet', 'instancesSet']);
  const { privateDnsName, publicDnsName, dnsName, privateIpAddress, ipAddress } = reservation.instancesSet[0];
  assert.deepEqual(
    { privateDnsName, publicDnsName, dnsName, privateIpAddress, ipAddress },
    {
      privateDnsName: '10.0.0.5',
      publicDnsName: '',
      dnsName: '10.0.0.5',
      privateIpAddress: '10.0.0.5',
      ipAddress: '10.0.0.5',
    },
  );
});

test('an administrator sees all projects, and whose an instance is', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'root', ['cloudadmin']);
  await anInstance(api.db, { key_name: 'k1' });
  await anInstance(api.db, { project_id: 'gemini', reservation_id: 'r-22222222', host: null });

  const mine = (await api.ask('DescribeInstances')).xml;
  const all = (await api.ask('DescribeInstances', {}, 'root')).xml;

  assert.deepEqual(idsOf(mine), ['i-00000001']);
  assert.equal(mine.reservationSet[0].instancesSet[0].keyName, 'k1');
  assert.deepEqual(idsOf(all), ['i-00000001', 'i-00000002']);
  assert.equal(all.reservationSet[0].instancesSet[0].keyName, 'k1 (apollo, node1)');
  assert.equal(all.reservationSet[1].instancesSet[0].keyName, 'None (gemini, None)');
});

test("another project's instance is not there, to describe, reboot or terminate", async (t) => {
  const api = await anEc2Api(t);
  await anInstance(api.db, { project_id: 'gemini' });

  for (const action of ['DescribeInstances', 'RebootInstances', 'TerminateInstances', 'DescribeInstanceStatus']) {
    const answer = await api.ask(action, { 'InstanceId.1': 'i-00000001' });
    assert.equal(`${answer.status} ${answer.code}`, '400 InvalidInstanceID.NotFound', action);
    assert.match(answer.message ?? '', /i-00000001/);
  }
  assert.equal((await api.ask('GetConsoleOutput', { InstanceId: 'i-00000001' })).code, 'InvalidInstanceID.NotFound');
});

test('filters and pages lead through all instances, each once', async (t) => {
  const api = await anEc2Api(t);
  for (let i = 0; i < 7; i++) {
    await anInstance(api.db, {
      reservation_id: `r-${i}`,
      vm_state: i % 2 === 0 ? 'active' : 'error',
      key_name: `k${i}`,
    });
  }
  const walk = async (params: Record<string, string>) => {
    const pages: string[][] = [];
    for (let NextToken = ''; ;) {
      const { xml } = await api.ask('DescribeInstances', {
        MaxResults: '2',
        ...params,
        ...(NextToken && { NextToken }),
      });
      pages.push(idsOf(xml));
      if (!xml.nextToken) return pages;
      NextToken = xml.nextToken;
    }
  };
  const id = (n: number) => `i-0000000${n}`;

  assert.deepEqual(await walk({}), [[id(1), id(2)], [id(3), id(4)], [id(5), id(6)], [id(7)]]);
  assert.deepEqual(await walk({ 'Filter.1.Name': 'instance-state-name', 'Filter.1.Value.1': 'run*' }), [
    [id(1), id(3)],
    [id(5), id(7)],
  ]);
  assert.deepEqual(
    await walk({ 'Filter.1.Name': 'key-name', 'Filter.1.Value.1': 'k1', 'Filter.1.Value.2': 'k?', MaxResults: '1000' }),
    [[1, 2, 3, 4, 5, 6, 7].map(id)],
  );
  const unknown = await api.ask('DescribeInstances', { 'Filter.1.Name': 'colour', 'Filter.1.Value.1': 'red' });
  assert.match(unknown.message ?? '', /no filter 'colour' here; there are instance-id, instance-state-name/);
  const too_large = Buffer.from(`after ${2 ** 31}`).toString('base64url'); // no integer of the database
  for (const NextToken of ['forged', too_large])
    assert.equal((await api.ask('DescribeInstances', { NextToken })).code, 'InvalidParameterValue');
});

test('termination answers each state before and after, and is safe to ask again', async (t) => {
  const api = await anEc2Api(t);
  await anInstance(api.db);
  await anInstance(api.db, { host: null, vm_state: 'building', task_state: 'scheduling', task_deadline: textIn(60) });
  const both = { 'InstanceId.1': 'i-00000001', 'InstanceId.2': 'i-00000002' };

  const none = await api.ask('TerminateInstances', { ...both, 'InstanceId.3': 'i-00000009' });
  const first = await api.ask('TerminateInstances', both);
  const again = await api.ask('TerminateInstances', both);

  assert.equal(none.code, 'InvalidInstanceID.NotFound');
  const shown = (xml: typeof first.xml) =>
    xml.instancesSet.map(
      (item: Record<'instanceId', string> & Record<'previousState' | 'currentState', { name: string }>) =>
        `${item.instanceId} ${item.previousState.name} ${item.currentState.name}`,
    );
  assert.deepEqual(shown(first.xml), [
    'i-00000001 running shutting-down',
    'i-00000002 pending terminated', // it had no host yet
  ]);
  assert.equal(first.xml.return, 'true');
  assert.deepEqual(shown(again.xml), ['i-00000001 shutting-down shutting-down', 'i-00000002 terminated terminated']);
});

test('a terminated instance is out of the list at once, and for an hour to be found by its id', async (t) => {
  const api = await anEc2Api(t);
  const gone = { deleted: 1, vm_state: 'deleted', deleted_at: nowText() };
  await anInstance(api.db, { ...gone, terminated_at: textIn(-3500) });
  await anInstance(api.db, { ...gone, terminated_at: textIn(-3700) });

  const list = await api.ask('DescribeInstances');
  const recent = await api.ask('DescribeInstances', { 'InstanceId.1': 'i-00000001' });
  const old = await api.ask('DescribeInstances', { 'InstanceId.1': 'i-00000002' });

  assert.deepEqual(idsOf(list.xml), []);
  assert.deepEqual(recent.xml.reservationSet[0].instancesSet[0].instanceState, { code: '48', name: 'terminated' });
  assert.equal(old.code, 'InvalidInstanceID.NotFound');
});

test('a reboot is taken for one that runs, and IncorrectInstanceState for one that does not', async (t) => {
  const api = await anEc2Api(t);
  const id = await anInstance(api.db);

  const taken = await api.ask('RebootInstances', { 'InstanceId.1': 'i-00000001' });
  await setState(api, id, { vm_state: 'building', task_state: null });
  const refused = await api.ask('RebootInstances', { 'InstanceId.1': 'i-00000001' });

  assert.equal(taken.xml.return, 'true');
  assert.equal(`${refused.status} ${refused.code}`, '400 IncorrectInstanceState');
});

test('the status of instances is that of those that run, unless all are asked for', async (t) => {
  const api = await anEc2Api(t);
  await anInstance(api.db);
  await anInstance(api.db, { vm_state: 'building', task_state: 'spawning' });
  const shown = async (params: Record<string, string>) =>
    (await api.ask('DescribeInstanceStatus', params)).xml.instanceStatusSet.map(
      (item: { instanceId: string; instanceStatus: { status: string } }) =>
        `${item.instanceId} ${item.instanceStatus.status}`,
    );

  assert.deepEqual(await shown({}), ['i-00000001 ok']);
  assert.deepEqual(await shown({ IncludeAllInstances: 'true' }), ['i-00000001 ok', 'i-00000002 not-applicable']);
});

test('a console that nobody can be asked for yet is empty', async (t) => {
  const api = await anEc2Api(t);
  await anInstance(api.db, { host: null });

  const { xml } = await api.ask('GetConsoleOutput', { 'InstanceId.1': 'i-00000001' });

  assert.equal(xml.instanceId, 'i-00000001');
  assert.equal(xml.output, '');
  assert.match(xml.timestamp, /^\d{4}-.*Z$/);
});

test('with --use_ipv6 an instance shows its IPv6 address by the names of Nova and of AWS', async (t) => {
  for (const use_ipv6 of [true, false]) {
    const api = await anEc2Api(t, { flags: { use_ipv6 } });
    const instance_id = await anInstance(api.db);
    const network_id = await aNetwork(api.db, { cidr_v6: 'fd00::/64' });
    await aFixedIp(api.db, { network_id, instance_id, address: '10.0.0.2' }); // its card is 02:16:3e:00:00:02

    const [shown] = (await api.ask('DescribeInstances')).xml.reservationSet[0].instancesSet;

    const address = use_ipv6 ? 'fd00::16:3eff:fe00:2' : undefined;
    assert.deepEqual([shown.dnsNameV6, shown.ipv6Address], [address, address]);
  }
});

test('a launch says whether its metadata takes a session token, and ModifyInstanceMetadataOptions says so anew', async (t) => {
  const api = await anEc2Api(t, { flags: { metadata_require_token: true } });
  await aMember(api.db, 'bob');
  const launch = async (options: Record<string, string>) => {
    const { xml } = await api.ask('RunInstances', { ImageId: 'ami-00000001', InstanceType: 'm1.tiny', ...options });
    return xml.instancesSet[0].metadataOptions.httpTokens;
  };

  assert.equal(await launch({}), 'required'); // as the flag has it
  assert.equal(await launch({ 'MetadataOptions.HttpTokens': 'optional' }), 'optional');
  const wrong = await api.ask('RunInstances', { ImageId: 'ami-00000001', 'MetadataOptions.HttpTokens': 'always' });
  assert.equal(wrong.code, 'InvalidParameterValue');
  assert.match(wrong.message ?? '', /MetadataOptions.HttpTokens 'always' is not one of optional, required/);

  const changed = await api.ask('ModifyInstanceMetadataOptions', {
    InstanceId: 'i-00000002',
    HttpTokens: 'required',
    HttpEndpoint: 'disabled',
    HttpPutResponseHopLimit: '2',
  });
  assert.equal(changed.xml.instanceId, 'i-00000002');
  const { httpTokens, httpEndpoint, state } = changed.xml.instanceMetadataOptions;
  assert.deepEqual([httpTokens, httpEndpoint, state], ['required', 'disabled', 'applied']);
  const { xml } = await api.ask('DescribeInstances', { 'InstanceId.1': 'i-00000002' });
  assert.equal(xml.reservationSet[0].instancesSet[0].metadataOptions.httpEndpoint, 'disabled');
  const options = { InstanceId: 'i-000000ff', HttpTokens: 'optional' };
  assert.equal((await api.ask('ModifyInstanceMetadataOptions', options)).code, 'InvalidInstanceID.NotFound');
  assert.equal((await api.ask('ModifyInstanceMetadataOptions', options, 'bob')).status, 401);
});
