import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { ec2Actions } from '../../../../src/api/ec2/actions.ts';
import { ec2InstanceId } from '../../../../src/common/db/instances.ts';
import { anInstance } from '../../../builders.ts';
import { aMember, anEc2Api } from './an_ec2_api.ts';

test('roles decide who may do what', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'bob');
  await aMember(api.db, 'sys', ['sysadmin']);
  await aMember(api.db, 'net', ['netadmin']);
  await aMember(api.db, 'root', ['cloudadmin']);
  await api.db.insertInto('user_role_association').values({ user_id: 'bob', role: 'sysadmin' }).execute(); // not in the project
  const asked = async (action: string, as: string) => (await api.ask(action, {}, as)).code ?? 'ok';

  for (const who of ['ann', 'bob', 'sys', 'net', 'root'])
    assert.equal(await asked('DescribeInstances', who), 'ok', who);
  for (const who of ['ann', 'sys', 'root']) assert.equal(await asked('RunInstances', who), 'MissingParameter', who);
  for (const who of ['bob', 'net']) {
    const answer = await api.ask('RunInstances', {}, who);
    assert.equal(`${answer.status} ${answer.code}`, '401 UnauthorizedOperation', who);
  }
});

test('itsec sees every project, and changes something only as a member of the one it names', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'sec', ['itsec', 'sysadmin']);
  await aMember(api.db, 'eye', ['itsec']);
  await api.db.deleteFrom('user_project_association').where('user_id', '=', 'eye').execute();
  const own = { 'InstanceId.1': ec2InstanceId(await anInstance(api.db)) };
  const other = { 'InstanceId.1': ec2InstanceId(await anInstance(api.db, { project_id: 'gemini' })) };
  const asked = async (action: string, params: Record<string, string>, as: string) =>
    (await api.ask(action, params, as)).code ?? 'ok';

  for (const who of ['sec', 'eye'])
    for (const params of [own, other]) assert.equal(await asked('DescribeInstances', params, who), 'ok', who);
  for (const [action, params] of [
    ['TerminateInstances', own],
    ['RunInstances', { ImageId: 'ami-00000001' }],
    ['CreateKeyPair', { KeyName: 'k' }],
    ['BlockExternalAddresses', { CidrIp: '192.0.2.0/24' }],
  ] as const)
    assert.equal(await asked(action, params, 'eye'), 'UnauthorizedOperation', action);
  assert.equal(await asked('BlockExternalAddresses', { CidrIp: '192.0.2.0/24' }, 'sec'), 'UnauthorizedOperation');
  assert.equal(await asked('AllocateAddress', {}, 'sec'), 'UnauthorizedOperation');
  assert.equal(await asked('TerminateInstances', other, 'sec'), 'InvalidInstanceID.NotFound');
  assert.equal(await asked('TerminateInstances', own, 'sec'), 'ok');
});

test('what would change the result and is not offered is refused, an action as much as a parameter', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'net', ['netadmin', 'sysadmin']);
  const ask = (action: string, params: Record<string, string>) => api.ask(action, params, 'net');
  const ImageId = 'ami-00000001';
  const cases: [string, Record<string, string>, RegExp][] = [
    ['RunInstances', { ImageId, SubnetId: 'subnet-1' }, /RunInstances does not offer SubnetId/],
    ['RunInstances', { ImageId, 'IamInstanceProfile.Name': 'x' }, /IamInstanceProfile/],
    ['RunInstances', { ImageId, 'NetworkInterface.1.PrivateIpAddress': '10.0.0.9' }, /NetworkInterface.N.PrivateIp/],
    ['RunInstances', { ImageId, 'NetworkInterface.1.Ipv6AddressCount': '1' }, /NetworkInterface.N.Ipv6AddressCount/],
    [
      'RunInstances',
      { ImageId, InstanceInitiatedShutdownBehavior: 'terminate' },
      /InstanceInitiatedShutdownBehavior in/,
    ],
    ['RunInstances', { ImageId, DisableApiStop: 'true' }, /DisableApiStop/],
    ['RunInstances', { ImageId, 'InstanceMarketOptions.MarketType': 'spot' }, /InstanceMarketOptions/],
    ['RunInstances', { ImageId, 'Placement.Tenancy': 'dedicated' }, /Placement.Tenancy/],
    ['RunInstances', { ImageId, 'Placement.GroupName': 'near' }, /Placement.GroupName/],
    ['RunInstances', { ImageId, 'BlockDeviceMapping.1.Ebs.KmsKeyId': 'k' }, /BlockDeviceMapping.N.Ebs.KmsKeyId/],
    ['CreateVolume', { Size: '1', KmsKeyId: 'k' }, /CreateVolume does not offer KmsKeyId/],
    ['AllocateAddress', { Address: '203.0.113.1' }, /does not offer Address/],
    ['CreateKeyPair', { KeyName: 'k', 'TagSpecification.1.ResourceType': 'key-pair' }, /TagSpecification/],
    ['StopInstances', { 'InstanceId.1': 'i-00000001' }, /StopInstances is not offered: RebootInstances/],
  ];
  for (const [action, params, message] of cases) {
    const answer = await ask(action, params);
    assert.equal(answer.code, 'UnsupportedOperation', action);
    assert.match(answer.message ?? '', message);
  }
  const tag = (Key: string) => ({ 'TagSpecification.1.ResourceType': 'volume', 'TagSpecification.1.Tag.1.Key': Key });
  assert.match(
    (await ask('CreateVolume', { Size: '1', ...tag('__proto__') })).message ?? '',
    /no tag is named __proto__/,
  );
  const web = (await ask('CreateSecurityGroup', { GroupName: 'web', GroupDescription: 'x' })).xml.groupId;
  const as_it_is = { InstanceInitiatedShutdownBehavior: 'stop', 'Placement.Tenancy': 'default', Ipv6AddressCount: '0' };
  const params = { ImageId, ...as_it_is, DisableApiTermination: 'false', 'NetworkInterface.1.DeviceIndex': '0', 'NetworkInterface.1.SecurityGroupId.1': web }; // prettier-ignore
  assert.equal((await ask('RunInstances', params)).xml.groupSet[0].groupId, 'web', 'the name, in this version');
  assert.equal((await ask('ReleaseAddress', { AllocationId: 'eipalloc-00000099' })).message, 'project apollo has no floating ip eipalloc-00000099'); // prettier-ignore
});

test('instance types show their size in the words of AWS and of Nova', async (t) => {
  const api = await anEc2Api(t);

  const { xml } = await api.ask('DescribeInstanceTypes', { 'InstanceType.1': 'm1.small' });

  const [type] = xml.instanceTypeSet;
  assert.equal(type.vCpuInfo.defaultVCpus, '1');
  assert.equal(type.memoryInfo.sizeInMiB, '2048');
  assert.equal(`${type.name} ${type.memoryMb} ${type.vcpus} ${type.diskGb} ${type.flavorId}`, 'm1.small 2048 1 20 2');
});

// ---- whatever is sent, a 5xx is a bug ----

const ODD = [
  '',
  ' ',
  '0',
  '-1',
  '99999999999999999999',
  'é日本\u{1f600}',
  "'; drop table instances; --",
  '<x a="1">&',
  '\u0001\u001f\u007f',
  '__proto__',
  'a'.repeat(5000),
  'i-00000001',
  'ami-00000001',
  'i-ffffffff',
  'sg-7fffffff',
  'YWJj',
  '%',
  '*'.repeat(300),
];

test('no value of any parameter of any action makes a 5xx, alone, in a list or in a structure', async (t) => {
  const lines: { level: number; msg: string }[] = [];
  const log = pino(
    {},
    { write: (line: string) => void lines.push(JSON.parse(line) as { level: number; msg: string }) },
  );
  const api = await anEc2Api(t, {
    log,
    flags: { quota_instances: 1_000_000, quota_cores: 1_000_000, max_instances_per_request: 5 },
  });
  await aMember(api.db, 'root', ['cloudadmin']);
  await anInstance(api.db, { host: null, vm_state: 'error' });
  const right: Record<string, string> = { ImageId: 'ami-00000001', InstanceId: 'i-00000001' };

  for (const { name, params } of ec2Actions.values()) {
    for (const param of Object.keys(params)) {
      const needed = Object.fromEntries(Object.entries(right).filter(([key]) => key in params && key !== param));
      const answers = await Promise.all(
        ODD.flatMap((value) => [
          api.ask(name, { ...needed, [param]: value }, 'root'),
          api.ask(name, { ...needed, [`${param}.1`]: value, [`${param}.2`]: value }, 'root'),
          api.ask(
            name,
            {
              ...needed,
              [`${param}.1.Name`]: value,
              [`${param}.1.Value.1`]: value,
              [`${param}.${value.slice(0, 60)}`]: value,
            },
            'root',
          ),
          api.ask(
            name,
            {
              ...needed,
              [`${param}.1.Name`]: 'tag-key',
              [`${param}.1.Value.1`]: value,
              [`${param}.1.Tag.1.Key`]: value,
            },
            'root',
          ),
        ]),
      );
      const bad = answers.filter(({ status }) => status >= 500 && name !== 'RegisterImage');
      assert.deepEqual(
        bad.map(({ text }) => text),
        [],
        `${name} ${param}`,
      );
    }
  }

  const failed = lines.filter(({ level, msg }) => level >= 50 && msg === 'ec2 request failed');
  assert.deepEqual(
    failed.filter((line) => !JSON.stringify(line).includes('RpcUnavailable')),
    [],
  );
});
