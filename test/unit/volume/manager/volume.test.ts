import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { attachmentOfVolume } from '../../../../src/common/db/volume_attachments.ts';
import { claimTarget, targetsOfHost } from '../../../../src/common/db/iscsi_targets.ts';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { hasOpenJob } from '../../../../src/common/db/jobs.ts';
import { adminContext } from '../../../../src/common/context.ts';
import { sleep } from '../../../../src/common/clock.ts';
import {
  Aborted,
  BackendUnavailable,
  Conflict,
  InvalidInput,
  VolumeBusy,
  VolumeNotFound,
} from '../../../../src/common/errors.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { aContext } from '../../../builders.ts';
import { aSmallCloud, type SmallCloud } from '../../../small_cloud.ts';
import { until } from '../../../until.ts';

const ctx = aContext();

async function aCloud(t: TestContext, flags: Record<string, unknown> = {}) {
  const cloud = await aSmallCloud(t, { flags: { job_poll_interval: 1, ...flags } });
  const storage = await cloud.storageHost();
  return { cloud, storage, store: storage.driver.store };
}

async function anAttachedVolume(cloud: SmallCloud) {
  const { driver } = await cloud.computeHost('node1');
  const instance = await cloud.launch();
  await cloud.until(instance, 'active');
  const volume_id = await cloud.volume();
  await cloud.volumes.attach(ctx, { volume_id, instance });
  await cloud.untilVolume(volume_id, 'in-use');
  const setGuest = (state: PowerState) => {
    for (const guest of driver.guests.values()) guest.state = state;
  };
  const guestState = async () => (await driver.listInstances())[0]?.state;
  return {
    instance,
    volume_id,
    setGuest,
    guestState,
    attachment: (await attachmentOfVolume(cloud.db, volume_id)) ?? assert.fail(),
  };
}

/** A copy that only its signal ends. */
async function neverCopied(operation: string, _name: string, signal: AbortSignal): Promise<void> {
  if (operation !== 'copy') return;
  await sleep(600_000, signal).catch(() => {
    throw new Aborted('given up');
  });
}

/** Once nothing waits or runs on the volume any more. */
async function settled({ db }: SmallCloud, volume_id: number): Promise<void> {
  await until('the jobs of the volume have ended', async () => !(await hasOpenJob(db, `volume:${volume_id}`)));
}

test('a volume is made, attached, detached and deleted, and nothing of it is left', async (t) => {
  const { cloud, store } = await aCloud(t);

  const { volume_id, instance, attachment } = await anAttachedVolume(cloud);
  const { auth_username: username, auth_password: password } = attachment;
  assert.deepEqual(store.volumes, { 'volume-00000001': { size: 1, from: null } });
  assert.deepEqual(store.exports, { 'volume-00000001': { target_num: 1, username, password } });
  await assert.rejects(cloud.volumes.delete(ctx, volume_id), Conflict);

  await cloud.volumes.detach(ctx, { volume_id, instance });
  await cloud.untilVolume(volume_id, 'available');
  await settled(cloud, volume_id);
  assert.deepEqual([store.exports, await targetsOfHost(cloud.db, 'store1')], [{}, []]);

  await cloud.volumes.delete(ctx, volume_id);
  await cloud.untilVolume(volume_id, 'deleted');
  assert.deepEqual(store, { volumes: {}, snapshots: {}, exports: {} });
});

test('a store that fails is tried again, and a volume that cannot be made is in error with the reason', async (t) => {
  const { cloud, storage } = await aCloud(t);
  let failures = 1;
  storage.driver.before = async () => {
    if (failures-- > 0) throw new BackendUnavailable('the disk is away');
  };
  await cloud.volume();
  storage.driver.before = async () => {
    throw new InvalidInput('the disk is too small');
  };

  const { id } = await cloud.volumes.create(ctx, { size: 2 });
  const { fault } = await cloud.untilVolume(id, 'error');

  assert.equal(fault, 'the disk is too small');
  storage.driver.before = async () => undefined;
  await cloud.volumes.delete(ctx, id);
  await cloud.untilVolume(id, 'deleted');
});

test('a deletion that fails says why, and may be asked for again', async (t) => {
  const { cloud, storage } = await aCloud(t);
  const id = await cloud.volume();
  storage.driver.before = async () => {
    throw new InvalidInput('somebody has it open');
  };

  await cloud.volumes.delete(ctx, id);
  assert.equal((await cloud.untilVolume(id, 'error_deleting')).fault, 'somebody has it open');
  storage.driver.before = async () => undefined;
  await cloud.volumes.delete(ctx, id);

  await cloud.untilVolume(id, 'deleted');
  assert.deepEqual(storage.driver.store.volumes, {});
});

test('a deletion wins over the creation under way', async (t) => {
  const { cloud, storage } = await aCloud(t);
  const begun = new Promise<void>((resolve) => {
    storage.driver.before = async (operation, _name, signal) => {
      if (operation !== 'create') return;
      resolve();
      await sleep(600_000, signal).catch(() => {
        throw new Aborted('given up');
      });
    };
  });
  const { id } = await cloud.volumes.create(ctx, { size: 1 });
  await begun;

  await cloud.volumes.delete(ctx, id);

  await cloud.untilVolume(id, 'deleted');
  assert.deepEqual(storage.driver.store.volumes, {});
});

test('only the newest live attachment is let in, and asking again gives the same', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  const { volume_id, instance, attachment } = await anAttachedVolume(cloud);
  const connect = (attachment_id: number) => storage.manager.initializeConnection(ctx, { volume_id, attachment_id });

  assert.deepEqual(await connect(attachment.id), await connect(attachment.id));
  await cloud.volumes.detach(ctx, { volume_id, force: true });
  await assert.rejects(connect(attachment.id), Conflict);
  await settled(cloud, volume_id);
  assert.deepEqual(store.exports, {});

  await cloud.volumes.attach(ctx, { volume_id, instance });
  await cloud.untilVolume(volume_id, 'in-use');
  await assert.rejects(connect(attachment.id), {
    name: 'Conflict',
    message: /this attachment .* is over: it is attached/,
  });
  assert.equal(store.exports['volume-00000001']?.username, 'vol-00000001-e2');
  await assert.rejects(storage.manager.initializeConnection(ctx, { volume_id: 99, attachment_id: 1 }), VolumeNotFound);
});

test('more volumes than targets cannot be attached at once; the one too many is available again, with the reason', async (t) => {
  const { cloud } = await aCloud(t, { iscsi_num_targets: 1 });
  const { instance } = await anAttachedVolume(cloud);
  const second = await cloud.volume();
  const other = await cloud.launch();
  await cloud.until(other, 'active');

  await cloud.volumes.attach(ctx, { volume_id: second, instance: other });
  await cloud.db.updateTable('jobs').set({ max_attempts: 1 }).where('method', '=', 'attach_volume').execute();

  const { fault } = await cloud.untilVolume(second, 'available');
  assert.match(fault ?? '', /all 1 iSCSI targets of host store1 are in use.*--iscsi_num_targets/);
  assert.equal((await cloud.volumes.list(ctx, { instance_id: instance })).length, 1);
});

test('a nova-volume that starts again puts back the exports that the database wants, and no others', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  const { volume_id, attachment } = await anAttachedVolume(cloud);
  const idle = await cloud.volume();
  await storage.stop();
  store.exports = { 'volume-00000002': { target_num: 7, username: 'old', password: 'old' } };
  await claimTarget(cloud.db, 'store1', idle, 100);

  const again = await cloud.storageHost('store1', {}, storage.driver);

  const { auth_username: username, auth_password: password } = attachment;
  assert.deepEqual(store.exports, { 'volume-00000001': { target_num: 1, username, password } });
  assert.deepEqual(await targetsOfHost(cloud.db, 'store1'), [{ target_num: 1, volume_id }]);
  await again.manager.checkForExport(ctx, { volume_id });
  await assert.rejects(again.manager.checkForExport(ctx, { volume_id: idle }), {
    message: /available, so it is not exported/,
  });
});

test('an export that is lost is put back by the periodic tasks, and one that fails holds the others up no longer', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  await anAttachedVolume(cloud);
  const second = await anAttachedVolume(cloud);
  store.exports = {};
  storage.driver.before = async (operation, name) => {
    if (operation === 'export' && name === 'volume-00000001') throw new BackendUnavailable('no');
  };

  await storage.manager.periodicTasks(adminContext());

  assert.deepEqual(Object.keys(store.exports), ['volume-00000002']);
  await assert.rejects(storage.manager.checkForExport(ctx, { volume_id: 1 }), BackendUnavailable);
  await storage.manager.checkForExport(ctx, { volume_id: second.volume_id });
});

test('the periodic tasks take away what is surely dead, and nothing that is not known', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  const [stuck, dead, live] = [await cloud.volume(), await cloud.volume(), await cloud.volume()];
  await cloud.db.updateTable('volumes').set({ deleted: 1 }).where('id', 'in', [stuck, dead]).execute();
  storage.driver.before = async (_operation, name) => {
    if (name === `volume-0000000${stuck}`) throw new BackendUnavailable('somebody has it open');
  };
  store.volumes['volume-000000ff'] = { size: 1, from: null };
  store.volumes['somebody-elses'] = { size: 1, from: null };

  await storage.manager.periodicTasks(adminContext());

  const left = [`volume-0000000${stuck}`, `volume-0000000${live}`, 'volume-000000ff', 'somebody-elses'];
  assert.deepEqual(Object.keys(store.volumes), left);
});

test('a snapshot of an attached volume is taken while its guest stands still, and a volume is made of it', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  const { volume_id } = await anAttachedVolume(cloud);

  const { id } = await cloud.volumes.snapshots.create(ctx, { volume_id, force: true });
  const { progress } = await cloud.untilSnapshot(id, 'available');
  const copy = await cloud.volume({ size: null, snapshot_id: id });

  assert.equal(progress, '100%');
  assert.deepEqual(store.volumes[`volume-0000000${copy}`], { size: 1, from: 'snapshot-00000001' });
  await cloud.volumes.snapshots.delete(ctx, id);
  await cloud.untilSnapshot(id, 'deleted');
  assert.deepEqual(store.snapshots, {});
  assert.equal(storage.driver.store.volumes[`volume-0000000${copy}`]?.size, 1);
});

test('whoever had a volume that is free now is shut out before a snapshot of it is copied', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  const volume_id = await cloud.volume();
  store.exports = { 'volume-00000001': { target_num: 1, username: 'old', password: 'old' } };
  let open: string[] | undefined;
  storage.driver.before = async (operation) => {
    if (operation === 'snapshot') open = Object.keys(store.exports);
  };

  const { id } = await cloud.volumes.snapshots.create(ctx, { volume_id });
  await cloud.untilSnapshot(id, 'available');

  assert.deepEqual(open, []);
});

test('a snapshot is taken of a guest that shut down just now, and its instance is stopped by then', async (t) => {
  const { cloud } = await aCloud(t);
  const { volume_id, instance, setGuest } = await anAttachedVolume(cloud);
  setGuest(PowerState.SHUTOFF);

  const { id } = await cloud.volumes.snapshots.create(ctx, { volume_id, force: true });

  await cloud.untilSnapshot(id, 'available');
  await cloud.until(instance, 'stopped');
});

test('a snapshot that meets a reboot between stop and start waits for its end', async (t) => {
  const { cloud } = await aCloud(t);
  const { volume_id, instance, setGuest } = await anAttachedVolume(cloud);
  setGuest(PowerState.SHUTOFF);
  const becomes = (task_state: 'rebooting' | null) =>
    cloud.db.updateTable('instances').set({ task_state }).where('id', '=', instance).execute();
  await becomes('rebooting');

  const { id } = await cloud.volumes.snapshots.create(ctx, { volume_id, force: true });
  await until('it waits', async () =>
    (await eventsOf(cloud.db, `snapshot:${id}`)).some(({ event }) => event === 'create_snapshot waits'),
  );
  setGuest(PowerState.RUNNING);
  await becomes(null);

  await cloud.untilSnapshot(id, 'available');
});

test('a snapshot that takes longer than its guest may stand still is in error, with flag and remedy', async (t) => {
  const { cloud, storage } = await aCloud(t, { snapshot_freeze_limit: 1 });
  const { volume_id, guestState } = await anAttachedVolume(cloud);
  storage.driver.before = neverCopied;

  const { id } = await cloud.volumes.snapshots.create(ctx, { volume_id, force: true });

  const { fault } = await cloud.untilSnapshot(id, 'error');
  assert.match(fault ?? '', /did not stand still .*--snapshot_freeze_limit=1 seconds/);
  assert.notEqual(await guestState(), PowerState.PAUSED);
});

test('a deletion wins over a snapshot being taken, which holds up nothing else of its volume', async (t) => {
  const { cloud, storage, store } = await aCloud(t);
  const { volume_id, guestState } = await anAttachedVolume(cloud);
  const begun = new Promise<void>((resolve) => {
    storage.driver.before = async (operation, name, signal) => {
      if (operation === 'copy') resolve();
      await neverCopied(operation, name, signal);
    };
  });
  const { id } = await cloud.volumes.snapshots.create(ctx, { volume_id, force: true });
  await begun;

  await cloud.volumes.detach(ctx, { volume_id, force: true });
  await settled(cloud, volume_id); // the old host is shut out while the copy goes on
  assert.deepEqual(store.exports, {});
  await assert.rejects(cloud.volumes.delete(ctx, volume_id), VolumeBusy);
  await cloud.volumes.snapshots.delete(ctx, id);

  await cloud.untilSnapshot(id, 'deleted');
  assert.deepEqual(store.snapshots, {});
  assert.notEqual(await guestState(), PowerState.PAUSED);
  await cloud.volumes.delete(ctx, volume_id);
  await cloud.untilVolume(volume_id, 'deleted');
});

test('a volume goes with the instance it was to go with, and one of an instance that is deleted is free', async (t) => {
  const { cloud, store } = await aCloud(t);
  await cloud.computeHost('node1');
  const instance = await cloud.launch();
  await cloud.until(instance, 'active');
  const [goes, stays] = [await cloud.volume(), await cloud.volume()];
  await cloud.volumes.attach(ctx, { volume_id: goes, instance, delete_on_termination: true });
  await cloud.volumes.attach(ctx, { volume_id: stays, instance });
  await cloud.untilVolume(goes, 'in-use');
  await cloud.untilVolume(stays, 'in-use');

  await cloud.api.terminate(ctx, instance);

  await cloud.until(instance, 'deleted');
  await cloud.untilVolume(goes, 'deleted');
  await cloud.untilVolume(stays, 'available');
  await settled(cloud, stays);
  assert.deepEqual([Object.keys(store.volumes), store.exports], [[`volume-0000000${stays}`], {}]);
});

test('a guest that stands still for a snapshot goes on when its nova-compute is stopped', async (t) => {
  const { cloud } = await aCloud(t);
  const node = await cloud.computeHost('node1');
  await cloud.until(await cloud.launch(), 'active');
  const [guest] = await node.driver.listInstances();
  assert.ok(guest);
  await node.driver.freeze(guest.name, 'snap-00000001', 600);

  await node.stop();

  assert.equal((await node.driver.getInfo(guest.name)).state, PowerState.RUNNING);
});
