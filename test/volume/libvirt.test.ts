import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { needs } from '../rigs/needs.ts';
import { volumeCases } from './guest_volumes.ts';
import { aLibvirtHost, LIBVIRT_HOST_NEEDS } from './libvirt_host.ts';

const skip = needs(...LIBVIRT_HOST_NEEDS);
const never = new AbortController().signal;

// One for the file: the first question to a new libvirtd takes seconds, since it looks at QEMU.
const host = skip ? undefined : aLibvirtHost({ after });

if (skip) test('volumes at guests of libvirt', { skip }, () => undefined);
else volumeCases('libvirt', async (t, flags) => (await host!).rig(t, flags));

test('libvirtd keeps no secret of a guest that let go of its volumes or is gone', { skip }, async (t) => {
  const { libvirtd, tgt, ...node } = await host!;
  const rig = await node.rig(t);
  const secrets = async () => (await libvirtd.virsh(['secret-list'])).trim();
  const guest = rig.spec();
  await rig.driver.spawn(guest, rig.fetch, never);
  await rig.up(guest.name, 1);
  const volume = await tgt.volume(20, 16);

  await rig.driver.attachVolume(guest.name, volume, never);
  assert.match(await secrets(), /vol-00000014/);
  await rig.driver.detachVolume(guest.name, volume.serial, never);
  assert.equal(await secrets(), '');
  await rig.driver.attachVolume(guest.name, volume, never);
  await rig.driver.destroy(guest.name, never, '00000000-0000-4000-8000-0000000000ff');
  assert.match(await secrets(), /vol-00000014/, 'what another instance left under its name is not its own');
  await rig.driver.destroy(guest.name, never);

  assert.equal(await secrets(), '');
});
