import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { aCloud, type Cloud } from '../rigs/cloud.ts';
import type { Daemon } from '../rigs/daemon.ts';
import { at, ec2, Ec2Error, instancesOf } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startPostgres, type Postgres } from '../rigs/postgres.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { until } from '../until.ts';

const LAUNCHES = 200;
/** Of five daemons in turn: five each. */
const KILLS = 25;
/** Launches begin in this time, which is about that of the kills. */
const LAUNCHING_MS = 40_000;
const BROKER_STOPS = 3;
/** Of PostgreSQL; the second is a crash. */
const DATABASE_STOPS = 3;
/** Every second one is deleted again, at a random time. */
const DELETED = (n: number): boolean => n % 2 === 0;

const random = (below: number): number => Math.floor(Math.random() * below);

/** Longer than all daemons, broker and database take to be back. */
const STUBBORN_MS = 180_000;

/** A request as a stubborn user makes it: as often as it takes, with a token that makes it the same request. */
async function stubborn<T>(ask: () => Promise<T>): Promise<T> {
  for (const started = Date.now(); ; await sleep(100 + random(400))) {
    try {
      return await ask();
    } catch (err) {
      if ((err instanceof Ec2Error && err.status < 500) || Date.now() - started > STUBBORN_MS) throw err;
    }
  }
}

async function launchAndDelete(cloud: Cloud, n: number): Promise<{ id: string; deleted: boolean }> {
  await sleep(random(LAUNCHING_MS));
  const params = {
    ImageId: cloud.image,
    InstanceType: 'm1.tiny',
    MinCount: 1,
    MaxCount: 1,
    ClientToken: `launch-${n}`,
  };
  const answer = await stubborn(() => ec2(cloud.ec2, 'RunInstances', params));
  const id = String(at(instancesOf(answer)[0] ?? '', 'instanceId'));
  if (!DELETED(n)) return { id, deleted: false };
  await sleep(random(10_000));
  await stubborn(() => ec2(cloud.ec2, 'TerminateInstances', { 'InstanceId.1': id })).catch((err: unknown) => {
    // A repeated deletion whose first answer was lost may find nothing: that is what was asked for.
    if (!(err instanceof Ec2Error && err.code === 'InvalidInstanceID.NotFound')) throw err;
  });
  return { id, deleted: true };
}

/** Kills and restarts daemons until all kills are spent. */
async function killDaemons(daemons: readonly Daemon[]): Promise<void> {
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(500 + random(1500));
    const victim = daemons[kill % daemons.length];
    await victim?.kill();
    await sleep(random(500));
    await victim?.start();
  }
}

async function chaos(t: TestContext, postgres?: Postgres): Promise<void> {
  const rabbit = await startRabbitmq(t);
  const cloud = await aCloud(t, {
    broker: rabbit.flags,
    ...(postgres === undefined ? {} : { sql_connection: await postgres.createNovaDatabase() }),
    flags: {
      sql_retry_interval: 1,
      sql_max_retries: -1, // by default 120 s, which are 12 here
      quota_instances: -1,
      quota_cores: -1,
      quota_ram: -1,
      fake_driver_spawn_delay_ms: 150,
    },
  });
  const breakBroker = async () => {
    for (let stop = 0; stop < BROKER_STOPS; stop++) {
      await sleep(6000 + random(2000));
      // Every message that waits at the broker is lost; what they stood for is in the job table.
      if (stop === 1) for (const queue of ['scheduler', 'compute.node1', 'network']) await rabbit.purge(queue);
      await rabbit.stop();
      await sleep(1000);
      await rabbit.start();
    }
  };

  const breakDatabase = async () => {
    for (let stop = 0; postgres !== undefined && stop < DATABASE_STOPS; stop++) {
      await sleep(5000 + random(3000));
      await (stop === 1 ? postgres.kill() : postgres.stop());
      await sleep(1000 + random(2000));
      await postgres.start();
    }
  };

  const [launched] = await Promise.all([
    Promise.all(Array.from({ length: LAUNCHES }, (_, n) => launchAndDelete(cloud, n))),
    killDaemons(cloud.killable),
    breakBroker(),
    breakDatabase(),
  ]);
  await settled(cloud);

  const rows = await cloud.db
    .selectFrom('instances')
    .select(['id', 'vm_state', 'task_state', 'fault', 'deleted', 'host'])
    .execute();
  assert.equal(new Set(launched.map(({ id }) => id)).size, LAUNCHES, 'every accepted launch is an instance of its own');
  assert.equal(rows.length, LAUNCHES, 'no launch was doubled');
  for (const { id, deleted } of launched) {
    const row = rows.find((one) => `i-${one.id.toString(16).padStart(8, '0')}` === id);
    assert.ok(row, `${id} is known`);
    if (deleted) assert.equal(row.deleted, 1, `${id} is gone`);
    else if (row.vm_state === 'error') assert.ok(row.fault, `${id} says why it is in error`);
    else assert.deepEqual([row.deleted, row.vm_state, row.task_state], [0, 'active', null], `${id} runs`);
  }
  await nothingLeftOver(cloud, rows);
  const errors = rows.filter((row) => row.deleted === 0 && row.vm_state === 'error');
  assert.ok(
    errors.length < LAUNCHES / 10,
    `${errors.length} ended in error: ${errors.map((row) => row.fault).join('; ')}`,
  );
  t.diagnostic(
    `${rows.filter((row) => row.vm_state === 'active').length} run, ${rows.filter((row) => row.deleted === 1).length} deleted, ${errors.length} in error`,
  );
  for (const fault of new Set(errors.map((row) => row.fault))) t.diagnostic(`in error: ${fault}`);
}

/** Until no task and no job is under way. */
async function settled({ db }: Cloud): Promise<void> {
  const tasks = db
    .selectFrom('instances')
    .select(['id', 'vm_state', 'task_state'])
    .where('deleted', '=', 0)
    .where('task_state', 'is not', null);
  const jobs = db
    .selectFrom('jobs')
    .select(['id', 'topic', 'method', 'resource', 'state', 'attempt', 'error'])
    .where('state', 'in', ['queued', 'running']);
  const left = async () => JSON.stringify([await tasks.execute(), await jobs.execute()]);
  await until('everything is done', async () => (await left()) === '[[],[]]', left);
}

interface Row {
  id: number;
  vm_state: string;
  deleted: number;
}

async function nothingLeftOver(cloud: Cloud, rows: readonly Row[]): Promise<void> {
  const running = rows.filter((row) => row.deleted === 0 && row.vm_state === 'active');
  const guests = Object.keys(JSON.parse(readFileSync(cloud.guests_file, 'utf8')) as object).toSorted();
  assert.deepEqual(
    guests,
    running.map((row) => `instance-${row.id.toString(16).padStart(8, '0')}`).toSorted(),
    'the guests are those that run',
  );
  const ips = await cloud.db
    .selectFrom('fixed_ips')
    .select(['address', 'instance_id'])
    .where('allocated', '=', 1)
    .execute();
  assert.deepEqual(
    ips.map((ip) => ip.instance_id).toSorted(),
    running.map((row) => row.id).toSorted(),
    'each has one address, and no other has one',
  );
  assert.equal(new Set(ips.map((ip) => ip.address)).size, ips.length, 'no address is given twice');
  const node = await cloud.db
    .selectFrom('compute_nodes')
    .select(['vcpus_used', 'memory_mb_used'])
    .executeTakeFirstOrThrow();
  const claimed = running.length;
  assert.deepEqual(
    [node.vcpus_used, node.memory_mb_used],
    [claimed, claimed * 512],
    'the host has given away what runs and no more',
  );
}

const skip = needs('rabbitmq-server', 'postgres');

test(
  'SQLite: killed daemons, a stopped broker and purged queues lose, double and strand nothing',
  { skip, timeout: 600_000 },
  (t) => chaos(t),
);

test(
  'PostgreSQL: killed daemons, a stopped broker, purged queues and a crashed database lose, double and strand nothing',
  { skip, timeout: 600_000 },
  async (t) => {
    const postgres = await startPostgres(t);
    await chaos(t, postgres);
  },
);
