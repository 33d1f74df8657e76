import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { aCloud } from '../rigs/cloud.ts';
import { startDaemon } from '../rigs/daemon.ts';
import { at, ec2, Ec2Error, instancesOf, type Credentials } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startPostgres } from '../rigs/postgres.ts';
import { freePort } from '../rigs/free_port.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { until } from '../until.ts';

const LAUNCHES = 40;

/** Whoever asks after the other's termination is done finds nothing: that is what was asked for. */
const end = (api: Credentials, id: string): Promise<unknown> =>
  ec2(api, 'TerminateInstances', { 'InstanceId.1': id }).catch((err: unknown) => {
    if (!(err instanceof Ec2Error && err.code === 'InvalidInstanceID.NotFound')) throw err;
  });

test(
  'two of each daemon share the work, and nothing is done twice',
  { skip: needs('rabbitmq-server', 'postgres'), timeout: 600_000 },
  async (t) => {
    const [rabbit, postgres] = await Promise.all([startRabbitmq(t), startPostgres(t)]);
    const cloud = await aCloud(t, {
      broker: rabbit.flags,
      sql_connection: await postgres.createNovaDatabase(),
      flags: { quota_instances: -1, quota_cores: -1, quota_ram: -1, report_interval: 1 },
    });
    const second_port = await freePort();
    const second_guests = join(cloud.flagfile, '..', 'guests2.json');
    const flags = { ...cloud.flags, host: 'node2', fake_driver_state: second_guests };
    for (const binary of ['nova-network', 'nova-compute', 'nova-scheduler']) await startDaemon(t, binary, { flags });
    await startDaemon(t, 'nova-api', { flags: { ...flags, enabled_apis: 'ec2', ec2_listen_port: second_port } });
    const apis = [cloud.ec2, { ...cloud.ec2, url: cloud.ec2.url.replace(/:\d+/, `:${second_port}`) }];

    // Each launch is asked for at both APIs at once, with one token: it is one launch all the same.
    const both = (n: number) =>
      Promise.all(
        apis.map(async (api) => {
          const answer = await ec2(api, 'RunInstances', {
            ImageId: cloud.image,
            MinCount: 1,
            MaxCount: 1,
            InstanceType: 'm1.tiny',
            ClientToken: `launch-${n}`,
          });
          return String(at(instancesOf(answer)[0] ?? '', 'instanceId'));
        }),
      );
    const answered = await Promise.all(Array.from({ length: LAUNCHES }, (_, n) => both(n)));
    for (const [one, other] of answered) assert.equal(one, other);
    const ids = answered.map(([id = '']) => id);
    assert.equal(new Set(ids).size, LAUNCHES);
    const busy = cloud.db.selectFrom('jobs').select('id').where('state', 'in', ['queued', 'running']);
    const settled = () => until('no job is under way', async () => (await busy.execute()).length === 0);
    await settled();
    // Half of them are ended, at both APIs at once too.
    const ended = ids.slice(0, LAUNCHES / 2);
    await Promise.all(ended.flatMap((id) => apis.map((api) => end(api, id))));
    await settled();

    const rows = await cloud.db.selectFrom('instances').select(['id', 'host', 'vm_state', 'deleted']).execute();
    assert.equal(rows.length, LAUNCHES);
    const live = rows.filter((row) => row.deleted === 0);
    assert.deepEqual(
      live.map((row) => row.vm_state),
      Array<string>(LAUNCHES / 2).fill('active'),
    );
    const events = await cloud.db
      .selectFrom('events')
      .select((e) => ['event', e.fn.countAll().as('times')])
      .groupBy('event')
      .execute();
    const times = Object.fromEntries(events.map((row) => [row.event, Number(row.times)]));
    assert.deepEqual(
      [times['scheduled'], times['running'], times['termination asked for'], times['deleted']],
      [LAUNCHES, LAUNCHES, LAUNCHES / 2, LAUNCHES / 2],
    );
    const hosts = new Set(rows.map((row) => row.host));
    assert.deepEqual([...hosts].toSorted(), ['node1', 'node2'], 'both hosts got some');
    const guests = [cloud.guests_file, second_guests].flatMap((file) =>
      Object.keys(JSON.parse(readFileSync(file, 'utf8')) as object),
    );
    assert.deepEqual(
      guests.toSorted(),
      live.map((row) => `instance-${row.id.toString(16).padStart(8, '0')}`).toSorted(),
    );
    const ips = await cloud.db.selectFrom('fixed_ips').select('instance_id').where('allocated', '=', 1).execute();
    assert.deepEqual(ips.map((ip) => ip.instance_id).toSorted(), live.map((row) => row.id).toSorted());
    const nodes = await cloud.db.selectFrom('compute_nodes').select(['host', 'vcpus_used']).execute();
    for (const { host, vcpus_used } of nodes)
      assert.equal(vcpus_used, live.filter((row) => row.host === host).length, `claims of ${host}`);
    const workers = await cloud.db
      .selectFrom('events')
      .select('host')
      .where('event', '=', 'scheduled')
      .distinct()
      .execute();
    t.diagnostic(`scheduled by ${workers.map((row) => row.host).join(', ')}`);
    const { count } = await cloud.db
      .selectFrom('jobs')
      .select((e) => e.fn.countAll().as('count'))
      .where('attempt', '>', 1)
      .executeTakeFirstOrThrow();
    assert.equal(Number(count), 0, 'no job ran twice');
  },
);
