import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Aborted, BackendUnavailable } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import type { GuestSpec } from '../../../../src/compute/drivers/driver.ts';
import { FakeDriver } from '../../../../src/compute/drivers/fake.ts';
import { boots, driverCases, type DriverRig } from './shared.ts';
import { aGuestSpec } from './specs.ts';

const never = new AbortController().signal;
const noFetch = () => assert.fail('the fake driver fetches no image');

async function aFakeDriver(flags: Record<string, unknown> = {}): Promise<FakeDriver> {
  const driver = new FakeDriver({ flags: Flags.of(flags), log: silentLog });
  await driver.initHost();
  return driver;
}

async function aStateFile(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'nova-fake-'));
  t.after(() => rm(dir, { recursive: true }));
  return join(dir, 'guests.json');
}

async function aFakeRig(t: TestContext): Promise<DriverRig> {
  const fake_driver_state = await aStateFile(t);
  const driver = await aFakeDriver({ fake_driver_state });
  return {
    driver,
    restarted: () => aFakeDriver({ fake_driver_state }),
    spec: aGuestSpec,
    fetch: noFetch,
    up: async (name, times) => assert.equal(boots(await driver.getConsoleOutput(name, 1 << 20)), times),
  };
}

driverCases('fake', aFakeRig);

test('every guest is in the state file when its spawn returns, and no half-written file is left', async (t) => {
  const fake_driver_state = await aStateFile(t);
  const driver = await aFakeDriver({ fake_driver_state });
  const specs = Array.from({ length: 200 }, (_, i) => aGuestSpec({ name: `instance-${i}`, uuid: `uuid-${i}` }));

  await Promise.all(
    specs.map(async (spec: GuestSpec) => {
      await driver.spawn(spec, noFetch, never);
      const kept = JSON.parse(await readFile(fake_driver_state, 'utf8')) as Record<string, unknown>;
      assert.ok(Object.hasOwn(kept, spec.name));
    }),
  );

  assert.deepEqual(await readdir(join(fake_driver_state, '..')), ['guests.json']);
  // Twice: a start that is killed at once must not have forgotten them either.
  for (const _ of [1, 2]) assert.equal((await (await aFakeDriver({ fake_driver_state })).listInstances()).length, 200);
});

test('a fake guest that takes long to start can be given up at any moment', async () => {
  const driver = await aFakeDriver({ fake_driver_spawn_delay_ms: 60_000 });
  const abort = new AbortController();

  const spawn = driver.spawn(aGuestSpec(), noFetch, abort.signal);
  abort.abort('deleted');

  await assert.rejects(spawn, Aborted);
  assert.deepEqual(await driver.listInstances(), []);
});

test('the operations that are to fail do, and no other', async () => {
  const driver = await aFakeDriver({ fake_driver_failure_rate: 1, fake_driver_failing: ['reboot'] });

  await driver.spawn(aGuestSpec(), noFetch, never);

  await assert.rejects(driver.reboot(aGuestSpec(), 'SOFT', never), BackendUnavailable);
  await driver.destroy(aGuestSpec().name, never);
});

test('a state file that cannot be written ends the start with the flag and the reason', async () => {
  await assert.rejects(aFakeDriver({ fake_driver_state: '/dev/null/guests.json' }), {
    name: 'BackendUnavailable',
    message: /--fake_driver_state=\/dev\/null\/guests\.json: ENOTDIR.*can be written/,
  });
});
