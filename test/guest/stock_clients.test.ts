import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestImage, type GuestImageFiles } from '../../scripts/guest_image.ts';
import { execute } from '../../src/common/execute.ts';
import { startDaemon, type Daemon } from '../rigs/daemon.ts';
import { startLibvirtd } from '../rigs/libvirtd.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';

/**
 * The clients that Debian ships, unmodified and with nothing but a sourced novarc, from files in a bucket to a real guest
 * and back, on one host: nova-all as flagfiles/single_host.flags has it (SQLite, no broker, libvirt, FlatDHCP).
 */
const AWS = '/usr/bin/aws'; // of 2022
const PYTHON = '/usr/bin/python3'; // which has python3-boto, the client of 2011
const skip =
  needs(
    'root',
    'nsenter',
    'unshare',
    'ip',
    'libvirtd',
    'qemu-system-x86_64',
    'dnsmasq',
    'curl',
    'ssh-keygen',
    'bash',
  ) ||
  [AWS, '/usr/lib/python3/dist-packages/boto'].filter((path) => !existsSync(path)).map((path) => `needs ${path}`)[0] ||
  false;
const BOOT_MS = 240_000;

interface Rig {
  host: Host;
  nova: Daemon;
  tiny: GuestImageFiles;
  dir: string;
  /** Runs a script of bash with the novarc sourced and the image's paths in $KERNEL, $RAMDISK, $ROOTFS. @returns what it prints */
  client(script: string, env?: Record<string, string>): Promise<string>;
  /** The same of Python with boto. */
  boto(script: string, env?: Record<string, string>): Promise<string>;
}

async function aRig(t: Scope): Promise<Rig> {
  const tiny = await guestImage(console.log);
  const [host] = (await startLan(t, ['node'])).hosts as [Host];
  await startLibvirtd(t, { host });
  const nova = await startDaemon(t, 'nova-all', {
    host,
    flags: {
      flagfile: join(projectRoot(), 'flagfiles/single_host.flags'),
      state_path: host.dir,
      libvirt_type: 'qemu',
      volume_driver: 'nova.volume.driver.FakeISCSIDriver', // not what this is about
      report_interval: 1,
    },
  });
  const dir = tempDir(t, 'clients');
  const manage = (...words: string[]) =>
    host.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${nova.flagfile}`, ...words]);
  await manage('user', 'create', 'ann');
  await manage('project', 'create', 'apollo', 'ann');
  await manage('network', 'create', '10.0.0.0/24', '1', '256');
  await manage('project', 'environment', 'apollo', 'ann', join(dir, 'novarc'));

  const client = async (script: string, more: Record<string, string> = {}) => {
    const env = { HOME: dir, KERNEL: tiny.kernel, RAMDISK: tiny.ramdisk, ROOTFS: tiny.rootfs, AWS_PAGER: '', ...more };
    const argv = ['bash', '--norc', '-euo', 'pipefail', '-c', `shopt -s expand_aliases; . ${dir}/novarc\n${script}`];
    return (await execute(argv, { cwd: dir, env, timeout_ms: BOOT_MS })).stdout.trim();
  };
  writeFileSync(join(dir, 'cloud.py'), CONNECT);
  const boto = (script: string, env: Record<string, string> = {}) => {
    writeFileSync(join(dir, 'script.py'), `from cloud import *\n${script}`);
    return client(`${PYTHON} -W ignore script.py`, { PYTHONPATH: dir, ...env });
  };
  return { host, nova, tiny, dir, client, boto };
}

/** As the tools of 2011 connected: addresses and keys from the environment. */
const CONNECT = `
import os, sys, time
from urllib.parse import urlparse
import boto
from boto.ec2.regioninfo import RegionInfo
from boto.s3.connection import S3Connection, OrdinaryCallingFormat
E = os.environ
ec2_url, s3_url = urlparse(E['EC2_URL']), urlparse(E['S3_URL'])
ec2 = boto.connect_ec2(E['EC2_ACCESS_KEY'], E['EC2_SECRET_KEY'], is_secure=False, port=ec2_url.port, path=ec2_url.path,
                       region=RegionInfo(None, 'nova', ec2_url.hostname))
s3 = S3Connection(E['EC2_ACCESS_KEY'], E['EC2_SECRET_KEY'], host=s3_url.hostname, port=s3_url.port, is_secure=False,
                  calling_format=OrdinaryCallingFormat())
def until(what, ask, seconds=200):
    end = time.time() + seconds
    while True:
        got = ask()
        if got: return got
        if time.time() > end: sys.exit('not in %d s: %s' % (seconds, what))
        time.sleep(0.5)
def state(i):
    i.update(); return i.state
def console(i):
    out = i.get_console_output().output or b''
    return out.decode() if isinstance(out, bytes) else out
`;

test(
  'boto, aws and curl each take a real guest from an image in a bucket to its end',
  { skip, timeout: 900_000 },
  async (t) => {
    const rig = await aRig(t);
    const { client, boto, dir } = rig;

    await t.test('boto puts kernel, ramdisk and disk into a bucket and registers them', async () => {
      const ids = await boto(`
bucket = s3.create_bucket('tiny')
ids = {}
for name in 'KERNEL', 'RAMDISK', 'ROOTFS':
    bucket.new_key(name.lower()).set_contents_from_filename(E[name])
ids['kernel'] = ec2.register_image(name='kernel', image_location='tiny/kernel')
ids['ramdisk'] = ec2.register_image(name='ramdisk', image_location='tiny/ramdisk')
ids['image'] = ec2.register_image(name='tiny', image_location='tiny/rootfs', kernel_id=ids['kernel'], ramdisk_id=ids['ramdisk'])
for image in ids.values(): until(image, lambda: ec2.get_image(image).state == 'available')
print(ids['kernel'], ids['ramdisk'], ids['image'])
`);
      assert.match(ids, /^aki-\w{8} ari-\w{8} ami-\w{8}$/);
      writeFileSync(join(dir, 'ids'), ids);
    });
    const [, , IMAGE = ''] = readFileSync(join(dir, 'ids'), 'utf8').split(' ');

    await t.test('boto: key pair, launch with user data, console, reboot, end', async () => {
      const said = await boto(
        `
key = ec2.create_key_pair('boto')
assert 'PRIVATE KEY' in key.material
i = ec2.run_instances(E['IMAGE'], key_name='boto', instance_type='m1.tiny', user_data='#!/bin/sh\\necho hello from boto\\n').instances[0]
until('running', lambda: state(i) == 'running')
out = until('metadata', lambda: 'TINY: metadata done' in console(i) and console(i))
assert 'TINY: instance-id %s' % i.id in out, out
assert 'TINY: script hello from boto' in out, out
assert 'TINY: key ssh-rsa' in out, out
i.reboot()
until('two boots', lambda: console(i).count('TINY: metadata done') == 2)
assert state(i) == 'running'
print(i.id, i.private_ip_address)
i.terminate()
until('terminated', lambda: state(i) == 'terminated')
assert ec2.get_only_instances() == [], ec2.get_only_instances()
`,
        { IMAGE },
      );
      assert.match(said, /^i-\w{8} 10\.0\.0\.\d+$/);
    });

    await t.test('aws: imported key, launch with user data, console, reboot, end', async () => {
      const said = await client(
        `
ssh-keygen -q -t rsa -N '' -f mine
nova-ec2 import-key-pair --key-name aws --public-key-material fileb://mine.pub >/dev/null
id=$(nova-ec2 run-instances --image-id $IMAGE --instance-type m1.tiny --key-name aws \\
  --user-data $'#!/bin/sh\\necho hello from aws\\n' --query 'Instances[0].InstanceId' --output text)
nova-ec2 wait instance-running --instance-ids $id
console() { nova-ec2 get-console-output --instance-id $id --query Output --output text; }
until console | grep -q 'TINY: metadata done'; do sleep 1; done
console | grep -a "TINY: instance-id $id"
console | grep -a 'TINY: script'
console | grep -aqF "TINY: key $(cut -d' ' -f1,2 mine.pub)"
nova-ec2 wait instance-status-ok --instance-ids $id
nova-ec2 reboot-instances --instance-ids $id
until [ $(console | grep -ac 'TINY: metadata done') = 2 ]; do sleep 1; done
nova-ec2 terminate-instances --instance-ids $id --query 'TerminatingInstances[0].CurrentState.Name' --output text
nova-ec2 wait instance-terminated --instance-ids $id
nova-ec2 describe-instances --instance-ids $id --query 'Reservations[].Instances[].State.[Name,Code]' --output text
`,
        { IMAGE },
      );
      assert.match(
        said.replaceAll('\r', ''),
        /^TINY: instance-id i-\w{8}\nTINY: script hello from aws\nshutting-down\nterminated\t48$/,
      );
    });

    await t.test('curl: handshake, launch, addresses, the guest answers, end', async () => {
      const said = await client(`
curl -sf -D head -o /dev/null -H "X-Auth-User: $NOVA_USERNAME" -H "X-Auth-Key: $NOVA_API_KEY" -H "X-Auth-Project-Id: $NOVA_PROJECT_ID" $NOVA_URL
field() { tr -d '\\r' <head | awk -F': ' -v name="$1" 'tolower($1) == name {print $2}'; }
url=$(field x-server-management-url); token=$(field x-auth-token)
json() { ${PYTHON} -c "import json, sys; a = json.load(sys.stdin); print($1)"; }
ask() { curl -sf -H "X-Auth-Token: $token" -H 'Content-Type: application/json' "$@"; }
image=$(ask $url/images | json "[i['id'] for i in a['images'] if i['name'] == 'tiny'][0]")
flavor=$(ask $url/flavors | json "[f['id'] for f in a['flavors'] if f['name'] == 'm1.tiny'][0]")
id=$(ask $url/servers -d "{\\"server\\": {\\"name\\": \\"web\\", \\"imageRef\\": \\"$image\\", \\"flavorRef\\": \\"$flavor\\"}}" | json "a['server']['id']")
until [ "$(ask $url/servers/$id | json "a['server']['status']")" = ACTIVE ]; do sleep 0.5; done
ask $url/servers/detail | json "*[s['name'] + ' ' + s['status'] for s in a['servers']]"
address=$(ask $url/servers/$id | json "list(a['server']['addresses'].values())[0][0]['addr']")
echo "$address" >address
echo $url $token $id >session
echo at $address
`);
      assert.match(said, /^web ACTIVE\nat 10\.0\.0\.\d+$/);

      // The guest's own web server says who it is, as the metadata service told it.
      const address = readFileSync(join(dir, 'address'), 'utf8').trim();
      const { stdout } = await rig.host.exec(
        ['sh', '-c', `until curl -sf -m 5 http://${address}/instance-id; do sleep 1; done`],
        { timeout_ms: BOOT_MS },
      );
      assert.match(stdout.trim(), /^i-\w{8}$/);

      assert.equal(
        await client(`
read -r url token id <session
curl -sf -X DELETE -H "X-Auth-Token: $token" $url/servers/$id
until [ "$(curl -s -o /dev/null -w '%{http_code}' -H "X-Auth-Token: $token" $url/servers/$id)" = 404 ]; do sleep 0.5; done
curl -sf -H "X-Auth-Token: $token" $url/servers`),
        '{"servers":[]}',
      );
    });

    await t.test('nothing of the guests is left on the host, and the log tells no secret', async () => {
      const { stdout } = await rig.host.exec(['virsh', '-q', '-c', 'qemu:///system', 'list', '--all', '--name']);
      assert.equal(stdout.trim(), '');
      const left = await rig.host.exec(['sh', '-c', `ls ${rig.host.dir}/instances | grep -v ^_base || true`]);
      assert.equal(left.stdout, '');
      const taps = await rig.host.exec(['sh', '-c', 'ip -br link | grep -c ^tap || true']);
      assert.equal(taps.stdout, '0\n');

      const novarc = readFileSync(join(dir, 'novarc'), 'utf8');
      const secret = /EC2_SECRET_KEY=(\S+)/.exec(novarc)?.[1] ?? assert.fail('no secret key in the novarc');
      const [, token = 'none'] = readFileSync(join(dir, 'session'), 'utf8').split(' ');
      for (const word of [secret, token, 'PRIVATE KEY'])
        assert.ok(!rig.nova.text().includes(word), 'a secret is logged');
    });
  },
);
