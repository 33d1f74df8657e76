import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sleep } from '../../../../../src/common/clock.ts';
import { Aborted, ProcessExecutionError } from '../../../../../src/common/errors.ts';
import { Flags } from '../../../../../src/common/flags.ts';
import { silentLog } from '../../../../../src/common/log.ts';
import type { GuestVolume } from '../../../../../src/common/volume_connection.ts';
import { QemuDriver } from '../../../../../src/compute/drivers/qemu/driver.ts';
import { PowerState } from '../../../../../src/compute/logic/power_state.ts';
import { tempDir } from '../../../../rigs/tmp.ts';
import { later } from '../../../../clock.ts';
import { until } from '../../../../until.ts';
import { aGuestSpec } from '../specs.ts';

const uuid = '00000000-0000-4000-8000-000000000001';

test('a guest whose console cannot be cut and one whose QEMU does not answer are listed with the others', async (t) => {
  const instances_path = tempDir(t);
  const [full, hangs] = ['instance-00000001', 'instance-00000002'].map((name) => join(instances_path, name));
  assert.ok(full !== undefined && hangs !== undefined);
  for (const folder of [full, hangs]) {
    mkdirSync(folder);
    writeFileSync(join(folder, 'guest.json'), JSON.stringify({ uuid }));
    const definition = { uuid, forwards: {}, address: null, network: null };
    writeFileSync(join(folder, 'qemu.json'), JSON.stringify(definition));
  }
  writeFileSync(join(full, 'console.log'), 'x'.repeat(1024 * 1024));
  mkdirSync(join(full, 'console.log.1.tmp')); // nothing can be written there, as on a full disk
  const argv = ['-c', 'while :; do sleep 1; done', '-daemonize', '-pidfile', join(hangs, 'qemu.pid')];
  const qemu = spawn('/bin/sh', argv, { stdio: 'ignore' });
  t.after(() => qemu.kill('SIGKILL'));
  await until('it runs', () => readFileSync(`/proc/${qemu.pid}/cmdline`, 'utf8').includes('-daemonize'));
  const driver = new QemuDriver({ flags: Flags.of({ instances_path }), log: silentLog });

  assert.deepEqual(await driver.listInstances(), [
    { name: 'instance-00000001', uuid, state: PowerState.SHUTOFF },
    { name: 'instance-00000002', uuid, state: PowerState.RUNNING },
  ]);
  assert.deepEqual([...(await driver.listVolumes())], []);
});

test('what is no guest is passed over, and one that cannot be read holds nobody up and is not said to be off', async (t) => {
  const instances_path = tempDir(t);
  const definition = JSON.stringify({ uuid, forwards: {}, address: null, network: null });
  for (const name of ['lost+found', 'instance-00000001', 'instance-00000002', 'instance-00000003'])
    mkdirSync(join(instances_path, name));
  // Not even root can read these.
  for (const file of ['lost+found/qemu.json', 'instance-00000002/qemu.json', 'instance-00000003/guest.json'])
    mkdirSync(join(instances_path, file));
  writeFileSync(join(instances_path, 'instance-00000001', 'qemu.json'), definition);
  const qemu_binary = join(instances_path, 'qemu');
  writeFileSync(qemu_binary, HANGING_QEMU, { mode: 0o755 });
  const flags = Flags.of({ instances_path, qemu_binary, qemu_img: qemu_binary });
  const driver = new QemuDriver({ flags, log: silentLog });

  await driver.initHost(new AbortController().signal);
  assert.deepEqual(await driver.listInstances(), [
    { name: 'instance-00000001', uuid, state: PowerState.SHUTOFF },
    { name: 'instance-00000002', uuid: null, state: PowerState.NOSTATE },
  ]);
});

/** Prints its version; else leaves its daemon half behind and waits for it, as where a volume's target does not answer. */
const HANGING_QEMU = `#!/bin/sh
[ "$1" = --version ] && exec echo QEMU emulator version 7.2.0
while :; do sleep 0.1; done &
echo $! >daemon
wait
`;

/** A host whose QEMU hangs as it starts a guest. */
async function aHangingStart(t: TestContext) {
  const instances_path = tempDir(t);
  const qemu_binary = join(instances_path, 'qemu');
  writeFileSync(qemu_binary, HANGING_QEMU, { mode: 0o755 });
  const driver = new QemuDriver({ flags: Flags.of({ instances_path, qemu_binary }), log: silentLog });
  const spec = aGuestSpec({ nics: [] });
  const folder = join(instances_path, spec.name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'guest.json'), JSON.stringify({ uuid: spec.uuid, root_format: 'raw' }));
  writeFileSync(join(folder, 'disk'), '');
  const deletion = new AbortController();
  const spawned = driver.spawn(spec, async () => undefined, deletion.signal);
  spawned.catch(() => undefined);
  await until('its daemon is there', () => existsSync(join(folder, 'daemon')));
  const state = async () => (await driver.getInfo(spec.name)).state;
  return { spawned, deletion, state };
}

test('a start that hangs ends with the deletion of its guest, and nothing of it runs on', async (t) => {
  const { spawned, deletion, state } = await aHangingStart(t);
  assert.equal(await state(), PowerState.RUNNING);

  deletion.abort('given up for terminate_instance');

  await assert.rejects(spawned, Aborted);
  assert.equal(await state(), PowerState.SHUTOFF);
});

test('a start that hangs is a failure after its time, and no running guest', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { spawned, state } = await aHangingStart(t);

  t.mock.timers.tick(60_000);
  t.mock.timers.reset();

  await assert.rejects(spawned, ProcessExecutionError);
  assert.equal(await state(), PowerState.SHUTOFF);
});

const A_VOLUME: GuestVolume = {
  volume_id: 1,
  serial: 'vol-00000001',
  device: 'vdc',
  size_gb: 1,
  boot: false,
  connection: { driver_volume_type: 'fake' },
};

/** A host on which a killed nova-compute left a QEMU that starts a guest; another start of it leaves `started`. */
async function aHalfStart(t: TestContext) {
  const instances_path = tempDir(t);
  const qemu_binary = join(instances_path, 'qemu');
  writeFileSync(qemu_binary, '#!/bin/sh\ntouch started\n', { mode: 0o755 });
  const driver = new QemuDriver({ flags: Flags.of({ instances_path, qemu_binary }), log: silentLog });
  const spec = aGuestSpec({ nics: [], volumes: [A_VOLUME] });
  const folder = join(instances_path, spec.name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'guest.json'), JSON.stringify({ uuid: spec.uuid, root_format: 'raw' }));
  writeFileSync(join(folder, 'disk'), '');
  const definition = { uuid: spec.uuid, forwards: {}, address: null, network: null };
  writeFileSync(join(folder, 'qemu.json'), JSON.stringify(definition));
  writeFileSync(join(folder, 'vol-00000001.secret'), 'secret');
  const argv = ['-c', 'while :; do sleep 1; done', '-daemonize', '-pidfile', join(folder, 'qemu.pid')];
  const qemu = spawn('/bin/sh', argv, { stdio: 'ignore' });
  t.after(() => qemu.kill('SIGKILL'));
  await until('it runs', () => readFileSync(`/proc/${qemu.pid}/cmdline`, 'utf8').includes('-daemonize'));
  const has = (file: string) => existsSync(join(folder, file));
  return { driver, spec, folder, qemu, has };
}

test('a QEMU that a killed nova-compute left half-started is no guest, and is started anew when it does not come up', async (t) => {
  const { driver, spec, qemu, has } = await aHalfStart(t);
  let done = false;

  const spawned = driver.spawn({ ...spec, volumes: [] }, async () => undefined, new AbortController().signal);
  void spawned.then(() => (done = true));
  await sleep(500);
  assert.equal(done, false, 'it may still come up');
  later(t, 61);
  await spawned;

  await until('the half-started one has ended', () => qemu.signalCode === 'SIGKILL');
  assert.equal(has('started'), true);
});

test('one that does come up is the guest, and its secrets are gone from its folder', async (t) => {
  const { driver, spec, folder, qemu, has } = await aHalfStart(t);
  const answer = '{"return":{}}\n{"return":{"status":"running"}}\n';
  const monitor = createServer((socket) => {
    socket.write('{"QMP":{}}\n');
    socket.on('data', () => socket.write(answer));
  }).listen(join(folder, 'qmp.sock'));
  t.after(() => monitor.close());

  await driver.spawn(spec, async () => undefined, new AbortController().signal);

  assert.deepEqual([qemu.exitCode, qemu.signalCode], [null, null]);
  assert.deepEqual([has('started'), has('vol-00000001.secret')], [false, false]);
});
