import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { join } from 'node:path';
import { aCloud } from '../../rigs/cloud.ts';
import { needs } from '../../rigs/needs.ts';
import { tempDir } from '../../rigs/tmp.ts';

const AWS = '/usr/bin/aws'; // Debian's, of 2022: it knows no AWS_ENDPOINT_URL
const PYTHON = '/usr/bin/python3'; // Debian's, which has the package python3-boto

const scope = { after }; // the whole file: its tests share a cloud
const cloud = await aCloud(scope);
const rc = join(tempDir(scope, 'novarc'), 'novarc');
await cloud.manage('project', 'environment', 'apollo', 'ann', rc);

/** What a shell prints that sourced the novarc and has nothing else of a client's. @throws with its standard error */
const sourced = (script: string, ...args: string[]): string =>
  execFileSync('bash', ['-euc', `shopt -s expand_aliases; . "$0"\n${script}`, rc, ...args], {
    encoding: 'utf8',
    env: { PATH: `/usr/bin:${process.env['PATH']}`, HOME: '/dev/null', LC_ALL: 'C.UTF-8' },
    stdio: ['ignore', 'pipe', 'pipe'], // a socket as its input makes bash read /etc/bash.bashrc
    timeout: 120_000,
  });
/** aws, boto and others are away where nobody installed them. */
const without = (program: string, ...args: string[]): string | false => {
  try {
    execFileSync(program, args, { stdio: 'pipe', env: {} });
    return needs('bash');
  } catch {
    return `needs ${[program, ...args].join(' ')}: see scripts/setup`;
  }
};

test('aws with the alias nova-ec2 launches, sees and ends an instance', { skip: without(AWS, '--version') }, () => {
  const lines = sourced(
    `nova-ec2 describe-availability-zones --query 'AvailabilityZones[].ZoneName' --output text
     id=$(nova-ec2 run-instances --image-id "$1" --instance-type m1.tiny --query 'Instances[0].InstanceId' --output text)
     nova-ec2 wait instance-running --instance-ids $id
     nova-ec2 describe-instances --instance-ids $id --query 'Reservations[].Instances[].[State.Name,InstanceType]' --output text
     nova-ec2 terminate-instances --instance-ids $id --query 'TerminatingInstances[].CurrentState.Name' --output text`,
    cloud.image,
  );

  assert.deepEqual(lines.trimEnd().split('\n'), ['nova', 'running\tm1.tiny', 'shutting-down']);
});

test('aws with the alias nova-s3 keeps a file', { skip: without(AWS, '--version') }, () => {
  const out = sourced(
    `nova-s3 mb s3://shelf >/dev/null
     echo hello | nova-s3 cp - s3://shelf/greeting
     nova-s3 cp s3://shelf/greeting -
     nova-s3 ls`,
  );

  assert.match(out, /^hello\n.* shelf\n$/);
});

test('boto finds cloud and keys by the variables of 2011', { skip: without(PYTHON, '-c', 'import boto') }, () => {
  const out = sourced(
    `${PYTHON} -c '
import os, sys
from urllib.parse import urlparse
import boto
from boto.ec2.regioninfo import RegionInfo
url = urlparse(os.environ["EC2_URL"])
c = boto.connect_ec2(os.environ["EC2_ACCESS_KEY"], os.environ["EC2_SECRET_KEY"], is_secure=False, port=url.port,
                     path=url.path, region=RegionInfo(None, "nova", url.hostname))
print([z.name for z in c.get_all_zones()])
r = c.run_instances(sys.argv[1], instance_type="m1.tiny")
i = r.instances[0]
print(i.id.startswith("i-"), [x.id for x in c.get_only_instances()].count(i.id))
c.terminate_instances([i.id])
' "$1"`,
    cloud.image,
  );

  assert.deepEqual(out.trimEnd().split('\n'), ["['nova']", 'True 1']);
});

test('curl does the handshake of OpenStack clients of 2011 with the variables alone', { skip: needs('curl') }, () => {
  const out = sourced(
    `token=$(curl -sf -D - -o /dev/null -H "X-Auth-User: $NOVA_USERNAME" -H "X-Auth-Key: $NOVA_API_KEY" \\
       -H "X-Auth-Project-Id: $NOVA_PROJECT_ID" "$NOVA_URL" | tr -d '\\r')
     url=$(sed -n 's/^X-Server-Management-Url: //Ip' <<<"$token")
     curl -sf -H "X-Auth-Token: $(sed -n 's/^X-Auth-Token: //Ip' <<<"$token")" "\${url%/}/flavors"`,
  );

  const { flavors } = JSON.parse(out) as { flavors: { name: string }[] };
  assert.deepEqual(
    flavors.map(({ name }) => name),
    ['m1.tiny', 'm1.small', 'm1.medium', 'm1.large', 'm1.xlarge'],
  );
});

for (const [client, list] of [
  ['openstack', 'openstack flavor list -f value -c Name'],
  ['nova', `nova flavor-list | awk -F' *[|] *' 'NR > 3 && NF > 3 { print $3 }'`],
] as const)
  test(`${client} of today logs in by the variables alone`, { skip: needs(client) }, () => {
    assert.deepEqual(sourced(list).trimEnd().split('\n').toSorted(), [
      'm1.large',
      'm1.medium',
      'm1.small',
      'm1.tiny',
      'm1.xlarge',
    ]);
  });
