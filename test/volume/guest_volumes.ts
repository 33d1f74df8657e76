import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { guestImage } from '../../scripts/guest_image.ts';
import { sleep } from '../../src/common/clock.ts';
import { BackendUnavailable, Conflict, errorText, InstanceNotFound } from '../../src/common/errors.ts';
import { PowerState } from '../../src/compute/logic/power_state.ts';
import type { RealRig } from '../guest/compute/drivers/rig.ts';
import { allPids, readProc } from '../../scripts/proc.ts';
import type { Tgt } from '../rigs/tgt.ts';
import { until } from '../until.ts';

export interface VolumeRig extends RealRig {
  tgt: Tgt;
  /** Runs a command line in the guest. @returns what it said */
  shell(name: string, line: string): Promise<string>;
  /** The hypervisor pauses the guest, which nova-compute knows nothing of; or has it go on. */
  paused(name: string, paused: boolean): Promise<void>;
}

type Shell = VolumeRig['shell'];

/** A guest is up when its shell answers. */
export const withShell = (rig: RealRig, tgt: Tgt, shell: Shell, paused: VolumeRig['paused']): VolumeRig => ({
  ...rig,
  tgt,
  shell,
  paused,
  up: async (name, boots) => {
    await rig.up(name, boots);
    const ask = (guest: string) => shell(guest, 'echo here').catch(errorText); // it has no address yet
    await untilSaid({ shell: ask }, name, 'echo here', (said) => said === 'here');
  },
});

const never = new AbortController().signal;

/** `vdb`, or '' : by the serial, as guests are to look. */
export const diskOf = (serial: string) =>
  `for d in /sys/block/*; do [ "$(cat $d/serial 2>/dev/null)" = ${serial} ] && basename $d; done`;

/** Asks the guest until it says so. */
export async function untilSaid(
  rig: Pick<VolumeRig, 'shell'>,
  name: string,
  line: string,
  wanted: (said: string) => boolean,
): Promise<string> {
  let said = '';
  const ask = async () => {
    said = (await rig.shell(name, line)).trim();
    return wanted(said) && said;
  };
  return until(`${name} says to ${line} what it should`, ask, () => said);
}

/** What holds for every driver with real guests. */
export function volumeCases(
  kind: string,
  aRig: (t: TestContext, flags?: Record<string, unknown>) => Promise<VolumeRig>,
): void {
  test(`${kind}: a volume that is attached to a running guest is its disk, through reboots, until it is detached`, async (t) => {
    const rig = await aRig(t);
    const { driver, tgt, shell } = rig;
    const guest = rig.spec();
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const volume = await tgt.volume(10, 64);

    await driver.attachVolume(guest.name, volume, never);
    await driver.attachVolume(guest.name, volume, never); // a retry

    const disk = await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');
    assert.match(disk, /^vd[b-z]$/, 'one disk of it');
    assert.deepEqual((await driver.listVolumes()).get(guest.name), [volume.serial]);
    assert.equal(await tgt.sessions(volume), 1);
    assert.match(await shell(guest.name, `printf kept-bytes > /dev/${disk} && sync && echo ok`), /ok/);
    assert.equal(readFileSync(volume.file).subarray(0, 10).toString(), 'kept-bytes');
    assert.ok(
      !allPids().some((pid) => readProc(pid, 'cmdline').includes('secret-of-vol-10')),
      'no secret in a process list',
    );

    await driver.reboot({ ...guest, volumes: [volume] }, 'HARD', never);
    await rig.up(guest.name, 2);
    const after = await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');
    assert.match(await shell(guest.name, `head -c 10 /dev/${after}; echo`), /kept-bytes/);

    await driver.detachVolume(guest.name, volume.serial, never);
    await driver.detachVolume(guest.name, volume.serial, never);
    await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said === '');
    assert.deepEqual((await driver.listVolumes()).get(guest.name), []);
    assert.equal(await tgt.sessions(volume), 0);

    await driver.reboot(guest, 'HARD', never);
    await rig.up(guest.name, 3);
    assert.equal((await shell(guest.name, diskOf(volume.serial))).trim(), '');
  });

  test(`${kind}: what cannot be attached leaves nothing behind and says why`, async (t) => {
    const rig = await aRig(t);
    const { driver, tgt } = rig;
    const guest = rig.spec();
    const volume = await tgt.volume(11, 16);
    if (volume.connection.driver_volume_type !== 'iscsi') throw new Error('no iSCSI');
    await assert.rejects(driver.attachVolume(guest.name, volume, never), InstanceNotFound);
    await driver.detachVolume(guest.name, volume.serial, never); // no guest: it has nothing
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);

    const wrong = { ...volume, connection: { ...volume.connection, auth_password: 'not-the-password' } };
    await assert.rejects(driver.attachVolume(guest.name, wrong, never), (err: Error) => {
      assert.ok(err instanceof BackendUnavailable, String(err));
      assert.match(err.message, /did not get vol-0000000b: .*[Aa]uthentication failure/);
      assert.ok(!err.message.includes('not-the-password'));
      return true;
    });
    const nobody = { ...volume, connection: { ...volume.connection, target_portal: '127.0.0.1:1' } };
    await assert.rejects(driver.attachVolume(guest.name, nobody, never), /storage host does not answer at 127.0.0.1:1/);
    const fake = { ...volume, connection: { driver_volume_type: 'fake' as const } };
    await assert.rejects(driver.attachVolume(guest.name, fake, never), /only guests of the fake driver/);

    assert.deepEqual((await driver.listVolumes()).get(guest.name), []);
    await driver.attachVolume(guest.name, volume, never);
    assert.deepEqual((await driver.listVolumes()).get(guest.name), [volume.serial]);
  });

  test(`${kind}: a guest that does not let go keeps the volume, and is asked again by the next detach`, async (t) => {
    const rig = await aRig(t, { volume_detach_timeout: 2 });
    const { driver, tgt } = rig;
    const guest = rig.spec();
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const volume = await tgt.volume(12, 16);
    await driver.attachVolume(guest.name, volume, never);
    await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');

    await rig.paused(guest.name, true); // it hears nothing then
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.PAUSED);
    await assert.rejects(driver.detachVolume(guest.name, volume.serial, never), (err: Error) => {
      assert.ok(err instanceof Conflict, String(err));
      assert.match(err.message, /did not let go of vol-0000000c in 2 s/);
      return true;
    });
    assert.deepEqual((await driver.listVolumes()).get(guest.name), [volume.serial]);

    await rig.paused(guest.name, false);
    const patient = await rig.restarted();
    // 2 s may be short on a busy machine
    await until('the guest lets go', () =>
      patient.detachVolume(guest.name, volume.serial, never).then(
        () => true,
        (err: unknown) => (err instanceof Conflict ? false : Promise.reject(err)),
      ),
    );
    assert.deepEqual((await driver.listVolumes()).get(guest.name), []);
  });

  test(`${kind}: a detach waits for a guest that stands still for a snapshot`, async (t) => {
    const rig = await aRig(t, { volume_detach_timeout: 8 });
    const { driver, tgt } = rig;
    const guest = rig.spec();
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const volume = await tgt.volume(17, 16);
    await driver.attachVolume(guest.name, volume, never);
    await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');
    await driver.freeze(guest.name, 'test', 600);
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.PAUSED);

    const detached = driver.detachVolume(guest.name, volume.serial, never);
    await Promise.race([detached, sleep(10_000)]);
    assert.deepEqual((await driver.listVolumes()).get(guest.name), [volume.serial]);
    assert.equal(await driver.thaw(guest.name, 'test'), true);
    await detached;

    assert.deepEqual((await driver.listVolumes()).get(guest.name), []);
    assert.equal(await driver.thaw(guest.name, 'test'), false);
  });

  test(`${kind}: a volume that is detached by many at once is gone for each of them`, async (t) => {
    const rig = await aRig(t);
    const { driver, tgt } = rig;
    const guest = rig.spec();
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const volume = await tgt.volume(16, 16);
    for (let round = 0; round < 3; round++) {
      await driver.attachVolume(guest.name, volume, never);
      await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');
      // One after the other, so that somebody looks at every moment of it.
      const detached = Array.from({ length: 20 }, async (_, n) => {
        await sleep(n * 12);
        await driver.detachVolume(guest.name, volume.serial, new AbortController().signal);
        assert.deepEqual((await driver.listVolumes()).get(guest.name), []);
      });
      await Promise.all(detached);
    }
  });

  test(`${kind}: a volume attached anew takes the place of its ended attachment, and the guest lives on`, async (t) => {
    const rig = await aRig(t);
    const { driver, tgt, shell } = rig;
    const guest = rig.spec();
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const volume = await tgt.volume(13, 16);
    await driver.attachVolume(guest.name, volume, never);
    await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');

    await tgt.close(volume); // its detachment by force
    const again = await tgt.reopen(volume);
    await driver.attachVolume(guest.name, again, never);

    const disk = await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');
    assert.match(await shell(guest.name, `printf anew > /dev/${disk} && sync && echo ok`), /ok/);
    assert.equal(readFileSync(volume.file).subarray(0, 4).toString(), 'anew');
    assert.equal(await tgt.sessions(volume), 1);
  });

  test(`${kind}: a guest whose volume was taken away under its writes lives on, and a reboot frees it of the dead disk`, async (t) => {
    const rig = await aRig(t, { volume_detach_timeout: 2 });
    const { driver, tgt, shell } = rig;
    const guest = rig.spec();
    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);
    const volume = await tgt.volume(15, 64);
    await driver.attachVolume(guest.name, volume, never);
    const disk = await untilSaid(rig, guest.name, diskOf(volume.serial), (said) => said !== '');
    const writer = `(while :; do dd if=/dev/zero of=/dev/${disk} bs=1M count=32 conv=fsync; done) >/dev/null 2>&1 &`;
    await shell(guest.name, `${writer} echo ok`);
    await untilSaid(rig, guest.name, `awk '{print ($7 > 20000)}' /sys/block/${disk}/stat`, (said) => said === '1');

    await tgt.close(volume); // its kernel waits for these writes, and QEMU for the target
    await assert.rejects(driver.detachVolume(guest.name, volume.serial, never), /did not let go/);

    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING);
    assert.match(await shell(guest.name, 'echo alive'), /alive/);
    await driver.reboot(guest, 'HARD', never);
    await rig.up(guest.name, 2);
    assert.deepEqual((await driver.listVolumes()).get(guest.name), []);
    assert.equal(await tgt.sessions(volume), 0);
  });

  test(`${kind}: a guest boots from a volume, and finds it again after a reboot`, async (t) => {
    const rig = await aRig(t);
    const { driver, tgt, shell } = rig;
    const tiny = await guestImage(console.log);
    const root = await tgt.volume(14, 64, { boot: true, device: 'vda' });
    const file = await open(root.file, 'r+');
    await file.write(await readFile(tiny.rootfs));
    await file.close();
    const guest = rig.spec({ image: null, volumes: [root] });

    await driver.spawn(guest, rig.fetch, never);
    await rig.up(guest.name, 1);

    assert.match(await shell(guest.name, 'cat /sys/block/vda/serial; echo'), /vol-0000000e/);
    assert.match(await shell(guest.name, 'mount -o remount,rw /; echo here > /mark && sync && echo ok'), /ok/);
    await driver.reboot(guest, 'HARD', never);
    await rig.up(guest.name, 2);
    assert.match(await shell(guest.name, 'cat /mark'), /here/);
    await driver.destroy(guest.name, never);
    assert.equal(await tgt.sessions(root), 0);
  });
}
