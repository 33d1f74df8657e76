import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { instanceById } from '../../../../src/common/db/instances.ts';
import { setServiceDisabled } from '../../../../src/common/db/services.ts';
import { Aborted, BackendUnavailable, InvalidInput } from '../../../../src/common/errors.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { aContext } from '../../../builders.ts';
import { aSmallCloud, NOTHING_TAKEN } from '../../../small_cloud.ts';

const guestOf = (id: number): string => `instance-${id.toString(16).padStart(8, '0')}`;

test('a launch goes by networking and spawning to a guest that runs, with an address that DHCP gives', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver } = await cloud.computeHost('node1');
  const states: string[] = [];
  const note = async () => {
    const row = await cloud.db.selectFrom('instances').selectAll().executeTakeFirst();
    if (row) states.push(`${row.vm_state}/${row.task_state}`);
  };
  cloud.network_host.beforeDhcp = note;
  driver.beforeSpawn = note;

  const id = await cloud.launch({ display_name: 'web' });
  const { host, power_state, launched_on, launched_at, fault } = await cloud.until(id, 'active');

  assert.deepEqual(
    { host, power_state, launched_on, fault },
    { host: 'node1', power_state: PowerState.RUNNING, launched_on: 'node1', fault: null },
  );
  assert.ok(launched_at);
  assert.deepEqual([...new Set(states)], ['building/networking', 'building/spawning']);
  assert.deepEqual(await driver.listInstances(), [
    { name: guestOf(id), uuid: (await instanceById(cloud.db, id)).uuid, state: PowerState.RUNNING },
  ]);
  assert.deepEqual(await cloud.taken(), { memory_mb: 512, addresses: ['10.0.0.2'], cards: 1 });
  assert.deepEqual(
    cloud.network_host.dhcp.get('br100')?.hosts.map(({ address, hostname }) => [address, hostname]),
    [['10.0.0.2', 'web']],
  );
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'running']);
  assert.deepEqual(
    (await cloud.settledJobs(id)).map(({ topic, state, attempt }) => [topic, state, attempt]),
    [
      ['scheduler', 'done', 1],
      ['compute', 'done', 1],
    ],
  );
});

test('twenty launches on three hosts all run, each with its own guest and address', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { quota_instances: -1, quota_cores: -1 } });
  const hosts = [await cloud.computeHost('node1'), await cloud.computeHost('node2'), await cloud.computeHost('node3')];

  const ids = await Promise.all(Array.from({ length: 20 }, () => cloud.launch()));
  const rows = await Promise.all(ids.map((id) => cloud.until(id, 'active')));

  const guests = await Promise.all(hosts.map(({ driver }) => driver.listInstances()));
  assert.deepEqual(
    guests
      .flat()
      .map(({ uuid }) => uuid)
      .toSorted(),
    rows.map(({ uuid }) => uuid).toSorted(),
  );
  const { memory_mb, addresses } = await cloud.taken();
  assert.deepEqual([memory_mb, new Set(addresses).size], [20 * 512, 20]);
});

test('a launch that cannot work is in error with the reason, and gives back what it took', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver } = await cloud.computeHost('node1');
  driver.beforeSpawn = async () => {
    throw new InvalidInput('the image is no disk image');
  };

  const id = await cloud.launch();
  await cloud.until(id, 'error');
  const jobs = await cloud.settledJobs(id);

  const { fault, host, power_state } = await instanceById(cloud.db, id);
  assert.deepEqual(
    { fault, host, power_state },
    { fault: 'the image is no disk image', host: null, power_state: PowerState.FAILED },
  );
  assert.deepEqual(await cloud.taken(), NOTHING_TAKEN);
  assert.deepEqual(await driver.listInstances(), []);
  assert.deepEqual([jobs.at(-1)?.state, jobs.at(-1)?.error], ['failed', 'the image is no disk image']);
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'launch failed']);

  await cloud.api.terminate(aContext(), id);
  assert.equal((await instanceById(cloud.db, id, { deleted: true })).deleted, 1);
});

test('a hypervisor that is away for a moment costs a launch an attempt and nothing else', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver } = await cloud.computeHost('node1');
  let times = 0;
  driver.beforeSpawn = async () => {
    if (times++ === 0) throw new BackendUnavailable('libvirtd is away');
  };

  const id = await cloud.launch();
  await cloud.until(id, 'active');

  const [, job] = await cloud.settledJobs(id);
  assert.deepEqual([job?.state, job?.attempt, job?.error], ['done', 2, null]);
  assert.deepEqual(await cloud.story(id), [
    'asked for',
    'scheduled',
    'run_instance failed, will be tried again',
    'running',
  ]);
  assert.deepEqual(await cloud.taken(), { memory_mb: 512, addresses: ['10.0.0.2'], cards: 1 });
});

test('a launch into a full network waits for an address, says so, and can be given up', async (t) => {
  const cloud = await aSmallCloud(t);
  await cloud.computeHost('node1');
  await cloud.db.updateTable('networks').set({ cidr: '10.0.0.0/30', broadcast: '10.0.0.3' }).execute();
  await cloud.until(await cloud.launch(), 'active');

  const second = await cloud.launch();
  await cloud.untilTold(second, 'run_instance failed, will be tried again');
  const [waiting] = await eventsOf(cloud.db, `instance:${second}`).then((events) => events.slice(-1));
  await cloud.api.terminate(aContext(), second);
  await cloud.until(second, 'deleted');

  assert.match(waiting?.details ?? '', /network 10\.0\.0\.0\/30 has no free address/);
  assert.deepEqual(await cloud.taken(), { memory_mb: 512, addresses: ['10.0.0.2'], cards: 1 });
});

test('a deletion stops a launch that is slow and leaves nothing of it', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { fake_driver_spawn_delay_ms: 60_000 } });
  const { driver } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'building/spawning');

  await cloud.api.terminate(aContext(), id);
  await cloud.until(id, 'deleted');

  const [, run, terminate] = await cloud.settledJobs(id);
  assert.deepEqual(
    [run?.method, run?.state, run?.error, terminate?.method, terminate?.state],
    ['run_instance', 'failed', 'given up for terminate_instance', 'terminate_instance', 'done'],
  );
  assert.deepEqual(await driver.listInstances(), []);
  assert.deepEqual(await cloud.taken(), NOTHING_TAKEN);
  await cloud.network.periodicTasks();
  assert.deepEqual(cloud.network_host.dhcp.get('br100')?.hosts, []);
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'termination asked for', 'deleted']);
});

test('a launch that no host can take is in error at once, with the reason of each host', async (t) => {
  const cloud = await aSmallCloud(t);
  await cloud.computeHost('node1', { fake_driver_memory_mb: 600 });
  await cloud.computeHost('node2');
  await setServiceDisabled(cloud.db, 'node2', 'nova-compute', true);
  const stopped = await cloud.computeHost('node3', { fake_driver_memory_mb: 600 });
  await stopped.stop();

  const id = await cloud.launch();
  const { fault } = await cloud.until(id, 'error');

  assert.match(fault ?? '', /^no valid host for 1 vcpus, 512 MB, 0 GB\. /);
  assert.match(fault ?? '', /node1: memory_mb: 512 wanted, 132 free of 132/);
  assert.match(fault ?? '', /node2: disabled by the operator/);
  assert.match(fault ?? '', /node3: down: its nova-compute was stopped/);
  assert.deepEqual(await cloud.taken(), NOTHING_TAKEN);
  assert.deepEqual(await cloud.story(id), ['asked for', 'no valid host']);
});

test('a launch waits a moment for a host that would take it and is only down, and says what for', async (t) => {
  const cloud = await aSmallCloud(t);
  const before = await cloud.computeHost('node1');
  await before.stop();

  const id = await cloud.launch();
  await cloud.untilTold(id, 'run_instance failed, will be tried again');
  assert.equal((await instanceById(cloud.db, id)).task_state, 'scheduling');
  await cloud.computeHost('node1');

  await cloud.until(id, 'active');
});

test('a launch that is run again changes nothing', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');
  await cloud.settledJobs(id);
  const whole = async () => ({
    row: await instanceById(cloud.db, id),
    taken: await cloud.taken(),
    story: await cloud.story(id),
    guests: structuredClone(driver.guests),
  });
  const before = await whole();

  await manager.runInstance(aContext(), { instance_id: id });
  await cloud.scheduler.runInstance(aContext(), { instance_id: id });

  assert.deepEqual(await whole(), before);
});

test('a launch that two workers run at once is one guest, and the late one only gives up', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1', { fake_driver_spawn_delay_ms: 50 });
  const id = await cloud.launch();
  await cloud.until(id, 'building/spawning');

  const late = await Promise.allSettled([1, 2].map(() => manager.runInstance(aContext(), { instance_id: id })));

  for (const one of late) if (one.status === 'rejected') assert.ok(one.reason instanceof Aborted, String(one.reason));
  await cloud.until(id, 'active');
  await cloud.settledJobs(id);
  assert.deepEqual([...driver.guests.keys()], [guestOf(id)]);
  assert.deepEqual(await cloud.taken(), { memory_mb: 512, addresses: ['10.0.0.2'], cards: 1 });
  assert.deepEqual((await cloud.story(id)).filter((event) => event === 'running').length, 1);
});

test('a reboot boots the guest once more; one that fails leaves it as it is, with the reason', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');

  await cloud.api.reboot(aContext(), id);
  await cloud.settledJobs(id);
  assert.equal(driver.guests.get(guestOf(id))?.boots, 2);

  driver.reboot = async () => {
    throw new InvalidInput('its disk is gone');
  };
  await cloud.api.reboot(aContext(), id);
  await cloud.settledJobs(id);

  const { vm_state, task_state, fault } = await instanceById(cloud.db, id);
  assert.deepEqual(
    { vm_state, task_state, fault },
    { vm_state: 'active', task_state: null, fault: 'reboot failed: its disk is gone' },
  );
  assert.deepEqual((await cloud.story(id)).slice(3), [
    'reboot asked for',
    'rebooted',
    'reboot asked for',
    'reboot failed',
  ]);
});
