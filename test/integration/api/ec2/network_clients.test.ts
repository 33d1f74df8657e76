import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startDaemon, type Daemon } from '../../../rigs/daemon.ts';
import { findProgram, needs } from '../../../rigs/needs.ts';
import { freePort } from '../../../rigs/free_port.ts';
import { projectRoot, tempDir, type Scope } from '../../../rigs/tmp.ts';

/**
 * Addresses and security groups as stock clients ask for them: boto 2 (2011's parameters, signature 2), the AWS command
 * line (today's, signature 4), against nova-all with fake guests.
 */
const run = promisify(execFile);
const AWS = existsSync('/usr/bin/aws') ? '/usr/bin/aws' : (findProgram('aws') ?? 'aws');
const PYTHON = '/usr/bin/python3'; // Debian's, which has python3-boto
const skip =
  needs('aws', 'python3') ||
  (existsSync('/usr/lib/python3/dist-packages/boto') ? false : 'needs python3-boto, see scripts/setup');

interface Cloud {
  daemon: Daemon;
  env: Record<string, string>;
  port: number;
  /** Two running instances. */
  ids: [string, string];
  aws(...args: string[]): Promise<string>;
}

async function aCloud(t: Scope): Promise<Cloud> {
  const port = await freePort();
  const local = {
    my_ip: '127.0.0.1',
    ec2_listen: '127.0.0.1',
    osapi_listen: '127.0.0.1',
    metadata_listen: '127.0.0.1',
  };
  const daemon = await startDaemon(t, 'nova-all', {
    flags: {
      ...local,
      fake_rabbit: true,
      fake_network: true,
      connection_type: 'fake',
      network_manager: 'nova.network.manager.FlatDHCPManager',
      enabled_apis: 'ec2',
      s3_listen: '127.0.0.1',
      s3_port: await freePort(),
      metadata_port: 0,
      ec2_listen_port: port,
    },
  });
  const manage = async (...args: string[]): Promise<string> =>
    (await run(process.execPath, [join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`, ...args]))
      .stdout;
  await manage('network', 'create', '10.0.0.0/24');
  await manage('floating', 'create', '203.0.113.0/28');
  const keys = await manage('user', 'create', 'ann');
  await manage('project', 'create', 'web', 'ann');
  for (const project of [[], ['web']]) await manage('role', 'add', 'ann', 'netadmin', ...project);
  const dir = tempDir(t, 'clients');
  writeFileSync(join(dir, 'disk.img'), Buffer.alloc(65_536, 1));
  const image = await manage('image', 'image_register', join(dir, 'disk.img'), 'web', 'disk', 'T');
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: dir,
    AWS_ACCESS_KEY_ID: `${/EC2_ACCESS_KEY=(\S+)/.exec(keys)?.[1]}:web`,
    AWS_SECRET_ACCESS_KEY: /EC2_SECRET_KEY=(\S+)/.exec(keys)?.[1] ?? '',
    AWS_DEFAULT_REGION: 'nova',
    AWS_PAGER: '',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_MAX_ATTEMPTS: '1',
    PYTHONWARNINGS: 'ignore',
  };
  const aws = async (...args: string[]): Promise<string> => {
    const argv = ['--endpoint-url', `http://127.0.0.1:${port}`, '--output', 'text', 'ec2', ...args];
    return (await run(AWS, argv, { env })).stdout.trim();
  };
  const launch = ['run-instances', '--image-id', /\((\w+)\)/.exec(image)?.[1] ?? '', '--instance-type', 'm1.tiny'];
  launch[2] = `ami-${launch[2]}`;
  const ids = (await aws(...launch, '--count', '2', '--query', 'Instances[].InstanceId')).split(/\s+/);
  await aws('wait', 'instance-running', '--instance-ids', ...ids);
  return { daemon, env, port, ids: ids as [string, string], aws };
}

/** argv: port and two instances. Prints what the test looks at, a line each. */
const BOTO = `
import os, sys
import boto.ec2.connection
from boto.ec2.regioninfo import RegionInfo
from boto.exception import EC2ResponseError
port, one, two = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Connection(boto.ec2.connection.EC2Connection):
    APIVersion = '2009-04-04'
    def _required_auth_capability(self):
        return ['ec2']
c = Connection(os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_SECRET_ACCESS_KEY'], is_secure=False, port=port,
               path='/services/Cloud', region=RegionInfo(name='nova', endpoint='127.0.0.1'))
def refused(call):
    try: call()
    except EC2ResponseError as e: return e.error_code
a = c.allocate_address()
b = c.allocate_address()
print(a.public_ip, c.associate_address(one, a.public_ip), [x.instance_id for x in c.get_all_addresses([a.public_ip])] == [one])
print(refused(lambda: c.release_address(a.public_ip)), c.associate_address(two, a.public_ip))
print([x.instance_id for x in c.get_all_addresses([a.public_ip])] == [two], c.get_all_instances([two])[0].instances[0].ip_address)
print(c.disassociate_address(a.public_ip), c.release_address(a.public_ip), b.release(), len(c.get_all_addresses()))
print(refused(lambda: c.get_all_addresses(['203.0.113.99'])), refused(lambda: c.associate_address('i-000000ff', '203.0.113.1')))
g = c.create_security_group('shop', 'the shop')
print(c.authorize_security_group_deprecated('shop', ip_protocol='tcp', from_port=22, to_port=22, cidr_ip='192.0.2.0/24'))
print(c.authorize_security_group_deprecated('shop', src_security_group_name='default', src_security_group_owner_id='ann:web'))
print(c.authorize_security_group('shop', ip_protocol='icmp', from_port=-1, to_port=-1, cidr_ip='0.0.0.0/0'))
print(c.authorize_security_group('shop', ip_protocol='udp', from_port=53, to_port=54, cidr_ip=['10.1.0.0/16', '10.2.0.0/16']))
for r in c.get_all_security_groups(['shop'])[0].rules: print('rule', r.ip_protocol, r.from_port, r.to_port, *[str(x) for x in r.grants])
print(refused(lambda: c.authorize_security_group('shop', ip_protocol='icmp', from_port=-1, to_port=-1, cidr_ip='0.0.0.0/0')))
print(c.revoke_security_group_deprecated('shop', ip_protocol='tcp', from_port=22, to_port=22, cidr_ip='192.0.2.0/24'))
print(c.revoke_security_group('shop', ip_protocol='udp', from_port=53, to_port=54, cidr_ip='10.1.0.0/16'))
print(refused(lambda: c.revoke_security_group('shop', ip_protocol='udp', from_port=53, to_port=54, cidr_ip='10.1.0.0/16')))
shop = c.get_all_security_groups(['shop'])[0]
for r in list(shop.rules):
    for s in list(r.grants):
        shop.revoke(r.ip_protocol, int(r.from_port), int(r.to_port), s.cidr_ip, None if s.cidr_ip else s)
print(len(c.get_all_security_groups(['shop'])[0].rules))
print(c.authorize_security_group_deprecated('shop', src_security_group_name='default', src_security_group_owner_id='ann:web'))
print(c.revoke_security_group_deprecated('shop', src_security_group_name='default', src_security_group_owner_id='ann:web'))
print(c.delete_security_group('shop'), refused(lambda: c.get_all_security_groups(['shop'])))
`;

test('addresses and groups by the clients of 2011 and of today', { skip }, async (t) => {
  const { aws, env, port, ids } = await aCloud(t);

  await t.test('boto 2 with signature 2, in 2011’s parameters and in the later ones', async () => {
    const { stdout } = await run(PYTHON, ['-c', BOTO, String(port), ...ids], { env });

    assert.deepEqual(stdout.trim().split('\n'), [
      '203.0.113.1 True True',
      'InvalidIPAddress.InUse True',
      'True 203.0.113.1',
      'True True True 0',
      'InvalidAddress.NotFound InvalidInstanceID.NotFound',
      'True',
      'True',
      'True',
      'True',
      'rule tcp 22 22 192.0.2.0/24',
      'rule icmp -1 -1 default-web',
      'rule tcp 1 65535 default-web',
      'rule udp 1 65535 default-web',
      'rule icmp -1 -1 0.0.0.0/0',
      'rule udp 53 54 10.1.0.0/16',
      'rule udp 53 54 10.2.0.0/16',
      'InvalidPermission.Duplicate',
      'True',
      'True',
      'InvalidPermission.NotFound',
      '0',
      'True',
      'True',
      'True InvalidGroup.NotFound',
    ]);
  });

  await t.test('the AWS command line with signature 4: addresses by allocation and association', async () => {
    const [one, two] = ids;
    const [allocation = '', address = ''] = (await aws('allocate-address', '--domain', 'vpc', '--query', '[AllocationId,PublicIp]')).split('\t'); // prettier-ignore
    const associate = ['associate-address', '--allocation-id', allocation, '--query', 'AssociationId', '--instance-id'];
    const association = await aws(...associate, one);
    assert.match(association, /^eipassoc-/);
    const leads = ['describe-addresses', '--filters', `Name=public-ip,Values=${address}`, '--query', 'Addresses[].InstanceId']; // prettier-ignore
    assert.equal(await aws(...leads), one);
    await aws(...associate, two);
    assert.equal(await aws(...leads), two);
    await aws('disassociate-address', '--association-id', association);
    assert.equal(await aws(...leads), '');
    await aws('release-address', '--allocation-id', allocation);
    assert.equal(await aws('describe-addresses', '--query', 'Addresses[]'), '');
  });

  await t.test('the AWS command line: permissions as a list, groups of an instance, metadata options', async () => {
    const id = await aws('create-security-group', '--group-name', 'shop', '--description', 'x', '--query', 'GroupId');
    const permissions = [
      { IpProtocol: 'tcp', FromPort: 80, ToPort: 81, IpRanges: [{ CidrIp: '192.0.2.0/24', Description: 'us' }] },
      { IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: id }] },
      { IpProtocol: 'tcp', FromPort: 443, ToPort: 443, Ipv6Ranges: [{ CidrIpv6: '2001:db8::/32' }] },
    ];
    const given = ['--group-id', id, '--ip-permissions', JSON.stringify(permissions)];
    await aws('authorize-security-group-ingress', ...given);
    const query = 'SecurityGroups[0].IpPermissions[].[IpProtocol,FromPort,IpRanges[0].CidrIp,Ipv6Ranges[0].CidrIpv6,UserIdGroupPairs[0].GroupName]'; // prettier-ignore
    assert.deepEqual((await aws('describe-security-groups', '--group-ids', id, '--query', query)).split('\n').sort(), [
      '-1\tNone\tNone\tNone\tshop',
      'tcp\t443\tNone\t2001:db8::/32\tNone',
      'tcp\t80\t192.0.2.0/24\tNone\tNone',
    ]);

    const groups = ['describe-instances', '--instance-ids', ids[0], '--query', 'Reservations[0].Instances[0].SecurityGroups[].GroupId']; // prettier-ignore
    const before = await aws(...groups);
    await aws('modify-instance-attribute', '--instance-id', ids[0], '--groups', before, id);
    assert.equal(await aws(...groups), `${before}\t${id}`);
    await aws('modify-instance-attribute', '--instance-id', ids[0], '--groups', id);
    const shown = 'Reservations[0].Instances[0].[SecurityGroups[0].GroupName,MetadataOptions.HttpTokens]';
    assert.equal(await aws('describe-instances', '--instance-ids', ids[0], '--query', shown), 'shop\toptional');
    await assert.rejects(aws('delete-security-group', '--group-id', id), /DependencyViolation|InvalidGroup.InUse/);
    const options = ['--http-tokens', 'required', '--http-endpoint', 'enabled', '--query'];
    const modify = ['modify-instance-metadata-options', '--instance-id', ids[0], ...options];
    assert.equal(await aws(...modify, 'InstanceMetadataOptions.HttpTokens'), 'required');
    assert.equal(await aws('describe-instances', '--instance-ids', ids[0], '--query', shown), 'shop\trequired');

    await aws('modify-instance-attribute', '--instance-id', ids[0], '--groups', await aws('describe-security-groups', '--group-names', 'default', '--query', 'SecurityGroups[0].GroupId')); // prettier-ignore
    await aws('authorize-security-group-ingress', '--group-id', id, '--source-group', 'default');
    const shown_rules = await aws('describe-security-groups', '--group-ids', id, '--query', 'SecurityGroups[0].IpPermissions', '--output', 'json'); // prettier-ignore
    await aws('revoke-security-group-ingress', '--group-id', id, '--ip-permissions', shown_rules);
    assert.equal(await aws('describe-security-groups', '--group-ids', id, '--query', 'SecurityGroups[0].IpPermissions'), ''); // prettier-ignore
    await aws('delete-security-group', '--group-id', id);
  });
});
