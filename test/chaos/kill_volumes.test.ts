import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { aCloud, type Cloud } from '../rigs/cloud.ts';
import type { Daemon } from '../rigs/daemon.ts';
import { at, ec2, Ec2Error, instancesOf } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { until } from '../until.ts';

const VOLUMES = 16;
const KILLS = 24;

const random = (below: number): number => Math.floor(Math.random() * below);

const statusOf = async (cloud: Cloud, id: string): Promise<string> => {
  const row = await cloud.db
    .selectFrom('volumes')
    .select(['status', 'deleted'])
    .where('id', '=', Number.parseInt(id.slice('vol-'.length), 16))
    .executeTakeFirstOrThrow();
  return row.deleted === 1 ? 'deleted' : row.status;
};

async function becomes(cloud: Cloud, id: string, ...wanted: string[]): Promise<string> {
  const look = async () => {
    const status = await statusOf(cloud, id);
    return wanted.includes(status) && status;
  };
  return until(`${id} is ${wanted.join(' or ')}`, look, () => statusOf(cloud, id));
}

/** A volume's life as its user wants it, whatever is killed meanwhile. */
async function live(cloud: Cloud, instance: string, n: number): Promise<string> {
  await sleep(random(8000));
  const made = await ec2(cloud.ec2, 'CreateVolume', { Size: 1, AvailabilityZone: 'nova' });
  const id = String(at(made, 'volumeId'));
  if (n % 4 === 0) await sleep(random(500));
  else
    for (let cycle = 0; cycle < 3; cycle++) {
      if ((await becomes(cloud, id, 'available', 'error')) === 'error') break;
      await ec2(cloud.ec2, 'AttachVolume', {
        VolumeId: id,
        InstanceId: instance,
        Device: `/dev/vd${'bcdefghijklmnopq'[n]}`,
      });
      if (n % 3 === 0) {
        await sleep(random(1000));
        await detach(cloud, id, true);
      } else if ((await becomes(cloud, id, 'in-use', 'available')) === 'in-use') await detach(cloud, id, false);
    }
  await becomes(cloud, id, 'creating', 'available', 'error');
  await ec2(cloud.ec2, 'DeleteVolume', { VolumeId: id });
  return id;
}

async function detach(cloud: Cloud, id: string, force: boolean): Promise<void> {
  await ec2(cloud.ec2, 'DetachVolume', { VolumeId: id, Force: String(force) }).catch((err: unknown) => {
    // The attach that failed for good has ended it already.
    if (!(err instanceof Ec2Error && err.code === 'IncorrectState')) throw err;
  });
}

async function killDaemons(daemons: readonly Daemon[]): Promise<void> {
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(500 + random(1000));
    const victim = daemons[kill % daemons.length];
    await victim?.kill();
    await sleep(random(500));
    await victim?.start();
  }
}

test(
  `while nova-volume, nova-compute and nova-scheduler are killed ${KILLS} times, ${VOLUMES} volumes are made, attached, detached and deleted: none is stuck, and nothing of them is left`,
  { skip: needs('rabbitmq-server'), timeout: 900_000 },
  async (t) => {
    const rabbit = await startRabbitmq(t);
    const cloud = await aCloud(t, {
      broker: rabbit.flags,
      flags: { quota_volumes: -1, quota_gigabytes: -1, fake_volume_delay_ms: 60, rpc_response_timeout: 5 },
    });
    const params = { ImageId: cloud.image, InstanceType: 'm1.tiny', MinCount: 2, MaxCount: 2 };
    const launched = instancesOf(await ec2(cloud.ec2, 'RunInstances', params)).map((one) =>
      String(at(one, 'instanceId')),
    );
    await running(cloud, launched.length);
    const victims = cloud.killable.filter((daemon) =>
      ['nova-volume', 'nova-compute', 'nova-scheduler'].some((binary) => daemon.log_file.endsWith(`${binary}.log`)),
    );
    assert.equal(victims.length, 3);

    const [ids] = await Promise.all([
      Promise.all(Array.from({ length: VOLUMES }, (_, n) => live(cloud, launched[n % 2] ?? '', n))),
      killDaemons(victims),
    ]);
    for (const id of ids) await becomes(cloud, id, 'deleted');
    await settled(cloud);

    assert.equal(new Set(ids).size, VOLUMES);
    const attachments = await cloud.db.selectFrom('volume_attachments').select('attached_at').execute();
    const attached = attachments.filter(({ attached_at }) => attached_at !== null).length;
    t.diagnostic(`${attachments.length} attachments, ${attached} of them reached their guest`);
    assert.ok(attached > VOLUMES, 'most did');
    const live_attachments = cloud.db.selectFrom('volume_attachments').selectAll().where('deleted', '=', 0);
    assert.deepEqual(await live_attachments.execute(), [], 'no volume is attached');
    assert.deepEqual(await cloud.db.selectFrom('iscsi_targets').selectAll().execute(), [], 'no target number is taken');
    assert.deepEqual(JSON.parse(readFileSync(cloud.volumes_file, 'utf8')), { volumes: {}, snapshots: {}, exports: {} });
    assert.ok(existsSync(cloud.guests_file));
    assert.doesNotMatch(readFileSync(cloud.guests_file, 'utf8'), /vol-0/, 'no guest has one');
  },
);

async function running({ db }: Cloud, count: number): Promise<void> {
  const states = () => db.selectFrom('instances').select(['vm_state', 'fault']).execute();
  await until(
    'the instances run',
    async () => (await states()).filter(({ vm_state }) => vm_state === 'active').length === count,
    async () => JSON.stringify(await states()),
  );
}

/** Until no job is under way. */
async function settled({ db }: Cloud): Promise<void> {
  const jobs = db
    .selectFrom('jobs')
    .select(['id', 'topic', 'method', 'resource', 'state', 'attempt', 'error'])
    .where('state', 'in', ['queued', 'running']);
  const left = async () => JSON.stringify(await jobs.execute());
  await until('no job is under way', async () => (await left()) === '[]', left);
}
