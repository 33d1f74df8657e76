import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { ec2Actions } from '../../../../src/api/ec2/actions.ts';
import { nowText } from '../../../../src/common/clock.ts';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { ec2InstanceId } from '../../../../src/common/db/instances.ts';
import { generateSshKey } from '../../../../src/common/ssh_key.ts';
import { anImage, anInstance } from '../../../builders.ts';
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

test('a key pair is made, imported, listed and forgotten', async (t) => {
  const api = await anEc2Api(t);
  const own = (await generateSshKey('own')).public_key;

  const made = await api.ask('CreateKeyPair', { KeyName: '010' });
  const imported = await api.ask('ImportKeyPair', {
    KeyName: 'mine',
    PublicKeyMaterial: Buffer.from(own).toString('base64'),
  });
  const plain = await api.ask('ImportPublicKey', { KeyName: 'plain', PublicKey: own });

  assert.match(made.xml.keyMaterial, /^-----BEGIN RSA PRIVATE KEY-----\n[\s\S]*-----END RSA PRIVATE KEY-----/);
  assert.match(made.xml.keyFingerprint, /^([0-9a-f]{2}:){15}[0-9a-f]{2}$/);
  assert.equal(plain.xml.return, 'true');
  assert.equal((await api.ask('CreateKeyPair', { KeyName: '010' })).code, 'InvalidKeyPair.Duplicate');
  assert.equal(
    (await api.ask('ImportKeyPair', { KeyName: 'x', PublicKeyMaterial: 'bm8ga2V5' })).code,
    'InvalidParameterValue',
  );
  const listed = (await api.ask('DescribeKeyPairs')).xml.keySet as { keyName: string; keyFingerprint: string }[];
  assert.deepEqual(
    listed.map(({ keyName, keyFingerprint }) => [keyName, keyFingerprint]),
    [
      ['010', made.xml.keyFingerprint],
      ['mine', imported.xml.keyFingerprint],
      ['plain', imported.xml.keyFingerprint],
    ],
  );
  for (const name of ['010', 'never there']) {
    assert.equal((await api.ask('DeleteKeyPair', { KeyName: name })).xml.return, 'true');
  }
  for (const asked of [{ 'KeyName.1': 'mine', 'KeyName.2': 'nokey' }, { 'KeyPairId.1': 'key-000000ff' }] as Record<
    string,
    string
  >[])
    assert.equal((await api.ask('DescribeKeyPairs', asked)).code, 'InvalidKeyPair.NotFound');
  assert.equal((await api.ask('DeleteKeyPair', { KeyPairId: imported.xml.keyPairId })).xml.return, 'true');
  assert.deepEqual(
    (await api.ask('DescribeKeyPairs')).xml.keySet.map(({ keyName }: { keyName: string }) => keyName),
    ['plain'],
  );
});

test('key pairs of VPN instances are shown to administrators only', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'root', ['cloudadmin']);
  const pair = { name: 'apollo-vpn', fingerprint: 'aa:bb', public_key: 'ssh-rsa AAAA', created_at: nowText() };
  for (const user_id of ['ann', 'root'])
    await api.db
      .insertInto('key_pairs')
      .values({ ...pair, user_id })
      .execute();

  assert.equal((await api.ask('DescribeKeyPairs')).xml.keySet, '');
  assert.equal((await api.ask('DescribeKeyPairs', {}, 'root')).xml.keySet.length, 1);
});

test('an image is made public and its own again, in the words of 2011 and of today', async (t) => {
  const api = await anEc2Api(t);
  const id = { ImageId: `ami-0000000${await anImage(api.db, { is_public: 0 })}` };
  const theirs = { ImageId: `ami-0000000${await anImage(api.db, { project_id: 'gemini', is_public: 1 })}` };
  const shown = async () =>
    (await api.ask('DescribeImageAttribute', { ...id, Attribute: 'launchPermission' })).xml.launchPermission;
  const of_2011 = { Attribute: 'launchPermission', 'UserGroup.1': 'all' };
  const modify = (params: Record<string, string>) => api.ask('ModifyImageAttribute', params);

  assert.equal(await shown(), '');
  assert.equal((await modify({ ...id, ...of_2011, OperationType: 'add' })).xml.return, 'true');
  assert.deepEqual(await shown(), [{ group: 'all' }]);
  assert.equal((await modify({ ...id, 'LaunchPermission.Remove.1.Group': 'all' })).xml.return, 'true');
  assert.equal(await shown(), '');
  assert.equal((await modify({ ...id, 'LaunchPermission.Add.1.UserId': 'bob' })).code, 'UnsupportedOperation');
  assert.equal((await modify({ ...id, Attribute: 'description' })).code, 'InvalidParameterValue');
  assert.equal((await modify(id)).code, 'MissingParameter');
  assert.equal((await modify({ ...theirs, ...of_2011, OperationType: 'remove' })).code, 'UnauthorizedOperation');
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

test('images show their kind, their owner and their state', async (t) => {
  const api = await anEc2Api(t);
  const kernel = await anImage(api.db, { container_format: 'aki', name: 'vmlinuz' });
  await anImage(api.db, { container_format: 'ami', kernel_id: kernel, name: '', location: 'b/x.manifest.xml' });
  await anImage(api.db, { status: 'queued', properties: '{"image_state":"untarring"}' });
  await anImage(api.db, { status: 'error', fault: 'the object is gone', is_public: 0 });
  await anImage(api.db, { project_id: 'gemini', is_public: 0 });
  await anImage(api.db, { project_id: 'gemini' });

  const { xml } = await api.ask('DescribeImages');
  const own = await api.ask('DescribeImages', {
    'Owner.1': 'self',
    'Filter.1.Name': 'image-type',
    'Filter.1.Value.1': 'machine',
  });

  const shown = xml.imagesSet.map((image: Record<string, string>) =>
    ['imageId', 'imageType', 'imageState', 'imageLocation', 'imageOwnerId', 'isPublic']
      .map((name) => image[name])
      .join(' '),
  );
  assert.deepEqual(shown, [
    'ami-00000001 machine available local (tiny) apollo true',
    'aki-00000002 kernel available local (vmlinuz) apollo true',
    'ami-00000003 machine available b/x.manifest.xml apollo true',
    'ami-00000004 machine untarring local (tiny) apollo true',
    'ami-00000005 machine failed local (tiny) apollo false',
    'ami-00000007 machine available local (tiny) gemini true',
  ]);
  assert.equal(xml.imagesSet[2].kernelId, 'aki-00000002');
  assert.equal(xml.imagesSet[4].stateReason.message, 'the object is gone');
  assert.deepEqual(
    own.xml.imagesSet.map(({ imageId }: { imageId: string }) => imageId),
    ['ami-00000001', 'ami-00000003', 'ami-00000004', 'ami-00000005'],
  );
  assert.equal((await api.ask('DescribeImages', { 'ImageId.1': 'ami-00000006' })).code, 'InvalidAMIID.NotFound');
  const executable = async (...words: string[]) => {
    const asked = words.map((word, i) => [`ExecutableBy.${i + 1}`, word] as const);
    const { xml } = await api.ask('DescribeImages', Object.fromEntries(asked));
    return [...xml.imagesSet].map(({ imageId }: { imageId: string }) => Number(`0x${imageId.slice(4)}`));
  };
  assert.deepEqual(await executable('all'), [1, 2, 3, 4, 7]);
  for (const own of ['self', 'apollo']) assert.deepEqual(await executable(own), [1, 2, 3, 4, 5]);
  assert.deepEqual(await executable('self', 'all'), [1, 2, 3, 4, 5, 7]);
  assert.deepEqual(await executable('zeus'), []);
});

test('an image is registered under a location that a bucket has, or not at all', async (t) => {
  const api = await anEc2Api(t);

  assert.equal((await api.ask('RegisterImage')).code, 'MissingParameter');
  assert.equal((await api.ask('RegisterImage', { ImageLocation: 'no-slash' })).code, 'InvalidParameterValue');
  const unheard = await api.ask('RegisterImage', { ImageLocation: 'bucket/key' }); // no object store runs here
  assert.equal(`${unheard.status} ${unheard.code}`, '503 Unavailable');
  const asked = (KernelId: string) => api.ask('RegisterImage', { ImageLocation: 'bucket/key', KernelId });
  assert.equal((await asked('nokernel')).code, 'Unavailable');
  assert.equal((await asked('kernel')).code, 'InvalidParameterValue');
});

test('regions are this cloud, or those of --region_list', async (t) => {
  const one = await anEc2Api(t);
  const two = await anEc2Api(t, { flags: { region_list: ['east=10.1.0.1', 'west=10.2.0.1'] } });
  const shown = (xml: { regionInfo: { regionName: string; regionEndpoint: string }[] }) =>
    xml.regionInfo.map(({ regionName, regionEndpoint }) => `${regionName} ${regionEndpoint}`);

  assert.deepEqual(shown((await one.ask('DescribeRegions')).xml), ['nova http://127.0.0.1:8773/services/Cloud']);
  assert.deepEqual(shown((await two.ask('DescribeRegions')).xml), [
    'east http://10.1.0.1:8773/services/Cloud',
    'west http://10.2.0.1:8773/services/Cloud',
  ]);
  assert.deepEqual(shown((await two.ask('DescribeRegions', { RegionName: 'west' })).xml), [
    'west http://10.2.0.1:8773/services/Cloud',
  ]);
  assert.match((await two.ask('DescribeRegions', { RegionName: 'north' })).message ?? '', /there are east, west/);
});

async function aService(db: NovaDb, host: string, availability_zone: string, disabled: number): Promise<void> {
  const now = nowText();
  const columns = { binary: 'nova-compute', topic: 'compute', incarnation: host, agreed_flags: '{}' };
  await db
    .insertInto('services')
    .values({ ...columns, host, availability_zone, disabled, created_at: now, updated_at: now })
    .execute();
}

test('a zone whose services are all disabled is not available', async (t) => {
  const api = await anEc2Api(t);
  await aMember(api.db, 'root', ['cloudadmin']);
  await aService(api.db, 'node1', 'nova', 1);
  await aService(api.db, 'node2', 'nova', 0);
  await aService(api.db, 'node3', 'lab', 1);
  const shown = async (params: Record<string, string>, as = 'ann') =>
    (await api.ask('DescribeAvailabilityZones', params, as)).xml.availabilityZoneInfo.map(
      (zone: { zoneName: string; zoneState: string }) => `${zone.zoneName}: ${zone.zoneState}`,
    );

  assert.deepEqual(await shown({}), ['lab: not available', 'nova: available']);
  assert.deepEqual(await shown({ 'ZoneName.1': 'nova' }), ['nova: available']);
  const verbose = (await shown({ 'ZoneName.1': 'verbose' }, 'root')) as string[];
  assert.deepEqual(
    verbose.map((line) => line.replace(/ \d{4}-.*$/, ' TIME')),
    [
      'nova: available',
      '|- node1: ',
      '| |- nova-compute: disabled :-) TIME',
      '|- node2: ',
      '| |- nova-compute: enabled :-) TIME',
      '|- node3: ',
      '| |- nova-compute: disabled :-) TIME',
    ],
  );
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
