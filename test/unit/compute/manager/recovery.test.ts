import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../../../src/common/clock.ts';
import { adminContext } from '../../../../src/common/context.ts';
import { instanceById } from '../../../../src/common/db/instances.ts';
import { BackendAway, BackendUnavailable, InvalidInput } from '../../../../src/common/errors.ts';
import { TASKS } from '../../../../src/common/instance_state.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { aContext } from '../../../builders.ts';
import { later } from '../../../clock.ts';
import { aSmallCloud, NOTHING_TAKEN, type SmallCloud } from '../../../small_cloud.ts';

const guestOf = (id: number): string => `instance-${id.toString(16).padStart(8, '0')}`;
/** A hypervisor that takes long to start a guest. */
const slowly = (_spec: unknown, signal: AbortSignal) => sleep(60_000, signal);
const stateOf = async (cloud: SmallCloud, id: number) => {
  const { vm_state, task_state, fault, host } = await instanceById(cloud.db, id);
  return { vm_state, task_state, fault, host };
};
/** The jobs that there were, each with its attempts. */
const attemptsOf = async (cloud: SmallCloud, id: number) =>
  (await cloud.settledJobs(id)).map(({ method, attempt }) => `${method} ${attempt}`);

// ------------------------------------------------------------------ the sweep

test('a launch whose job was lost before it had a host is scheduled by the sweep', async (t) => {
  const cloud = await aSmallCloud(t);
  await cloud.computeHost('node1');
  const { afterCommit } = cloud.db;
  cloud.db.afterCommit = () => undefined;
  const id = await cloud.launch();
  await cloud.db.deleteFrom('jobs').execute();
  cloud.db.afterCommit = afterCommit;

  await cloud.sweep();
  assert.deepEqual(await cloud.story(id), ['asked for']);
  later(t, 121);
  await cloud.report();
  await cloud.sweep();

  await cloud.until(id, 'active');
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduling had no job, cast again', 'scheduled', 'running']);
});

test('a launch whose job was lost at its host is gone on with there', async (t) => {
  const cloud = await aSmallCloud(t);
  const { stop } = await cloud.computeHost('node1');
  await stop();
  await cloud.db.updateTable('services').set({ incarnation: 'hung' }).where('host', '=', 'node1').execute();
  const id = await cloud.launch();
  await cloud.until(id, 'building/networking');
  await cloud.db.deleteFrom('jobs').where('topic', '=', 'compute').execute();
  await cloud.computeHost('node1');

  later(t, 301);
  await cloud.report();
  await cloud.sweep();

  await cloud.until(id, 'active');
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'networking had no job, cast again', 'running']);
});

test('a slow launch that is still under way gets more time, and its story says what it waits for', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { fake_driver_spawn_delay_ms: 60_000 } });
  await cloud.computeHost('node1');
  const id = await cloud.launch();
  const { task_deadline } = await cloud.until(id, 'building/spawning');

  later(t, 901);
  await cloud.report();
  await cloud.sweep();
  await cloud.sweep();

  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'still spawning']);
  assert.ok(((await instanceById(cloud.db, id)).task_deadline ?? '') > (task_deadline ?? ''));
  await cloud.api.terminate(aContext(), id);
  await cloud.until(id, 'deleted');
});

test('a launch whose host went down is in error and names it, and what it took is given back when the host returns', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, stop } = await cloud.computeHost('node1');
  driver.beforeSpawn = slowly;
  const id = await cloud.launch();
  await cloud.until(id, 'building/spawning');
  await stop();

  later(t, 901);
  await cloud.report('node1');
  await cloud.sweep();
  const fault = 'host node1 went down while i-00000001 was spawning';
  assert.deepEqual(await stateOf(cloud, id), { vm_state: 'error', task_state: null, fault, host: 'node1' });
  assert.equal((await cloud.story(id)).at(-1), 'given up: host down while spawning');

  const again = await cloud.computeHost('node1', {}, driver);
  await cloud.settledJobs(id);
  await again.manager.periodicTasks(adminContext());
  assert.deepEqual(await stateOf(cloud, id), { vm_state: 'error', task_state: null, fault, host: null });
  assert.deepEqual(await cloud.taken(), NOTHING_TAKEN);
});

test('a deletion whose host is down is finished without it, and the host takes the guest away when it returns', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { fixed_ip_disassociate_timeout: 600 } });
  const { driver, stop } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');
  await cloud.settledJobs(id);
  await stop();
  await cloud.api.terminate(aContext(), id);

  later(t, 301);
  await cloud.report('node1');
  await cloud.sweep();
  await cloud.until(id, 'deleted');
  const { memory_mb, addresses } = await cloud.taken();
  assert.deepEqual([memory_mb, addresses], [0, ['10.0.0.2']], 'the guest may still answer on its address');

  const again = await cloud.computeHost('node1', {}, driver);
  assert.deepEqual(await again.driver.listInstances(), []);
  assert.deepEqual((await cloud.story(id)).slice(-2), [
    'deleted without its host, which is down',
    'left-over guest taken away',
  ]);
  later(t, 601);
  await cloud.network.periodicTasks();
  assert.deepEqual(await cloud.taken(), NOTHING_TAKEN);
});

test('a reboot whose host is down ends, and the instance is as before, running or stopped', async (t) => {
  const cloud = await aSmallCloud(t);
  const { stop } = await cloud.computeHost('node1');
  const runs = await cloud.launch();
  await cloud.until(runs, 'active');
  const off = await cloud.launch();
  await cloud.until(off, 'active');
  await stop();
  await cloud.db.updateTable('instances').set({ vm_state: 'stopped' }).where('id', '=', off).execute();
  for (const id of [runs, off]) await cloud.api.reboot(aContext(), id);

  later(t, 301);
  await cloud.report('node1');
  await cloud.sweep();

  const { fault } = await cloud.until(runs, 'active');
  assert.match(fault ?? '', /^host node1 went down while i-00000001 was rebooting$/);
  await cloud.until(off, 'stopped');
});

// ------------------------------------------------------------------ peers that are away

test('a launch whose network is away for a while waits for it, and runs as soon as it is back', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { job_poll_interval: 1 } });
  await cloud.computeHost('node1');
  await cloud.stopNetwork();
  const id = await cloud.launch();
  await cloud.untilTold(id, 'run_instance waits for an answer');

  await cloud.nextTry(t, id);
  await cloud.nextTry(t, id);
  const { task_state, fault } = await stateOf(cloud, id);
  assert.deepEqual({ task_state, fault }, { task_state: 'networking', fault: null });
  await cloud.startNetwork();
  later(t, 11);

  await cloud.until(id, 'active');
  assert.deepEqual(await attemptsOf(cloud, id), ['run_instance 1', 'run_instance 1']);
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'run_instance waits for an answer', 'running']);
});

test('a reboot waits for a hypervisor that does not answer', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { job_poll_interval: 1 } });
  const { driver } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');
  driver.away = true;
  await cloud.api.reboot(aContext(), id);
  await cloud.untilTold(id, 'reboot_instance waits for an answer');
  await cloud.nextTry(t, id);
  assert.equal((await stateOf(cloud, id)).task_state, 'rebooting');

  driver.away = false;
  later(t, 11);

  const { fault } = await cloud.until(id, 'active');
  assert.equal(fault, null);
  assert.equal((await attemptsOf(cloud, id)).at(-1), 'reboot_instance 1');
});

test('a host whose hypervisor does not answer gets no guests until it does', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  driver.away = true;
  await assert.rejects(manager.periodicTasks(adminContext()), BackendAway);
  const id = await cloud.launch();
  const { fault } = await cloud.until(id, 'error');
  assert.match(fault ?? '', /node1: its hypervisor does not answer since 2.*Z: libvirtd does not answer$/);

  driver.away = false;
  await manager.periodicTasks(adminContext());

  await cloud.until(await cloud.launch(), 'active');
});

test('a launch whose network never comes back is in error, which says what did not answer for how long', async (t) => {
  const cloud = await aSmallCloud(t, { flags: { job_poll_interval: 1 } });
  await cloud.computeHost('node1');
  await cloud.stopNetwork();
  const id = await cloud.launch();
  await cloud.untilTold(id, 'run_instance waits for an answer');

  for (let s = 0; s + 50 < TASKS.networking.deadline_s; s += 50) await cloud.nextTry(t, id, 50);
  assert.equal((await stateOf(cloud, id)).vm_state, 'building');
  later(t, 50);

  const { fault } = await cloud.until(id, 'error');
  assert.match(fault ?? '', /^nobody serves the queue network \(asked again and again for \d+ s\)$/);
});

// ------------------------------------------------------------------ a host that starts again

test('a host that starts again goes on with the launches it had, and its guests run on', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, stop } = await cloud.computeHost('node1');
  const runs = await cloud.launch();
  await cloud.until(runs, 'active');
  const guest = structuredClone(driver.guests.get(guestOf(runs)));
  driver.beforeSpawn = slowly;
  const id = await cloud.launch();
  await cloud.until(id, 'building/spawning');

  await stop();
  driver.beforeSpawn = async () => undefined;
  await cloud.computeHost('node1', {}, driver);

  await cloud.until(id, 'active');
  assert.deepEqual(driver.guests.get(guestOf(runs)), guest);
  assert.deepEqual(await cloud.taken(), { memory_mb: 1024, addresses: ['10.0.0.2', '10.0.0.3'], cards: 2 });
  assert.deepEqual(await cloud.story(id), ['asked for', 'scheduled', 'running']);
});

test('what a failed launch took is given back later when its host cannot at once', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const { destroy } = driver;
  driver.beforeSpawn = async () => {
    throw new InvalidInput('the image is no disk image');
  };
  driver.destroy = async () => {
    throw new BackendUnavailable('libvirtd is away');
  };
  const id = await cloud.launch();
  await cloud.until(id, 'error');
  await manager.periodicTasks(adminContext());
  const fault = 'the image is no disk image';
  assert.deepEqual(await stateOf(cloud, id), { vm_state: 'error', task_state: null, fault, host: 'node1' });

  driver.destroy = destroy;
  await cloud.db.updateTable('jobs').set({ state: 'failed' }).execute(); // as when its lease ran out
  await manager.periodicTasks(adminContext());

  assert.deepEqual(await stateOf(cloud, id), { vm_state: 'error', task_state: null, fault, host: null });
  assert.deepEqual(await cloud.taken(), NOTHING_TAKEN);
});

// ------------------------------------------------------------------ reconciliation

test('an instance is stopped when its guest is found off, and active when it is found running again', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');
  await cloud.settledJobs(id);
  const guest = driver.guests.get(guestOf(id)) ?? assert.fail('no guest');
  const look = async (state: PowerState) => {
    guest.state = state;
    await manager.periodicTasks(adminContext());
    const { vm_state, power_state } = await instanceById(cloud.db, id);
    return [vm_state, power_state];
  };

  assert.deepEqual(await look(PowerState.SHUTOFF), ['stopped', PowerState.SHUTOFF]);
  assert.deepEqual(await look(PowerState.SHUTOFF), ['stopped', PowerState.SHUTOFF]);
  assert.deepEqual(await look(PowerState.CRASHED), ['stopped', PowerState.CRASHED]);
  assert.deepEqual(await look(PowerState.RUNNING), ['active', PowerState.RUNNING]);
  assert.deepEqual(await look(PowerState.PAUSED), ['active', PowerState.PAUSED]);
  assert.deepEqual((await cloud.story(id)).slice(3), [
    'found stopped',
    'found stopped',
    'found running',
    'found running',
  ]);

  driver.guests.clear();
  await manager.periodicTasks(adminContext());
  assert.equal((await instanceById(cloud.db, id)).vm_state, 'stopped');
});

test('a guest that starts while the guests are looked through is not taken for stopped', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const off = await cloud.launch();
  await cloud.until(off, 'active');
  let start: () => void = () => undefined;
  driver.beforeSpawn = () => new Promise((resolve) => (start = resolve));
  const launching = await cloud.launch();
  await cloud.until(launching, 'building/spawning');
  const guest = driver.guests.get(guestOf(off));
  assert.ok(guest);
  guest.state = PowerState.SHUTOFF; // as in the midst of a reboot

  driver.afterList = async () => {
    start();
    await cloud.until(launching, 'active');
    await cloud.api.reboot(aContext(), off);
    await cloud.settledJobs(off);
  };
  await manager.periodicTasks(adminContext());

  assert.deepEqual(await cloud.story(launching), ['asked for', 'scheduled', 'running']);
  assert.deepEqual((await cloud.story(off)).slice(2), ['running', 'reboot asked for', 'rebooted']);
  await cloud.until(off, 'active');
});

test('a stopped instance is started by a reboot', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');
  driver.guests.clear();
  await manager.periodicTasks(adminContext());
  await cloud.until(id, 'stopped');

  await cloud.api.reboot(aContext(), id);
  await cloud.settledJobs(id);

  await cloud.until(id, 'active');
  assert.equal(driver.guests.get(guestOf(id))?.state, PowerState.RUNNING);
});

test('guests of deleted instances go, those the database does not know stay, and work under way is left alone', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const [gone, lives] = [await cloud.launch(), await cloud.launch()];
  for (const id of [gone, lives]) await cloud.until(id, 'active');
  await cloud.settledJobs(gone);
  const guest = driver.guests.get(guestOf(gone)) ?? assert.fail('no guest');
  await cloud.api.terminate(aContext(), gone);
  await cloud.until(gone, 'deleted');
  driver.guests.set(guestOf(gone), guest); // the power came back before the deletion reached the disk
  driver.guests.set('instance-00000999', { ...guest, uuid: 'of-another-cloud' });
  driver.guests.set(guestOf(lives + 1), { ...guest, uuid: 'of-an-older-database' });
  driver.beforeSpawn = slowly;
  const starting = await cloud.launch();
  await cloud.until(starting, 'building/spawning');

  await manager.periodicTasks(adminContext());

  assert.deepEqual([...driver.guests.keys()].toSorted(), [guestOf(lives), guestOf(lives + 1), 'instance-00000999']);
  assert.equal((await cloud.story(gone)).at(-1), 'left-over guest taken away');
  const { vm_state, task_state } = await instanceById(cloud.db, starting);
  assert.deepEqual([vm_state, task_state], ['building', 'spawning']);
});

test('a guest that is being made is not taken away under its launch, though its row is deleted', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  let start: () => void = () => undefined;
  driver.beforeSpawn = () => new Promise((resolve) => (start = resolve));
  const id = await cloud.launch();
  const { uuid } = await cloud.until(id, 'building/spawning');
  const half = { uuid, state: PowerState.SHUTOFF, boots: 0 };
  driver.guests.set(guestOf(id), half);
  const gone = { deleted: 1, vm_state: 'deleted', task_state: null };
  await cloud.db.updateTable('instances').set(gone).where('id', '=', id).execute();

  await manager.periodicTasks(adminContext());
  assert.equal(driver.guests.get(guestOf(id)), half);

  start();
  await cloud.settledJobs(id);
  await manager.periodicTasks(adminContext());
  assert.equal(driver.guests.has(guestOf(id)), false);
});

test('what a host has given is counted anew, so that a wrong count lasts no longer than a period', async (t) => {
  const cloud = await aSmallCloud(t);
  const { manager } = await cloud.computeHost('node1');
  await cloud.until(await cloud.launch(), 'active');
  await cloud.db.updateTable('compute_nodes').set({ memory_mb_used: 77, vcpus_used: 99 }).execute();

  await manager.periodicTasks(adminContext());

  assert.equal((await cloud.taken()).memory_mb, 512);
});
