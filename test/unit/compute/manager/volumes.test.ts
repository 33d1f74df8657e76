import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { adminContext } from '../../../../src/common/context.ts';
import { volumeById, ec2VolumeId } from '../../../../src/common/db/volumes.ts';
import { attachmentOfVolume } from '../../../../src/common/db/volume_attachments.ts';
import { Conflict, InvalidInput } from '../../../../src/common/errors.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { aContext } from '../../../builders.ts';
import { later } from '../../../clock.ts';
import { aSmallCloud } from '../../../small_cloud.ts';
import { until } from '../../../until.ts';

const guestOf = (id: number): string => `instance-${id.toString(16).padStart(8, '0')}`;

/** A cloud with one compute host and one storage host. */
async function aCloud(t: TestContext) {
  const cloud = await aSmallCloud(t);
  const compute = await cloud.computeHost('node1');
  const storage = await cloud.storageHost('stor1');
  const exports = () => Object.keys(storage.driver.store.exports);
  return {
    ...cloud,
    compute,
    storage,
    async instance() {
      const id = await cloud.launch();
      await cloud.until(id, 'active');
      return id;
    },
    /** Serials that a guest has. */
    has: (id: number) => compute.driver.guests.get(guestOf(id))?.volumes,
    /** Volumes that somebody may reach. */
    exports,
    untilNoExports: () =>
      until(
        'nothing is exported',
        () => exports().length === 0,
        () => exports().join(),
      ),
  };
}

test('an attached volume is in-use, its guest has it, and a detached one is available and nobody may reach it', async (t) => {
  const cloud = await aCloud(t);
  const instance = await cloud.instance();
  const volume_id = await cloud.volume();

  const asked = await cloud.volumes.attach(aContext(), { volume_id, instance, device: '/dev/vdc' });
  assert.equal(asked.status, 'attaching');
  await cloud.untilVolume(volume_id, 'in-use');

  assert.deepEqual(cloud.has(instance), [ec2VolumeId(volume_id)]);
  assert.deepEqual(cloud.exports(), ['volume-00000001']);
  assert.equal((await attachmentOfVolume(cloud.db, volume_id))?.status, 'attached');

  await cloud.volumes.detach(aContext(), { volume_id });
  await cloud.untilVolume(volume_id, 'available');
  assert.deepEqual(cloud.has(instance), []);
  await cloud.untilNoExports();
  const story = await cloud.story(instance);
  assert.ok(story.includes('volume attached') && story.includes('volume detached'), String(story));
});

test('a reboot and a restart of the guest keep what is attached, and nothing else', async (t) => {
  const cloud = await aCloud(t);
  const instance = await cloud.instance();
  const [kept, gone] = [await cloud.volume(), await cloud.volume()];
  for (const volume_id of [kept, gone]) {
    await cloud.volumes.attach(aContext(), { volume_id, instance });
    await cloud.untilVolume(volume_id, 'in-use');
  }
  await cloud.volumes.detach(aContext(), { volume_id: gone });
  await cloud.untilVolume(gone, 'available');

  await cloud.api.reboot(aContext(), instance, 'HARD');
  await cloud.untilTold(instance, 'rebooted');

  assert.deepEqual(cloud.has(instance), [ec2VolumeId(kept)]);
});

test('a volume attached to a stopped instance is there when it starts', async (t) => {
  const cloud = await aCloud(t);
  const instance = await cloud.instance();
  const guest = cloud.compute.driver.guests.get(guestOf(instance))!;
  guest.state = PowerState.SHUTOFF;
  await cloud.compute.manager.periodicTasks(adminContext());
  await cloud.until(instance, 'stopped');
  const volume_id = await cloud.volume();

  await cloud.volumes.attach(aContext(), { volume_id, instance });
  await cloud.untilVolume(volume_id, 'in-use');
  await cloud.api.reboot(aContext(), instance);
  await cloud.until(instance, 'active');

  assert.deepEqual(cloud.has(instance), [ec2VolumeId(volume_id)]);
});

test('an attach that cannot work leaves the volume available with the reason, and nobody may reach it', async (t) => {
  const cloud = await aCloud(t);
  const instance = await cloud.instance();
  const volume_id = await cloud.volume();
  cloud.compute.driver.beforeAttach = async () => {
    throw new Conflict('no free slot for another disk');
  };

  await cloud.volumes.attach(aContext(), { volume_id, instance });
  await cloud.untilTold(instance, 'volume attaching failed');
  const { fault } = await cloud.untilVolume(volume_id, 'available');

  assert.equal(fault, 'not attached: no free slot for another disk');
  assert.equal(await attachmentOfVolume(cloud.db, volume_id), undefined);
  await cloud.untilNoExports();
  cloud.compute.driver.beforeAttach = async () => undefined;
  await cloud.volumes.attach(aContext(), { volume_id, instance });
  assert.equal((await cloud.untilVolume(volume_id, 'in-use')).fault, null);
});

test('a guest that does not let go keeps its volume, with the reason; by force it is free at once', async (t) => {
  const cloud = await aCloud(t);
  const instance = await cloud.instance();
  const volume_id = await cloud.volume();
  await cloud.volumes.attach(aContext(), { volume_id, instance });
  await cloud.untilVolume(volume_id, 'in-use');
  cloud.compute.driver.beforeDetach = async () => {
    throw new Conflict('the guest did not let go');
  };

  await cloud.volumes.detach(aContext(), { volume_id });
  await cloud.untilTold(instance, 'volume detaching failed');
  const { fault } = await cloud.untilVolume(volume_id, 'in-use');
  assert.equal(fault, 'not detached: the guest did not let go');
  assert.deepEqual(cloud.has(instance), [ec2VolumeId(volume_id)]);

  await cloud.volumes.detach(aContext(), { volume_id, force: true });
  await cloud.untilVolume(volume_id, 'available');
  await cloud.untilNoExports();
  cloud.compute.driver.beforeDetach = async () => undefined;
  await cloud.compute.manager.periodicTasks(adminContext());
  await until('the dead disk goes when it can', () => cloud.has(instance)?.length === 0);
});

test('what a killed nova-compute left between guest and database is put right when it starts again', async (t) => {
  const cloud = await aCloud(t);
  const instance = await cloud.instance();
  const [lost, stray] = [await cloud.volume(), await cloud.volume()];
  await cloud.volumes.attach(aContext(), { volume_id: lost, instance });
  await cloud.untilVolume(lost, 'in-use');
  await cloud.compute.stop();
  cloud.compute.driver.guests.get(guestOf(instance))!.volumes = [ec2VolumeId(stray)];

  await cloud.computeHost('node1', {}, cloud.compute.driver);

  await until(
    'the guest has what it had',
    () => String(cloud.has(instance)) === ec2VolumeId(lost),
    () => `it has ${String(cloud.has(instance))}`,
  );
  assert.equal((await volumeById(cloud.db, lost)).status, 'in-use');
  assert.equal((await volumeById(cloud.db, stray)).status, 'available');
});

test('a terminated instance lets its volumes go, and those that were to go with it are deleted', async (t) => {
  const cloud = await aCloud(t);
  const kept = await cloud.volume();
  const instance = await cloud.launch({
    block_device_mapping: [
      { device_name: '/dev/vdc', volume_id: kept, delete_on_termination: false },
      { device_name: '/dev/vdd', volume_size: 2 },
    ],
  });
  await cloud.until(instance, 'active');
  const made = kept + 1;
  assert.deepEqual(cloud.has(instance)?.toSorted(), [ec2VolumeId(kept), ec2VolumeId(made)]);
  await cloud.untilVolume(made, 'in-use');

  await cloud.api.terminate(aContext(), instance);
  await cloud.until(instance, 'deleted');

  await cloud.untilVolume(kept, 'available');
  await cloud.untilVolume(made, 'deleted');
  await cloud.untilNoExports();
  assert.deepEqual(Object.keys(cloud.storage.driver.store.volumes), ['volume-00000001']);
});

test('an instance boots from a volume made of a snapshot, without an image, as soon as it is there', async (t) => {
  const cloud = await aCloud(t);
  const source = await cloud.volume();
  const snapshot = await cloud.volumes.snapshots.create(aContext(), { volume_id: source });
  await cloud.untilSnapshot(snapshot.id, 'available');
  const specs: (boolean | null)[] = [];
  cloud.compute.driver.beforeSpawn = async ({ image, volumes }) => void specs.push(image === null, volumes[0]!.boot);

  const instance = await cloud.launch({
    image_id: null,
    block_device_mapping: [{ device_name: '/dev/vda', snapshot_id: snapshot.id }],
  });
  await cloud.until(instance, 'active');

  assert.deepEqual(specs, [true, true]);
  assert.deepEqual(cloud.storage.driver.store.volumes['volume-00000002'], { size: 1, from: 'snapshot-00000001' });
  await assert.rejects(cloud.volumes.detach(aContext(), { volume_id: 2 }), /boots from vol-00000002/);
});

/** One volume that was there and is to go with the instance; and two that are made for it, one of which is to stay after it. */
const oneThatWasThereAndTwoMadeForIt = (volume_id: number) => ({
  block_device_mapping: [
    { device_name: '/dev/vdc', volume_id, delete_on_termination: true },
    { device_name: '/dev/vdd', volume_size: 2, delete_on_termination: true },
    { device_name: '/dev/vde', volume_size: 3, delete_on_termination: false },
  ],
});

test('a launch that fails gives back the volumes that were there, and those made for it go', async (t) => {
  const cloud = await aCloud(t);
  const there = await cloud.volume();
  cloud.compute.driver.beforeSpawn = async () => {
    throw new InvalidInput('the image is no disk image');
  };

  const instance = await cloud.launch(oneThatWasThereAndTwoMadeForIt(there));
  await cloud.until(instance, 'error');

  for (const made of [there + 1, there + 2]) await cloud.untilVolume(made, 'deleted');
  await cloud.untilVolume(there, 'available');
  await cloud.untilNoExports();
  await cloud.api.terminate(aContext(), instance);
  await cloud.until(instance, 'deleted');
  assert.equal((await volumeById(cloud.db, there)).status, 'available');
  assert.deepEqual(Object.keys(cloud.storage.driver.store.volumes), ['volume-00000001']);
});

test('so does a launch that no host has room for', async (t) => {
  const cloud = await aSmallCloud(t);
  await cloud.storageHost();
  const there = await cloud.volume();

  const instance = await cloud.launch(oneThatWasThereAndTwoMadeForIt(there));
  await cloud.until(instance, 'error');

  for (const made of [there + 1, there + 2]) await cloud.untilVolume(made, 'deleted');
  await cloud.untilVolume(there, 'available');
});

test('so does a launch whose host went down for good', async (t) => {
  const cloud = await aCloud(t);
  const there = await cloud.volume();
  cloud.compute.driver.beforeSpawn = (_spec, signal) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
  const instance = await cloud.launch(oneThatWasThereAndTwoMadeForIt(there));
  await cloud.until(instance, 'building/spawning');
  await cloud.compute.stop();

  later(t, 901);
  await cloud.report('node1');
  await cloud.sweep();
  await cloud.until(instance, 'error');

  for (const made of [there + 1, there + 2]) await cloud.untilVolume(made, 'deleted');
  await cloud.untilVolume(there, 'available');
  await cloud.untilNoExports();
});

test('a volume that cannot be made is the reason why its launch fails, and a deletion ends the wait', async (t) => {
  const cloud = await aSmallCloud(t);
  await cloud.computeHost('node1');
  const storage = await cloud.storageHost('stor1', { fake_volume_delay_ms: 600_000 });
  const mapping = { block_device_mapping: [{ device_name: '/dev/vdc', volume_size: 2 }] };

  const waiting = await cloud.launch(mapping);
  await cloud.until(waiting, 'building/networking');
  await cloud.api.terminate(aContext(), waiting);
  await cloud.until(waiting, 'deleted');
  await storage.stop();
  const { fault } = await cloud.until(await cloud.launch(mapping), 'error');

  assert.match(fault ?? '', /vol-00000002, which it was to have, is error: no valid host for a volume of 2 GiB/);
});

test('two instances cannot have one volume from the start', async (t) => {
  const cloud = await aCloud(t);
  const volume_id = await cloud.volume();
  const block_device_mapping = [{ device_name: '/dev/vdc', volume_id }];

  await assert.rejects(cloud.launch({ block_device_mapping, min_count: 2, max_count: 2 }), InvalidInput);
  const one = await cloud.launch({ block_device_mapping, min_count: 1, max_count: 5 });
  await cloud.until(one, 'active');
  await assert.rejects(cloud.launch({ block_device_mapping }), /vol-00000001 is attached at \/dev\/vdc/);
});
