import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { clock } from '../../../../src/common/clock.ts';
import { BackendAway, Conflict, InstanceNotFound, ProcessExecutionError } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { FakeDriver } from '../../../../src/compute/drivers/fake.ts';
import { FrozenGuests, type Freeze } from '../../../../src/compute/drivers/frozen.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { join } from 'node:path';
import { tempDir } from '../../../rigs/tmp.ts';
import { until } from '../../../until.ts';
import { aGuestSpec } from './specs.ts';

const never = new AbortController().signal;
const guest = aGuestSpec();

/** A host with one guest; `again` is its nova-compute after a kill. */
async function aHost(t: TestContext) {
  const flags = Flags.of({ fake_driver_state: join(tempDir(t), 'guests.json') });
  const again = async () => {
    const driver = new FakeDriver({ flags, log: silentLog });
    await driver.initHost();
    return driver;
  };
  const driver = await again();
  await driver.spawn(guest, async () => undefined, never);
  const state = async (of = driver) => (await of.getInfo(guest.name)).state;
  return { driver, again, state };
}

test('a frozen guest stands still until every key is thawed, and says whether it did all the while', async (t) => {
  const { driver, state } = await aHost(t);

  await driver.freeze(guest.name, 'snap-1', 600);
  await driver.freeze(guest.name, 'snap-2', 600);
  await driver.freeze(guest.name, 'snap-1', 600);
  assert.equal(await state(), PowerState.PAUSED);

  assert.equal(await driver.thaw(guest.name, 'snap-1'), true);
  assert.equal(await driver.thaw(guest.name, 'snap-1'), false);
  assert.equal(await state(), PowerState.PAUSED);
  assert.equal(await driver.thaw(guest.name, 'snap-2'), true);
  assert.equal(await state(), PowerState.RUNNING);
});

test('a guest whose time is over runs again by itself, and the thaw that is late hears so', async (t) => {
  const { driver, state } = await aHost(t);

  await driver.freeze(guest.name, 'snap-1', 0.05);
  await until('it runs', async () => (await state()) === PowerState.RUNNING);

  assert.equal(await driver.thaw(guest.name, 'snap-1'), false);
});

test('a nova-compute that starts after a kill ends the freeze of the one before when its time is over', async (t) => {
  const { driver, again, state } = await aHost(t);
  await driver.freeze(guest.name, 'snap-1', 600);

  const next = await again();
  await next.listInstances();
  assert.equal(await state(next), PowerState.PAUSED, 'its time is not over');
  const later = new Date(Date.now() + 601_000);
  t.mock.method(clock, 'now', () => later);
  await next.listInstances();

  assert.equal(await state(next), PowerState.RUNNING);
});

test('a nova-compute that ends in order leaves no guest frozen, and the thaw that is late hears so', async (t) => {
  const { driver, again, state } = await aHost(t);
  await driver.freeze(guest.name, 'snap-1', 600);
  await driver.freeze(guest.name, 'snap-2', 600);

  await driver.thawAll();

  assert.equal(await state(), PowerState.RUNNING);
  const next = await again();
  assert.equal(await next.thaw(guest.name, 'snap-1'), false);
  assert.equal(await state(next), PowerState.RUNNING);
});

test('a guest that somebody else had paused stays so, one that is off is not frozen, nor one that is not there', async (t) => {
  const { driver, state } = await aHost(t);
  const there = driver.guests.get(guest.name)!;

  there.state = PowerState.PAUSED;
  await driver.freeze(guest.name, 'snap-1', 600);
  assert.equal(await driver.thaw(guest.name, 'snap-1'), true);
  assert.equal(await state(), PowerState.PAUSED);

  there.state = PowerState.SHUTOFF;
  await assert.rejects(driver.freeze(guest.name, 'snap-1', 600), Conflict);
  await assert.rejects(driver.freeze('instance-000000ff', 'snap-1', 600), InstanceNotFound);
  assert.equal(await driver.thaw('instance-000000ff', 'snap-1'), false);
});

/** What FrozenGuests does to one guest, in order. */
function aGuest(state: PowerState = PowerState.RUNNING, resume: () => void = () => undefined) {
  const done: string[] = [];
  let kept: Freeze | undefined;
  const frozen = new FrozenGuests(
    {
      state: async () => state,
      pause: async () => {
        done.push('pause');
        state = PowerState.PAUSED;
      },
      resume: async () => {
        done.push('resume');
        resume();
        state = PowerState.RUNNING;
      },
      load: async () => kept,
      save: async (_name, freeze) => void (kept = freeze),
    },
    silentLog,
  );
  return { frozen, done };
}

test('a guest that is to shut down goes on first, whatever holds it, and the thaw that is late hears so', async () => {
  const { frozen, done } = aGuest();
  await frozen.freeze(guest.name, 'snap-1', 600);
  await frozen.freeze(guest.name, 'snap-2', 600);

  await frozen.release(guest.name);
  await frozen.release(guest.name);

  assert.deepEqual(done, ['pause', 'resume']);
  for (const key of ['snap-1', 'snap-2']) assert.equal(await frozen.thaw(guest.name, key), false);
});

test('one that somebody else had paused is not woken for it, and one that cannot go on ends no reboot', async () => {
  const theirs = aGuest(PowerState.PAUSED);
  await theirs.frozen.freeze(guest.name, 'snap-1', 600);
  await theirs.frozen.release(guest.name);
  assert.deepEqual(theirs.done, []);

  const stuck = aGuest(PowerState.RUNNING, () => {
    throw new Conflict('QEMU does not answer');
  });
  await stuck.frozen.freeze(guest.name, 'snap-1', 600);
  await stuck.frozen.release(guest.name);
  assert.deepEqual(stuck.done, ['pause', 'resume']);
});

test('a frozen guest that does not run again keeps no other from doing so; a hypervisor that is away is told of', async () => {
  const kept = new Map<string, Freeze | undefined>(
    ['stuck', 'fine'].map((name) => [name, { keys: { 'snap-1': '2011-04-15T00:00:00.000Z' }, resume: true }]),
  );
  let failure: Error = new ProcessExecutionError('cannot acquire state change lock');
  const frozen = new FrozenGuests(
    {
      state: async () => PowerState.PAUSED,
      pause: async () => undefined,
      resume: async (name) => {
        if (name === 'stuck') throw failure;
      },
      load: async (name) => kept.get(name),
      save: async (name, freeze) => void kept.set(name, freeze),
    },
    silentLog,
  );

  await frozen.sweep(['stuck', 'fine']);
  assert.equal(kept.get('fine'), undefined);
  assert.notEqual(kept.get('stuck'), undefined, 'the next period tries again');

  failure = new BackendAway('libvirtd does not answer');
  await assert.rejects(frozen.sweep(['stuck', 'fine']), BackendAway);
});

/** Two guests that are frozen; the first of them does not go on while it is `stuck`. */
async function twoFrozenGuests() {
  const states = new Map<string, PowerState>([
    ['stuck', PowerState.RUNNING],
    ['fine', PowerState.RUNNING],
  ]);
  const kept = new Map<string, Freeze | undefined>();
  const host = { states, stuck: true };
  const frozen = new FrozenGuests(
    {
      state: async (name) => states.get(name) ?? PowerState.SHUTOFF,
      pause: async (name) => void states.set(name, PowerState.PAUSED),
      resume: async (name) => {
        if (name === 'stuck' && host.stuck) throw new ProcessExecutionError('QEMU does not answer');
        states.set(name, PowerState.RUNNING);
      },
      load: async (name) => kept.get(name),
      save: async (name, freeze) => void kept.set(name, freeze),
    },
    silentLog,
  );
  for (const name of states.keys()) await frozen.freeze(name, 'snap-1', 600);
  return { frozen, host };
}

test('at an orderly stop a guest that does not go on leaves none of the others frozen, and is asked again', async () => {
  const { frozen, host } = await twoFrozenGuests();
  await assert.rejects(frozen.thaw('stuck', 'snap-1'), ProcessExecutionError);

  await frozen.thawAll();
  assert.equal(host.states.get('fine'), PowerState.RUNNING);
  assert.equal(host.states.get('stuck'), PowerState.PAUSED);

  host.stuck = false;
  await frozen.thawAll();
  assert.equal(host.states.get('stuck'), PowerState.RUNNING);
});

test('a pause that nobody knows the outcome of ends when its time is over', async () => {
  let state: PowerState = PowerState.RUNNING;
  let kept: Freeze | undefined;
  const frozen = new FrozenGuests(
    {
      state: async () => state,
      pause: async () => {
        state = PowerState.PAUSED;
        throw new ProcessExecutionError('no answer in 60000 ms');
      },
      resume: async () => void (state = PowerState.RUNNING),
      load: async () => kept,
      save: async (_name, freeze) => void (kept = freeze),
    },
    silentLog,
  );

  await assert.rejects(frozen.freeze(guest.name, 'snap-1', 0.05), /no answer/);
  assert.equal(state, PowerState.PAUSED);

  await until('it runs again', () => state === PowerState.RUNNING);
});
