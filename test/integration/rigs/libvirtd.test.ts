import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { needs } from '../../rigs/needs.ts';
import { startLan } from '../../rigs/netns.ts';
import { startLibvirtd, type Libvirtd } from '../../rigs/libvirtd.ts';
import { assertLeavesNothing } from './leftovers.ts';

const skip = needs('root', 'libvirtd', 'virsh', 'qemu-system-x86_64', 'nsenter', 'unshare', 'ip');

/** A guest without a disk or a system: it runs and does nothing. */
const DOMAIN = `<domain type='qemu'><name>empty</name><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>`;

async function startGuest(libvirtd: Libvirtd): Promise<void> {
  const file = join(libvirtd.host.dir, 'empty.xml');
  await writeFile(file, DOMAIN);
  await libvirtd.virsh(['create', file, '--paused']);
}

test('a guest outlives its killed libvirtd, and ends with the host', { skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const libvirtd = await startLibvirtd(scope);
    await startGuest(libvirtd);

    await libvirtd.kill();
    assert.match((await libvirtd.host.exec(['ps', '-e'])).stdout, /qemu-system/);
    await libvirtd.start();

    assert.equal((await libvirtd.virsh(['domstate', 'empty'])).trim(), 'paused');
    assert.equal((await libvirtd.host.exec(['virsh', '-q', 'list', '--name'])).stdout.trim(), 'empty');
  });
});

test('each host of a network has a libvirtd that knows its own guests alone', { skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const lan = await startLan(scope, ['h1', 'h2']);
    const [one, two] = [
      await startLibvirtd(scope, { host: lan.hosts[0]! }),
      await startLibvirtd(scope, { host: lan.hosts[1]! }),
    ];

    await startGuest(one);

    assert.equal((await one.virsh(['list', '--name'])).trim(), 'empty');
    assert.equal((await two.virsh(['list', '--name'])).trim(), '');
    assert.notEqual(await uuid(one), await uuid(two));
  });
});

const uuid = async (libvirtd: Libvirtd): Promise<string | undefined> =>
  /<uuid>(.*)<\/uuid>/.exec(await libvirtd.virsh(['capabilities']))?.[1];
