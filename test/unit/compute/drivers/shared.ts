import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Aborted, Conflict, InstanceNotFound } from '../../../../src/common/errors.ts';
import type { ComputeDriver, FetchImage, GuestSpec } from '../../../../src/compute/drivers/driver.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';

/** One kind of driver on a host of its own, which goes away with the test. */
export interface DriverRig {
  driver: ComputeDriver;
  /** The driver of a nova-compute that was killed and started again on this host. */
  restarted(): Promise<ComputeDriver>;
  spec(over?: Partial<GuestSpec>): GuestSpec;
  fetch: FetchImage;
  /** Waits until the guest has come up `boots` times, as its console tells. */
  up(name: string, boots: number): Promise<void>;
}

const never = new AbortController().signal;

/** What holds for every driver: the same cases run on the fake, on QEMU and on libvirt. */
export function driverCases(kind: string, aRig: (t: TestContext) => Promise<DriverRig>): void {
  test(`${kind}: a spawned guest runs, is listed, and outlives nova-compute`, async (t) => {
    const { driver, restarted, spec, fetch, up } = await aRig(t);
    const guest = spec();

    await driver.spawn(guest, fetch, never);
    await up(guest.name, 1);

    const running = { name: guest.name, uuid: guest.uuid, state: PowerState.RUNNING };
    assert.deepEqual(await driver.getInfo(guest.name), running);
    assert.deepEqual(await driver.listInstances(), [running]);
    const again = await restarted();
    assert.deepEqual(await again.listInstances(), [running]);
    await again.spawn(guest, fetch, never); // a retry finds it running and leaves it alone
    assert.equal(boots(await again.getConsoleOutput(guest.name, 1 << 20)), 1);
  });

  test(`${kind}: a destroyed guest is gone, destroying it again succeeds, and its name is free`, async (t) => {
    const { driver, spec, fetch } = await aRig(t);
    const guest = spec();
    await driver.spawn(guest, fetch, never);

    await driver.destroy(guest.name, never);
    await driver.destroy(guest.name, never);

    assert.deepEqual(await driver.listInstances(), []);
    await assert.rejects(driver.getInfo(guest.name), InstanceNotFound);
    await assert.rejects(driver.getConsoleOutput(guest.name, 100), InstanceNotFound);
    await driver.spawn({ ...guest, uuid: '00000000-0000-4000-8000-0000000000ff' }, fetch, never);
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING);
  });

  test(`${kind}: reboots of both kinds end in a running guest, and the console keeps what was said before`, async (t) => {
    const { driver, spec, fetch, up } = await aRig(t);
    const guest = spec();
    await driver.spawn(guest, fetch, never);
    await up(guest.name, 1);

    await driver.reboot(guest, 'HARD', never);
    await up(guest.name, 2);
    await driver.reboot(guest, 'SOFT', never);
    await up(guest.name, 3);

    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING);
    const all = await driver.getConsoleOutput(guest.name, 1 << 20);
    assert.equal(boots(all), 3);
    const tail = await driver.getConsoleOutput(guest.name, 12);
    assert.equal(tail.length, 12);
    assert.ok((await driver.getConsoleOutput(guest.name, 1 << 20)).includes(tail)); // the guest may say more meanwhile
  });

  test(`${kind}: a soft reboot wakes a guest that is frozen for a snapshot, which shuts down, and the late thaw hears so`, async (t) => {
    const { driver, spec, fetch, up } = await aRig(t);
    const guest = spec();
    await driver.spawn(guest, fetch, never);
    await up(guest.name, 1);
    await driver.freeze(guest.name, 'snap-1', 600);
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.PAUSED);

    await driver.reboot(guest, 'SOFT', never);
    await up(guest.name, 2);

    if (kind !== 'fake') assert.match(await driver.getConsoleOutput(guest.name, 1 << 20), /TINY: power/);
    assert.equal(await driver.thaw(guest.name, 'snap-1'), false);
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING);
  });

  test(`${kind}: a guest of another instance under the same name is neither adopted nor replaced`, async (t) => {
    const { driver, spec, fetch } = await aRig(t);
    const guest = spec();
    await driver.spawn(guest, fetch, never);

    const other = spec({ uuid: '00000000-0000-4000-8000-0000000000ee' });
    await assert.rejects(driver.spawn(other, fetch, never), Conflict);
    await driver.destroy(other.name, never, other.uuid);

    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING);
  });

  test(`${kind}: a spawn that is given up makes no guest, and the next one works`, async (t) => {
    const { driver, spec, fetch } = await aRig(t);
    const guest = spec();

    await assert.rejects(driver.spawn(guest, fetch, AbortSignal.abort('deleted')), Aborted);

    assert.deepEqual(await driver.listInstances(), []);
    await driver.spawn(guest, fetch, never);
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING);
  });

  test(`${kind}: the host has processors, memory and disk space`, async (t) => {
    const { driver } = await aRig(t);

    const host = await driver.hostResources();

    for (const amount of [host.vcpus, host.memory_mb, host.local_gb, host.hypervisor_version])
      assert.ok(Number.isInteger(amount) && amount > 0, String(amount));
    const cpu = JSON.parse(host.cpu_info) as { arch: string; topology: { cores: number } };
    assert.equal(cpu.arch, 'x86_64');
    assert.ok(cpu.topology.cores > 0);
  });
}

/** How often a guest came up, from its console: the fake's line, or the tiny guest's. */
export const boots = (console_text: string): number =>
  console_text.match(/FAKE CONSOLE OUTPUT|TINY: ready/g)?.length ?? 0;
