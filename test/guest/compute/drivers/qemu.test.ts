import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { execute } from '../../../../src/common/execute.ts';
import { sleep } from '../../../../src/common/clock.ts';
import { METADATA_CONNECTIONS } from '../../../../src/compute/logic/metadata_slots.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { allPids, readProc } from '../../../../scripts/proc.ts';
import { needs } from '../../../rigs/needs.ts';
import { atEnd, tempDir, type Scope } from '../../../rigs/tmp.ts';
import { driverCases } from '../../../unit/compute/drivers/shared.ts';
import { until } from '../../../until.ts';
import { aRealRig } from './rig.ts';

const skip = needs('qemu-system-x86_64', 'qemu-img', 'socat', 'mke2fs', 'debugfs');
const never = new AbortController().signal;
const SECRET = 'shared by the daemons alone';

const aQemuRig = (t: TestContext, flags: Record<string, unknown> = {}) =>
  aRealRig(t, tempDir(t), { connection_type: 'qemu', ...flags });

if (skip) test('the QEMU driver', { skip }, () => undefined);
else driverCases('qemu', aQemuRig);

/** Processes whose arguments mention `words`; ended ones have none. */
function processes(words: string): number[] {
  return allPids().filter((pid) => readProc(pid, 'cmdline').includes(words));
}

/** A web server of the host's loopback that answers `answer`, and keeps the headers of what it was asked. */
async function aServer(scope: Scope, answer: (path: string) => string) {
  const asked: Record<string, unknown>[] = [];
  const server = createServer((req, res) => {
    asked.push(req.headers);
    res.end(answer(req.url ?? ''));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(scope, async () => void server.close());
  return { port: (server.address() as AddressInfo).port, asked };
}

const port = (console_text: string, guest_port: number): string =>
  new RegExp(`${guest_port} at (127[.]0[.]0[.]1:\\d+)`).exec(console_text)?.[1] ?? '';

test(
  'a guest has its fixed ip, is reached from loopback, and reads its metadata but not the host',
  { skip },
  async (t) => {
    const { port: metadata_port, asked } = await aServer(t, (path) =>
      path.endsWith('/instance-id') ? 'i-0000000a' : path.endsWith('/user-data') ? '#!/bin/sh\necho run as told' : 'x',
    );
    const secret_service = await aServer(t, () => 'what only this host may read');
    const { driver, spec, fetch, says } = await aQemuRig(t, { metadata_port, metadata_proxy_shared_secret: SECRET });
    const guest = spec();

    await driver.spawn(guest, fetch, never);
    const said = await says(guest.name, 'TINY: metadata done');

    assert.match(said, /TINY: ip eth0 10\.77\.0\.10\/24 router 10\.77\.0\.1 /);
    assert.match(said, /TINY: instance-id i-0000000a\r?\n/);
    assert.match(said, /TINY: script run as told/);
    assert.equal(asked[0]?.['x-instance-address'], '10.77.0.10');
    assert.equal(asked[0]?.['x-instance-signature'], createHmac('sha256', SECRET).update('10.77.0.10').digest('hex'));
    assert.equal((await fetchText(`http://${port(said, 80)}/`)).trim(), 'a tiny guest');

    const shell = (command: string) =>
      execute(['socat', '-t', '20', '-', `TCP:${port(said, 2222)}`], { input: `${command}\n` });
    const spoof = "wget -q -O - --header 'X-Instance-Address: 10.77.0.11' http://169.254.169.254/latest/";
    assert.equal((await shell(`timeout 10 ${spoof}`)).stdout, 'x');
    assert.equal(asked.at(-1)?.['x-instance-address'], '10.77.0.10');
    for (const host of ['10.77.0.1', '127.0.0.1'])
      assert.equal((await shell(`timeout 3 wget -q -O - http://${host}:${secret_service.port}/`)).stdout, '', host);
    assert.equal(secret_service.asked.length, 0);
  },
);

test(
  'a guest that opens many connections to its metadata and is silent has few processes of the host, and not for long',
  { skip },
  async (t) => {
    const { port: metadata_port } = await aServer(t, () => 'x');
    const rig = await aQemuRig(t, { metadata_port, metadata_proxy_shared_secret: SECRET });
    const guest = rig.spec();
    await rig.driver.spawn(guest, rig.fetch, never);
    const said = await rig.says(guest.name, 'TINY: metadata done');
    const shell = async (command: string) =>
      (await execute(['socat', '-t', '20', '-', `TCP:${port(said, 2222)}`], { input: `${command}\n` })).stdout;
    const served = () => processes(`metadata_connection.js\0${join(rig.instances_path, guest.name)}`).length;

    const silent = '(sleep 600 | nc 169.254.169.254 80) >/dev/null 2>&1 &';
    await shell(`for n in $(seq 40); do ${silent} done; echo ok`);
    await until('the guest has its share', () => served() === METADATA_CONNECTIONS);
    await sleep(3000); // the others ask again after a second
    assert.equal(served(), METADATA_CONNECTIONS);

    await until('silent ones end by themselves', () => served() < METADATA_CONNECTIONS);
    await shell('killall sleep; echo ok'); // of which each nc hears
    const read = 'timeout 10 wget -q -O - http://169.254.169.254/latest/';
    await until('it reads its metadata again', async () => (await shell(read)) === 'x');
  },
);

const fetchText = async (url: string): Promise<string> => (await fetch(url)).text();

test(
  "a guest's network comes back when its program was killed, at the next look at the guests",
  { skip },
  async (t) => {
    const { driver, spec, fetch: fetchImage, says, instances_path } = await aQemuRig(t);
    const guest = spec();
    await driver.spawn(guest, fetchImage, never);
    const said = await says(guest.name, /TINY: ip eth0/);
    const [network] = processes(`guest_net.js\0${join(instances_path, guest.name)}`);

    process.kill(network ?? 0, 'SIGKILL');
    await assert.rejects(fetch(`http://${port(said, 80)}/`, { signal: AbortSignal.timeout(3000) }));
    await driver.listInstances();

    assert.equal((await fetchText(`http://${port(said, 80)}/`)).trim(), 'a tiny guest');
  },
);

test(
  'a guest that powers itself off is known to be off, and a reboot starts it at the same ports',
  { skip },
  async (t) => {
    const { driver, spec, fetch: fetchImage, says, up } = await aQemuRig(t);
    const guest = spec();
    await driver.spawn(guest, fetchImage, never);
    const said = await says(guest.name, /TINY: ip eth0/);

    await execute(['socat', '-t', '5', '-', `TCP:${port(said, 2222)}`], { input: 'poweroff\n' });
    await until('it is off', async () => (await driver.getInfo(guest.name)).state === PowerState.SHUTOFF);
    await driver.reboot(guest, 'SOFT', never);

    await up(guest.name, 2);
    assert.equal(new Set((await says(guest.name, 'ready')).match(/guest: 22 at \S+/g)).size, 1);
  },
);

test('a whole-disk image boots by itself', { skip }, async (t) => {
  const { driver, spec, fetch: fetchImage, says, wholeDisk } = await aQemuRig(t);
  const guest = spec({ image: wholeDisk, kernel: null, ramdisk: null, root_gb: 1, ephemeral_gb: 1 });

  await driver.spawn(guest, fetchImage, never);

  assert.match(await says(guest.name, 'TINY: partitions'), /vda=1048576 .*vdb=1048576/);
});

test('a spawn killed at any moment is finished by the next, and destroy leaves no trace', { skip }, async (t) => {
  for (const after_ms of [0, 20, 50, 90, 130, 180, 250, 400]) {
    const { driver, spec, fetch: fetchImage, killedSpawn, instances_path } = await aQemuRig(t);
    const guest = spec();
    await killedSpawn(guest, after_ms);
    await driver.spawn(guest, fetchImage, never);
    assert.equal((await driver.listInstances())[0]?.state, PowerState.RUNNING, `${after_ms} ms`);

    await killedSpawn(guest, 0);
    await driver.destroy(guest.name, never);

    assert.deepEqual(await driver.listInstances(), []);
    assert.deepEqual(processes(instances_path), [], `${after_ms} ms`);
    assert.deepEqual(readdirSync(instances_path), ['_base']);
  }
});
