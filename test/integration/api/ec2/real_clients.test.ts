import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, after, test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram, needs } from '../../../rigs/needs.ts';
import { startDaemon, type Daemon } from '../../../rigs/daemon.ts';
import { freePort } from '../../../rigs/free_port.ts';
import { projectRoot, tempDir } from '../../../rigs/tmp.ts';

/** The AWS command line (signature 4) and boto (4 and 2) as Debian ships them, against nova-all with the fake hypervisor. */

const run = promisify(execFile);
const AWS = existsSync('/usr/bin/aws') ? '/usr/bin/aws' : (findProgram('aws') ?? 'aws');
const PYTHON = '/usr/bin/python3'; // Debian's, which has python3-boto
const skip = needs('aws', PYTHON.slice('/usr/bin/'.length), 'ssh-keygen');

const scope = { after };
const dir = tempDir(scope, 'clients');
let daemon: Daemon;
let env: Record<string, string>;
let ec2_port: number;
let s3_port: number;

before(async () => {
  if (skip) return;
  [ec2_port, s3_port] = [await freePort(), await freePort()];
  daemon = await startDaemon(scope, 'nova-all', {
    flags: {
      fake_rabbit: true,
      fake_network: true,
      connection_type: 'fake',
      network_manager: 'nova.network.manager.FlatDHCPManager',
      my_ip: '127.0.0.1',
      ec2_listen: '127.0.0.1',
      osapi_listen: '127.0.0.1',
      metadata_listen: '127.0.0.1',
      s3_listen: '127.0.0.1',
      ec2_listen_port: ec2_port,
      osapi_listen_port: 0,
      metadata_port: 0,
      s3_port,
    },
  });
  await manage('network', 'create', '10.0.0.0/24', '1', '256');
  const made = await manage('user', 'create', 'ann');
  await manage('project', 'create', 'web', 'ann');
  const [, access] = /EC2_ACCESS_KEY=(\S+)/.exec(made) ?? [];
  const [, secret] = /EC2_SECRET_KEY=(\S+)/.exec(made) ?? [];
  env = {
    PATH: process.env['PATH'] ?? '',
    HOME: dir,
    AWS_ACCESS_KEY_ID: `${access}:web`,
    AWS_SECRET_ACCESS_KEY: secret ?? '',
    AWS_DEFAULT_REGION: 'nova',
    AWS_PAGER: '',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_MAX_ATTEMPTS: '1',
    PYTHONWARNINGS: 'ignore',
  };
});

async function manage(...args: string[]): Promise<string> {
  const argv = [join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`, ...args];
  return (await run(process.execPath, argv)).stdout;
}
const awsAt = async (port: number, args: readonly string[]): Promise<string> =>
  (await run(AWS, ['--endpoint-url', `http://127.0.0.1:${port}`, '--output', 'text', ...args], { env })).stdout.trim();
const ec2 = (...args: string[]) => awsAt(ec2_port, ['ec2', ...args]);
const refused = (code: string) => (err: { stderr: string }) => err.stderr.includes(`An error occurred (${code})`);

test('the AWS command line takes an image from a bucket to a running instance and back', { skip }, async () => {
  const file = join(dir, 'disk.img');
  writeFileSync(file, randomBytes(100_000));
  await awsAt(s3_port, ['s3', 'mb', 's3://images']);
  await awsAt(s3_port, ['s3', 'cp', file, 's3://images/disk.img']);

  assert.equal(await awsAt(ec2_port, ['sts', 'get-caller-identity', '--query', 'Arn']), 'arn:aws:iam::web:user/ann');
  const image = await ec2(
    'register-image',
    '--image-location',
    'images/disk.img',
    '--name',
    'disk',
    '--query',
    'ImageId',
  );
  await ec2('wait', 'image-available', '--image-ids', image);
  assert.match(await ec2('create-key-pair', '--key-name', 'k1', '--query', 'KeyMaterial'), /BEGIN RSA PRIVATE KEY/);
  const launch = ['run-instances', '--image-id', image, '--instance-type', 'm1.tiny', '--key-name', 'k1'];
  const ids = (await ec2(...launch, '--count', '2', '--user-data', 'hello', '--query', 'Instances[].InstanceId')).split(
    /\s+/,
  );
  assert.equal(ids.length, 2);
  await ec2('wait', 'instance-running', '--instance-ids', ...ids);
  await ec2('wait', 'instance-status-ok', '--instance-ids', ...ids);
  assert.match(
    await ec2(
      'describe-instances',
      '--instance-ids',
      ids[0] ?? '',
      '--query',
      'Reservations[0].Instances[0].[State.Name,KeyName,PrivateIpAddress]',
    ),
    /^running\tk1\t10\.0\.0\.\d+$/,
  );
  assert.match(await ec2('get-console-output', '--instance-id', ids[0] ?? '', '--query', 'Output'), /\S/);
  await ec2('reboot-instances', '--instance-ids', ids[0] ?? '');
  assert.equal(
    await ec2('terminate-instances', '--instance-ids', ...ids, '--query', 'TerminatingInstances[].CurrentState.Name'),
    'shutting-down\tshutting-down',
  );
  await ec2('wait', 'instance-terminated', '--instance-ids', ...ids);
  assert.equal(await ec2('describe-instances', '--query', 'Reservations[]'), '');
});

test('the AWS command line reads regions, zones, groups, types and keys', { skip }, async () => {
  await run('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', join(dir, 'id')]);

  assert.equal(await ec2('describe-regions', '--query', 'Regions[].RegionName'), 'nova');
  assert.equal(
    await ec2('describe-availability-zones', '--query', 'AvailabilityZones[].[ZoneName,State]'),
    'nova\tavailable',
  );
  assert.equal(await ec2('describe-security-groups', '--query', 'SecurityGroups[].GroupName'), 'default');
  assert.match(await ec2('describe-instance-types', '--query', 'InstanceTypes[].InstanceType'), /m1\.tiny/);
  const material = `fileb://${join(dir, 'id.pub')}`;
  assert.match(
    await ec2('import-key-pair', '--key-name', 'k2', '--public-key-material', material, '--query', 'KeyFingerprint'),
    /^([0-9a-f]{2}:){15}[0-9a-f]{2}$/,
  );
  assert.match(await ec2('describe-key-pairs', '--query', 'KeyPairs[].KeyName'), /k2/);
  await ec2('delete-key-pair', '--key-name', 'k2');
});

test('the AWS command line leads a floating address to an instance and takes it back', { skip }, async () => {
  await manage('floating', 'create', '203.0.113.0/29');
  for (const project of [[], ['web']]) await manage('role', 'add', 'ann', 'netadmin', ...project);
  const image = await ec2('describe-images', '--query', 'Images[0].ImageId');
  const launch = ['run-instances', '--image-id', image, '--instance-type', 'm1.tiny'];
  const id = await ec2(...launch, '--query', 'Instances[0].InstanceId');
  await ec2('wait', 'instance-running', '--instance-ids', id);

  const [allocation = '', address = ''] = (
    await ec2('allocate-address', '--query', '[AllocationId,PublicIp,Domain]')
  ).split('\t');
  assert.deepEqual([allocation, address], ['eipalloc-00000001', '203.0.113.1']);
  const to = ['--instance-id', id, '--query', 'AssociationId'];
  assert.equal(await ec2('associate-address', '--allocation-id', allocation, ...to), 'eipassoc-00000001');
  const shown = ['describe-instances', '--instance-ids', id, '--query', 'Reservations[0].Instances[0].PublicIpAddress'];
  assert.equal(await ec2(...shown), address);
  const query = ['--query', 'Addresses[].[PublicIp,InstanceId,Domain]'];
  assert.equal(await ec2('describe-addresses', '--public-ips', address, ...query), `${address}\t${id}\tstandard`);
  await assert.rejects(ec2('release-address', '--public-ip', address), refused('InvalidIPAddress.InUse'));
  await ec2('terminate-instances', '--instance-ids', id);
  await ec2('wait', 'instance-terminated', '--instance-ids', id);
  assert.equal(await ec2('describe-addresses', '--query', 'Addresses[0].AssociationId'), 'None');
  await ec2('disassociate-address', '--public-ip', address);
  await ec2('release-address', '--allocation-id', allocation);
  assert.equal(await ec2('describe-addresses', '--query', 'Addresses[]'), '');
});

test('the AWS command line shows our codes', { skip }, async () => {
  await assert.rejects(ec2('run-instances', '--image-id', 'ami-000000ff'), refused('InvalidAMIID.NotFound'));
  await assert.rejects(
    ec2('terminate-instances', '--instance-ids', 'i-000000ff'),
    refused('InvalidInstanceID.NotFound'),
  );
  await assert.rejects(ec2('run-instances', '--image-id', 'ami-00000001', '--dry-run'), refused('DryRunOperation'));
  await assert.rejects(ec2('describe-vpcs'), refused('UnsupportedOperation'));
  await assert.rejects(ec2('describe-host-reservations'), refused('InvalidAction'));
  const wrong = { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' };
  const argv = ['--endpoint-url', `http://127.0.0.1:${ec2_port}`, 'ec2', 'describe-instances'];
  await assert.rejects(run(AWS, argv, { env: wrong }), refused('SignatureDoesNotMatch'));
});

test('the AWS command line makes a security group, opens and closes it, and deletes it', { skip }, async () => {
  await manage('role', 'add', 'ann', 'netadmin');
  await manage('role', 'add', 'ann', 'netadmin', 'web');

  const id = await ec2(
    'create-security-group',
    '--group-name',
    'shop',
    '--description',
    'the shop',
    '--query',
    'GroupId',
  );
  assert.match(id, /^sg-[0-9a-f]{8}$/);
  const ssh = ['--group-id', id, '--protocol', 'tcp', '--port', '22', '--cidr', '192.0.2.0/24'];
  const members = ['--group-name', 'shop', '--protocol', 'all', '--source-group', 'shop'];
  for (const rule of [ssh, members]) await ec2('authorize-security-group-ingress', ...rule);
  await assert.rejects(ec2('authorize-security-group-ingress', ...ssh), refused('InvalidPermission.Duplicate'));
  const query =
    'SecurityGroups[].IpPermissions[].[IpProtocol,FromPort,IpRanges[0].CidrIp,UserIdGroupPairs[0].GroupName]';
  const shown = await ec2('describe-security-groups', '--group-ids', id, '--query', query);
  assert.deepEqual(shown.split('\n'), ['tcp\t22\t192.0.2.0/24\tNone', '-1\tNone\tNone\tshop']);
  for (const rule of [ssh, members]) await ec2('revoke-security-group-ingress', ...rule);
  await ec2('delete-security-group', '--group-id', id);
  assert.equal(await ec2('describe-security-groups', '--query', 'SecurityGroups[].GroupName'), 'default');
});

/** argv: port, signature version. Prints what the test looks at, a line each. */
const BOTO = `
import os, sys, time
import boto.ec2.connection
from boto.ec2.regioninfo import RegionInfo
from boto.exception import EC2ResponseError
port, version = int(sys.argv[1]), sys.argv[2]
class Connection(boto.ec2.connection.EC2Connection):
    def _required_auth_capability(self):
        return ['ec2'] if version == '2' else ['hmac-v4']
def connect(secret):
    return Connection(os.environ['AWS_ACCESS_KEY_ID'], secret, is_secure=False, port=port, path='/services/Cloud',
                      region=RegionInfo(name='nova', endpoint='127.0.0.1'))
c = connect(os.environ['AWS_SECRET_ACCESS_KEY'])
image = c.get_all_images(owners=['self'])[0]
r = c.run_instances(image.id, min_count=1, max_count=1, instance_type='m1.tiny', user_data='x' * 16384)
i = r.instances[0]
for _ in range(1800):
    if i.update() == 'running': break
    time.sleep(0.1)
print(i.state, i.state_code, i.private_ip_address != '', i.placement)
print(repr(i.get_console_output().output) != 'None', c.reboot_instances([i.id]))
k = c.create_key_pair('boto' + version); print(k.material.startswith('-----BEGIN'), c.delete_key_pair(k.name))
g = c.create_security_group('boto' + version, 'made by boto')
print(g.authorize('tcp', 80, 80, '0.0.0.0/0'), g.authorize(src_group=g), g.id[:3], len(c.get_all_security_groups([g.name])[0].rules))
print(g.revoke('tcp', 80, 80, '0.0.0.0/0'), g.delete())
print(c.get_all_zones(), c.get_all_regions(), c.get_all_security_groups())
print([x.id for x in c.terminate_instances([i.id])] == [i.id])
for bad, call in [(c, lambda x: x.get_all_instances(['i-000000ff'])), (connect('wrong'), lambda x: x.get_all_images())]:
    try: call(bad)
    except EC2ResponseError as e: print(e.status, e.error_code)
`;
for (const version of ['4', '2']) {
  test(`boto with signature version ${version} runs an instance from start to end`, { skip }, async () => {
    const { stdout } = await run(PYTHON, ['-c', BOTO, String(ec2_port), version], { env });

    assert.deepEqual(stdout.trim().split('\n'), [
      'running 16 True nova',
      'True True',
      'True True',
      'True True sg- 4',
      'True True',
      '[Zone:nova] [RegionInfo:nova] [SecurityGroup:default]',
      'True',
      '400 InvalidInstanceID.NotFound',
      '403 SignatureDoesNotMatch',
    ]);
  });
}
