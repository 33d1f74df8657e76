import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { aCloud, type Cloud } from '../rigs/cloud.ts';
import { at, ec2, instancesOf } from '../rigs/ec2_client.ts';
import type { Daemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startRabbitmq, type Rabbitmq } from '../rigs/rabbitmq.ts';
import { until } from '../until.ts';

const skip = needs('rabbitmq-server');

interface Rig {
  cloud: Cloud;
  rabbit: Rabbitmq;
  /** The daemon of this name. */
  of(binary: string): Daemon;
}

async function aRig(t: TestContext, flags: Record<string, string | number> = {}): Promise<Rig> {
  const rabbit = await startRabbitmq(t);
  const cloud = await aCloud(t, { broker: rabbit.flags, flags });
  const of = (binary: string) => cloud.killable.find((one) => one.log_file.includes(`${binary}.log`)) as Daemon;
  return { cloud, rabbit, of };
}

const launch = ({ ec2: ann, image }: Cloud) =>
  ec2(ann, 'RunInstances', { ImageId: image, MinCount: 1, MaxCount: 1, InstanceType: 'm1.tiny' });

const states = async ({ ec2: ann }: Cloud) =>
  instancesOf(await ec2(ann, 'DescribeInstances')).map((one) => String(at(one, 'instanceState', 'name')));
const spawning = ({ db }: Cloud) =>
  db
    .selectFrom('instances')
    .select('id')
    .where('task_state', '=', 'spawning')
    .execute()
    .then((rows) => rows.length === 1);
const incarnations = async ({ db }: Cloud): Promise<Record<string, string>> =>
  Object.fromEntries(
    (await db.selectFrom('services').select(['binary', 'incarnation']).execute()).map((row) => [
      row.binary,
      row.incarnation,
    ]),
  );

test('each daemon ends in order at SIGTERM and is down at once, with and without its broker', { skip }, async (t) => {
  const { cloud, rabbit, of } = await aRig(t);
  const names = ['nova-api', 'nova-scheduler', 'nova-compute', 'nova-network'];
  for (const name of names) {
    assert.notEqual((await incarnations(cloud))[name], '', `${name} is up`);
    await of(name).stop();
    assert.equal(of(name).exit_code, 0, of(name).text().slice(-2000));
    assert.equal((await incarnations(cloud))[name], '', `${name} signed off`);
    assert.equal(of(name).log().at(-1)?.msg, 'service stopped');
    await of(name).start();
  }
  await rabbit.stop();
  for (const name of names) {
    await of(name).waitForLog('message broker went away, connecting again');
    await of(name).stop();
    assert.equal(of(name).exit_code, 0, of(name).text().slice(-2000));
    assert.equal((await incarnations(cloud))[name], '', `${name} signed off without a broker`);
  }
});

test('a launch under way at SIGTERM is finished first where the grace is long enough', { skip }, async (t) => {
  const { cloud, of } = await aRig(t, { fake_driver_spawn_delay_ms: 2000 });
  await launch(cloud);
  await until('it spawns', () => spawning(cloud));

  await of('nova-compute').stop();

  assert.equal(of('nova-compute').exit_code, 0);
  assert.deepEqual(await states(cloud), ['running']);
});

test('a launch that outlasts the grace is put back and goes on after the restart', { skip }, async (t) => {
  const { cloud, of } = await aRig(t, { fake_driver_spawn_delay_ms: 4000, graceful_stop_timeout: 1 });
  await launch(cloud);
  await until('it spawns', () => spawning(cloud));

  await of('nova-compute').stop();

  assert.equal(of('nova-compute').exit_code, 0);
  const jobs = cloud.db.selectFrom('jobs').select(['state', 'attempt', 'error']).where('topic', '=', 'compute');
  assert.deepEqual(await jobs.execute(), [{ state: 'queued', attempt: 0, error: null }]);
  assert.deepEqual(await states(cloud), ['pending']);

  await of('nova-compute').start();
  await until('it runs', async () => (await states(cloud))[0] === 'running');
  assert.deepEqual(await jobs.execute(), [{ state: 'done', attempt: 1, error: null }]);
});

test('the second SIGTERM ends at once, and nothing is lost by it', { skip }, async (t) => {
  const { cloud, of } = await aRig(t, { fake_driver_spawn_delay_ms: 3000 });
  const compute = of('nova-compute');
  await launch(cloud);
  await until('it spawns', () => spawning(cloud));

  compute.signal('SIGTERM');
  await compute.waitForLog('stopping');
  compute.signal('SIGTERM');
  await compute.ended();

  assert.equal(compute.exit_code, 1);
  assert.deepEqual(await states(cloud), ['pending'], 'it did not wait for the launch');
  await compute.start();
  await until('it runs', async () => (await states(cloud))[0] === 'running');
});

test('a request under way when nova-api is told to stop is answered first', { skip }, async (t) => {
  const { cloud, of } = await aRig(t);
  await launch(cloud);
  await until('it runs', async () => (await states(cloud))[0] === 'running');
  of('nova-compute').pause(); // so that the question for the console waits
  const asked = ec2(cloud.ec2, 'GetConsoleOutput', { InstanceId: 'i-00000001' });
  await sleep(1000);

  of('nova-api').signal('SIGTERM');
  await of('nova-api').waitForLog('stopping');
  await sleep(3000);
  of('nova-compute').resume();

  assert.equal(String(at(await asked, 'instanceId')), 'i-00000001');
  await of('nova-api').ended();
  assert.equal(of('nova-api').exit_code, 0);
});
