import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { execute } from '../../src/common/execute.ts';
import { aCloud, type Cloud } from '../rigs/cloud.ts';
import { at, ec2, Ec2Error, instancesOf } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startPostgres } from '../rigs/postgres.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, tempDir } from '../rigs/tmp.ts';
import { until } from '../until.ts';

/** A launch that is asked for until it is accepted; what it is told meanwhile is a 503 in EC2's form. @returns its id */
async function stubbornLaunch(cloud: Cloud, n: number, refusals: string[]): Promise<string> {
  for (;;) {
    try {
      const answer = await ec2(cloud.ec2, 'RunInstances', {
        ImageId: cloud.image,
        MinCount: 1,
        MaxCount: 1,
        InstanceType: 'm1.tiny',
        ClientToken: `launch-${n}`,
      });
      return String(at(instancesOf(answer)[0] ?? '', 'instanceId'));
    } catch (err) {
      if (!(err instanceof Ec2Error)) throw err;
      refusals.push(`${err.status} ${err.message}`);
      await sleep(300);
    }
  }
}

const running = async (cloud: Cloud): Promise<number> =>
  instancesOf(await ec2(cloud.ec2, 'DescribeInstances')).filter((one) => at(one, 'instanceState', 'name') === 'running')
    .length;

/** The OpenStack API's word on the same, asked with a token from before. */
async function openstackStatus(cloud: Cloud, token: string): Promise<string> {
  const answer = await fetch(`${cloud.openstack.url}apollo/servers`, { headers: { 'X-Auth-Token': token } });
  return `${answer.status} ${await answer.text()}`;
}
async function aToken({ openstack }: Cloud): Promise<string> {
  const headers = { 'X-Auth-User': openstack.user, 'X-Auth-Key': openstack.key };
  return (await fetch(openstack.url, { headers })).headers.get('x-auth-token') ?? '';
}

test(
  'PostgreSQL is away for ten seconds under launches: requests are 503 in words, and all goes on by itself',
  { skip: needs('rabbitmq-server', 'postgres'), timeout: 600_000 },
  async (t) => {
    const [rabbit, postgres] = await Promise.all([startRabbitmq(t), startPostgres(t)]);
    const cloud = await aCloud(t, {
      broker: rabbit.flags,
      sql_connection: (await postgres.createNovaDatabase()).replace('nova@', 'nova:geheim@'),
      flags: { quota_instances: -1, quota_cores: -1, quota_ram: -1, fake_driver_spawn_delay_ms: 500, verbose: true },
    });
    const token = await aToken(cloud);
    const refusals: string[] = [];
    const launches = Promise.all(
      Array.from({ length: 30 }, async (_, n) => {
        await sleep(n * 200);
        return stubbornLaunch(cloud, n, refusals);
      }),
    );

    await sleep(2000);
    await postgres.stop();
    await sleep(5000);
    const told = await openstackStatus(cloud, token);
    await sleep(5000);
    await postgres.start();

    const ids = await launches;
    assert.equal(new Set(ids).size, 30);
    await until('all thirty run', async () => (await running(cloud)) === 30);
    assert.match(
      told,
      /^503 \{"serviceUnavailable":\{"code":503,"message":"the database is away for now \(.*\); try again/,
    );
    assert.ok(refusals.length > 0);
    for (const text of refusals)
      assert.match(text, /^503 Unavailable: the database is away for now \([^)]*\); try again in a while$/);
    for (const daemon of cloud.killable) {
      assert.ok(daemon.running, 'no daemon ended');
      for (const secret of ['geheim', cloud.ec2.secret, token]) assert.ok(!daemon.text().includes(secret));
    }
    const claimed = await cloud.db.selectFrom('compute_nodes').select('vcpus_used').executeTakeFirstOrThrow();
    assert.equal(claimed.vcpus_used, 30);
    t.diagnostic(`${refusals.length} requests were refused meanwhile`);
  },
);

test(
  'PostgreSQL is away for twice --service_down_time: the launch that comes first when it is back waits for the hosts to report',
  { skip: needs('rabbitmq-server', 'postgres'), timeout: 600_000 },
  async (t) => {
    const [rabbit, postgres] = await Promise.all([startRabbitmq(t), startPostgres(t)]);
    const cloud = await aCloud(t, {
      broker: rabbit.flags,
      sql_connection: await postgres.createNovaDatabase(),
      flags: { report_interval: 4, service_down_time: 9, periodic_interval: 1 },
    });

    await postgres.stop();
    await sleep(18_000);
    const refusals: string[] = [];
    const launched = stubbornLaunch(cloud, 0, refusals);
    await postgres.start();
    const id = await launched;

    await until('it runs', async () => (await running(cloud)) === 1);
    const story = (await cloud.manage('explain', id)).split('\n');
    t.diagnostic(story.filter((line) => /no heartbeat/.test(line))[0] ?? 'the hosts reported before it came');
  },
);

test(
  'the disk of SQLite is full for a while: writes are 503 in words, reads are answered, and all goes on by itself',
  { skip: needs('root', 'mount', 'umount'), timeout: 600_000 },
  async (t) => {
    const disk = tempDir(t, 'disk');
    await execute(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', disk]);
    atEnd(t, async () => void (await execute(['umount', '-l', disk])));
    const cloud = await aCloud(t, { sql_connection: `sqlite:///${disk}/nova.sqlite`, flags: { report_interval: 1 } });
    const first = await stubbornLaunch(cloud, 0, []);
    await until('the first runs', async () => (await running(cloud)) === 1);
    await execute(['sh', '-c', `cat /dev/zero >${disk}/ballast || true`]);

    // A few writes still fit into what the file has; the heartbeat takes that, too.
    const refusals: string[] = [];
    const second = (async () => {
      const ids: string[] = [];
      for (let n = 1; refusals.length < 3 && n < 8; n++) ids.push(await stubbornLaunch(cloud, n, refusals));
      return ids;
    })();
    await until('writes are refused', () => refusals.length >= 3);
    assert.equal((await running(cloud)) >= 1, true);
    await execute(['rm', `${disk}/ballast`]);
    const ids = [first, ...(await second)];

    await until('all run', async () => (await running(cloud)) === ids.length);
    for (const text of refusals)
      assert.match(text, /^503 Unavailable: the database is away for now \(its disk is full\); try again/);
    assert.ok(cloud.killable[0]?.running);
  },
);
