import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { BackendUnavailable, Conflict, InstanceNotFound } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { LibvirtDriver } from '../../../../src/compute/drivers/libvirt/driver.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { startLibvirtd, type Libvirtd } from '../../../rigs/libvirtd.ts';
import { needs } from '../../../rigs/needs.ts';
import { tempDir } from '../../../rigs/tmp.ts';
import { aNic } from '../../../unit/compute/drivers/specs.ts';
import { driverCases } from '../../../unit/compute/drivers/shared.ts';
import { aRealRig } from './rig.ts';

const skip = needs('root', 'libvirtd', 'virsh', 'qemu-system-x86_64', 'qemu-img', 'mke2fs', 'debugfs', 'nsenter');
const never = new AbortController().signal;

// One for the file: the first question to a new libvirtd takes seconds, since it looks at QEMU.
const libvirtd: Promise<Libvirtd> | undefined = skip ? undefined : aHostWithBridge();

async function aHostWithBridge(): Promise<Libvirtd> {
  const started = await startLibvirtd({ after });
  await started.host.exec(['ip', '-batch', '-'], {
    input: 'link add br100 type bridge\nlink set br100 up\naddr add 10.77.0.1/24 dev br100\n',
  });
  return started;
}

async function aLibvirtRig(t: TestContext, flags: Record<string, unknown> = {}) {
  const daemon = await libvirtd!;
  const ours = { connection_type: 'libvirt', libvirt_type: 'qemu', libvirt_uri: daemon.uri, ...flags };
  return { ...(await aRealRig(t, tempDir(t), ours)), daemon };
}

if (skip) test('the libvirt driver', { skip }, () => undefined);
else driverCases('libvirt', aLibvirtRig);

const taps = async ({ host }: Libvirtd): Promise<string[]> =>
  (await host.exec(['ip', '-o', 'link', 'show', 'master', 'br100'])).stdout.match(/\bnova\w+-\d+/g) ?? [];

test(
  'a guest lives through a libvirtd that is killed, and the driver says so until it is back',
  { skip },
  async (t) => {
    const { driver, spec, fetch, up, daemon } = await aLibvirtRig(t);
    const guest = spec();
    await driver.spawn(guest, fetch, never);

    await daemon.kill();
    for (const question of [
      () => driver.listInstances(),
      () => driver.getInfo(guest.name),
      () => driver.spawn(guest, fetch, never),
      () => driver.reboot(guest, 'HARD', never),
      () => driver.destroy(guest.name, never),
    ])
      await assert.rejects(question, (err) => {
        assert.ok(err instanceof BackendUnavailable, String(err));
        assert.match(err.message, /libvirtd does not answer at qemu\+unix:.*start it, or set --libvirt_uri/);
        return true;
      });
    await daemon.start();

    assert.deepEqual(await driver.listInstances(), [{ name: guest.name, uuid: guest.uuid, state: PowerState.RUNNING }]);
    await up(guest.name, 1);
    await driver.destroy(guest.name, never);
    assert.deepEqual(await taps(daemon), []);
  },
);

test(
  'a domain that another made under a guest name is neither listed, nor adopted, nor touched',
  { skip },
  async (t) => {
    const { driver, spec, fetch, daemon, instances_path } = await aLibvirtRig(t);
    const guest = spec();
    const xml = join(instances_path, 'foreign.xml');
    writeFileSync(
      xml,
      `<domain type='qemu'><name>${guest.name}</name><memory unit='MiB'>64</memory>
     <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>`,
    );
    await daemon.virsh(['define', xml]);

    assert.deepEqual(await driver.listInstances(), []);
    await assert.rejects(driver.getInfo(guest.name), InstanceNotFound);
    await assert.rejects(driver.spawn(guest, fetch, never), Conflict);
    await assert.rejects(driver.reboot(guest, 'HARD', never), Conflict);
    await driver.destroy(guest.name, never);

    assert.match(await daemon.virsh(['list', '--all', '--name']), new RegExp(guest.name));
    await daemon.virsh(['undefine', guest.name]);
  },
);

test('the guests of another cloud on the same libvirtd are not ours', { skip }, async (t) => {
  const one = await aLibvirtRig(t);
  const other = await aLibvirtRig(t);
  const guest = one.spec();
  await one.driver.spawn(guest, one.fetch, never);

  assert.deepEqual(await other.driver.listInstances(), []);
  await other.driver.destroy(guest.name, never);

  assert.equal((await one.driver.getInfo(guest.name)).state, PowerState.RUNNING);
});

test('destroy takes away a guest in whatever state it is, with its files and its tap', { skip }, async (t) => {
  const { driver, spec, fetch, daemon, instances_path } = await aLibvirtRig(t);
  const guest = spec();
  const states: Record<string, (uuid: string) => Promise<unknown>> = {
    running: async () => assert.deepEqual(await taps(daemon), ['novaa-0']),
    paused: (uuid) => daemon.virsh(['suspend', uuid]),
    'shut off': (uuid) => daemon.virsh(['destroy', uuid]),
    saved: (uuid) => daemon.virsh(['managedsave', uuid]),
    undefined: async (uuid) => {
      await daemon.virsh(['destroy', uuid]);
      await daemon.virsh(['undefine', uuid]);
    },
  };

  for (const [state, bring] of Object.entries(states)) {
    await driver.spawn(guest, fetch, never);
    await bring(guest.uuid);
    await driver.destroy(guest.name, never);

    assert.equal((await daemon.virsh(['list', '--all', '--name'])).trim(), '', state);
    assert.deepEqual(await taps(daemon), [], state);
    assert.deepEqual(readdirSync(instances_path), ['_base'], state);
  }
});

test('a reboot brings a paused, a saved and a lost domain back to running', { skip }, async (t) => {
  const { driver, spec, fetch, daemon } = await aLibvirtRig(t);
  const guest = spec();
  await driver.spawn(guest, fetch, never);

  for (const bring of [['suspend'], ['managedsave'], ['destroy'], ['destroy', 'undefine']]) {
    for (const command of bring) await daemon.virsh([command, guest.uuid]);
    await driver.reboot(guest, 'SOFT', never);
    assert.equal((await driver.getInfo(guest.name)).state, PowerState.RUNNING, bring.join());
  }
});

test('a guest without DHCP has the address and the key that were written into its disk', { skip }, async (t) => {
  const { driver, spec, fetch, says, daemon } = await aLibvirtRig(t);
  const nic = aNic({ address: '10.77.0.77', gateway: '10.77.0.1', broadcast: '10.77.0.255', dns: [], injected: true });
  const guest = spec({ nics: [nic], key_data: 'ssh-rsa AAAA somebody' });

  await driver.spawn(guest, fetch, never);

  const said = await says(guest.name, 'TINY: ip eth0 10.77.0.77/24 static');
  assert.match(said, /TINY: injected key ssh-rsa AAAA somebody/);
  await daemon.host.exec(['ping', '-c', '1', '-w', '20', '10.77.0.77']);
});

test('a whole-disk image boots by itself, with the second disk of its type', { skip }, async (t) => {
  const { driver, spec, fetch, says, wholeDisk } = await aLibvirtRig(t);

  const guest = spec({ image: wholeDisk, kernel: null, ramdisk: null, root_gb: 1, ephemeral_gb: 1 });
  await driver.spawn(guest, fetch, never);

  assert.match(await says(guest.name, 'TINY: partitions'), /vda=1048576 .*vdb=1048576/);
});

test('a spawn killed at any moment is finished by the next, and destroy leaves no trace', { skip }, async (t) => {
  for (const after_ms of [0, 30, 80, 130, 200, 300]) {
    const { driver, spec, fetch, killedSpawn, daemon, instances_path } = await aLibvirtRig(t);
    const guest = spec();
    await killedSpawn(guest, after_ms);
    await driver.spawn(guest, fetch, never);
    assert.equal((await driver.listInstances())[0]?.state, PowerState.RUNNING, `${after_ms} ms`);

    await driver.destroy(guest.name, never);

    assert.equal((await daemon.virsh(['list', '--all', '--name'])).trim(), '', `${after_ms} ms`);
    assert.deepEqual(readdirSync(instances_path), ['_base'], `${after_ms} ms`);
  }
});

test('a host that cannot run what the flags ask for says what to do, at the start', { skip }, async (t) => {
  const { uri } = await libvirtd!;
  const instances_path = join(tempDir(t), 'instances');
  const start = (flags: Record<string, unknown>) =>
    new LibvirtDriver({ flags: Flags.of({ instances_path, libvirt_type: 'qemu', ...flags }), log: silentLog }).initHost(
      never,
    );

  await assert.rejects(start({ libvirt_uri: 'qemu+unix:///system?socket=/nonexistent' }), BackendUnavailable);
  await assert.rejects(start({ libvirt_uri: uri, libvirt_cpu_mode: 'custom' }), /needs --libvirt_cpu_model/);
  assert.ok(existsSync(instances_path));
});
