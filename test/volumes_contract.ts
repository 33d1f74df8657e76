import assert from 'node:assert/strict';
import { nowText } from '../src/common/clock.ts';
import { adminContext } from '../src/common/context.ts';
import { writing, type NovaDb } from '../src/common/db/connect.ts';
import { eventsOf } from '../src/common/db/events.ts';
import { claimTarget, releaseTarget } from '../src/common/db/iscsi_targets.ts';
import { listJobs } from '../src/common/db/jobs.ts';
import { createProject, deleteProject } from '../src/common/db/projects.ts';
import { setQuota } from '../src/common/db/quotas.ts';
import { attachmentOfVolume, finishAttachment } from '../src/common/db/volume_attachments.ts';
import { moveVolume, volumeById, volumeUsage } from '../src/common/db/volumes.ts';
import {
  Conflict,
  IdempotentParameterMismatch,
  InsufficientVolumeCapacity,
  InvalidInput,
  MissingParameter,
  NoMoreTargets,
  NoValidHost,
  PolicyNotAuthorized,
  SnapshotBusy,
  SnapshotNotFound,
  VolumeBusy,
  VolumeLimitExceeded,
  VolumeNotFound,
  VolumeTypeExists,
  VolumeTypeNotFound,
} from '../src/common/errors.ts';
import { Flags } from '../src/common/flags.ts';
import { silentLog } from '../src/common/log.ts';
import { MemoryBus } from '../src/common/rpc/memory_bus.ts';
import { chance } from '../src/scheduler/logic/chance.ts';
import { volumeSimple } from '../src/scheduler/logic/volume_hosts.ts';
import { SchedulerManager } from '../src/scheduler/manager/scheduler.ts';
import { VolumeApi } from '../src/volume/api.ts';
import { FakeVolumeDriver } from '../src/volume/drivers/fake.ts';
import { VolumeManager } from '../src/volume/manager/volume.ts';
import { aComputeHost, aContext, anInstance, aProject, aSnapshot, aStorageHost, aVolume } from './builders.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

export const bus = new MemoryBus();
export const api = (db: NovaDb): VolumeApi => new VolumeApi({ db, flags: Flags.of(), bus });
export const scheduler = (db: NovaDb): SchedulerManager =>
  new SchedulerManager({ db, flags: Flags.of(), log: silentLog, bus, host: 'ctl', rule: chance });
/** The nova-volume of store1. */
export const storage = (db: NovaDb): VolumeManager => {
  const flags = Flags.of();
  const rest = { host: 'store1', driver: new FakeVolumeDriver({ flags }), volume_driver: 'fake' };
  return new VolumeManager({ db, flags, log: silentLog, bus, ...rest });
};
export const ctx = aContext();

export async function aCloud(db: NovaDb): Promise<void> {
  await aProject(db);
  await aStorageHost(db);
  await aComputeHost(db, 'node1');
}
export const jobs = async (db: NovaDb, method: string) =>
  (await listJobs(db, {})).filter((job) => job.method === method);

/** A volume in use. */
export async function attached(db: NovaDb, over: { delete_on_termination?: boolean } = {}) {
  const [volume_id, instance] = [await aVolume(db), await anInstance(db)];
  await api(db).attach(ctx, { volume_id, instance, ...over });
  const attachment = (await attachmentOfVolume(db, volume_id)) ?? assert.fail();
  await writing(db, (tx) => finishAttachment(tx, attachment));
  return { volume_id, instance, attachment };
}

/** What holds of volumes, on every database. */
export function volumesContract(database: Database): void {
  const it = contractOf(database);

  // ------------------------------------------------------------------ create

  it('one client token that comes many times at once is one volume, and with other parameters none', async (db, all) => {
    await aCloud(db);

    const made = await atOnce(all, 16, (on, i) => api(on).create(ctx, { size: i % 2 === 0 ? 1 : 2, client_token: 'once' })); // prettier-ignore

    const ids = succeeded(made, IdempotentParameterMismatch).map(({ id }) => id);
    assert.equal(ids.length, 8);
    assert.equal(new Set(ids).size, 1);
    assert.equal((await volumeUsage(db, 'apollo')).volumes, 1);
    assert.equal((await jobs(db, 'create_volume')).length, 1);
  });

  it('a volume is asked for: its row, its story and the job of the scheduler', async (db) => {
    await aCloud(db);

    const made = await api(db).create(ctx, { size: 3, display_name: 'data', metadata: { for: 'db' } });

    assert.deepEqual(
      [made.size, made.status, made.availability_zone, made.display_name, made.metadata, made.attachment, made.host],
      [3, 'creating', 'nova', 'data', { for: 'db' }, null, null],
    );
    assert.deepEqual(await api(db).list(ctx), [made]);
    assert.deepEqual(
      (await eventsOf(db, `volume:${made.id}`)).map(({ event }) => event),
      ['asked for'],
    );
    assert.equal((await jobs(db, 'create_volume')).length, 1);
  });

  it('what is no size of a volume is refused in words', async (db) => {
    await aCloud(db);
    const snapshot_id = await aSnapshot(db, await aVolume(db, { size: 5 }), { volume_size: 5 });

    await assert.rejects(api(db).create(ctx, {}), MissingParameter);
    for (const size of [0, -1, 1.5, Number.NaN, 2 ** 40])
      await assert.rejects(api(db).create(ctx, { size }), InvalidInput);
    await assert.rejects(api(db).create(ctx, { size: 4, snapshot_id }), {
      name: 'InvalidInput',
      message: /5 GiB or more/,
    });
    assert.equal((await api(db).create(ctx, { snapshot_id })).size, 5);
    assert.equal((await api(db).create(ctx, { snapshot_id, size: 6 })).size, 6);
  });

  it('zones, types and snapshots that are not there are refused, and those of others are not found', async (db) => {
    await aCloud(db);
    const volume_id = await aVolume(db, { project_id: 'gemini' });
    const theirs = await aSnapshot(db, volume_id, { project_id: 'gemini' });
    const busy = await aSnapshot(db, volume_id, { status: 'creating' });

    await assert.rejects(api(db).create(ctx, { size: 1, availability_zone: 'mars' }), {
      name: 'InvalidInput',
      message: /no availability zone mars .*nova/,
    });
    await assert.rejects(api(db).create(ctx, { size: 1, volume_type: 'fast' }), VolumeTypeNotFound);
    await assert.rejects(api(db).create(ctx, { snapshot_id: theirs }), SnapshotNotFound);
    await assert.rejects(api(db).create(ctx, { snapshot_id: busy }), SnapshotBusy);
    for (const ask of [
      () => api(db).get(ctx, volume_id),
      () => api(db).delete(ctx, volume_id),
      () => api(db).detach(ctx, { volume_id }),
      () => api(db).snapshots.create(ctx, { volume_id }),
      () => api(db).writeMetadata(ctx, volume_id, { a: 'b' }),
    ])
      await assert.rejects(ask, VolumeNotFound);
    assert.deepEqual(await api(db).list(ctx), []);
    assert.equal((await api(db).list(adminContext())).length, 1);
  });

  it('24 volumes at once stop at the quota of volumes, and at that of gigabytes', async (db, all) => {
    await aCloud(db);
    await writing(db, (tx) => createProject(tx, { name: 'gemini', manager: 'ann' }));
    await writing(db, (tx) => setQuota(tx, 'apollo', 'volumes', 5));
    await writing(db, (tx) => setQuota(tx, 'gemini', 'gigabytes', 17));

    const made = await atOnce(all, 24, (on, i) =>
      i % 2 === 0 ? api(on).create(ctx, { size: 1 }) : api(on).create(aContext({ project_id: 'gemini' }), { size: 3 }),
    );

    succeeded(made, VolumeLimitExceeded);
    assert.deepEqual(await volumeUsage(db, 'apollo'), { volumes: 5, gigabytes: 5 });
    assert.deepEqual(await volumeUsage(db, 'gemini'), { volumes: 5, gigabytes: 15 });
    await assert.rejects(api(db).create(ctx, { size: 1 }), { message: /apollo has 5 volumes and may have 5/ });
  });

  it('a project with volumes is not deleted', async (db) => {
    await aCloud(db);
    await aVolume(db);

    await assert.rejects(
      writing(db, (tx) => deleteProject(tx, 'apollo')),
      { name: 'Conflict', message: /1 volumes/ },
    );
  });

  // ---------------------------------------------------------------- schedule

  it('volumes that are scheduled at once fill the stores to the edge, and the rest is told why not', async (db, all) => {
    await aProject(db);
    await writing(db, (tx) => setQuota(tx, 'apollo', 'volumes', null));
    for (const host of ['store1', 'store2']) await aStorageHost(db, host, 10);
    const ids: number[] = [];
    for (let i = 0; i < 8; i++) ids.push((await api(db).create(ctx, { size: 3 })).id);

    succeeded(await atOnce(all, 16, (on, i) => scheduler(on).createVolume(ctx, { volume_id: ids[i >> 1] ?? 0 })));

    const views = await api(db).list(ctx);
    const on = (host: string | null) => views.filter((view) => view.host === host);
    assert.deepEqual([on('store1').length, on('store2').length, on(null).length], [3, 3, 2]);
    for (const { status, fault } of on(null)) {
      assert.equal(status, 'error');
      for (const host of ['store1', 'store2'])
        assert.match(fault ?? '', new RegExp(`${host}: (3 GiB wanted, 1 free of 10|its last free room was promised)`));
    }
    assert.equal((await jobs(db, 'create_volume')).filter((job) => job.topic === 'volume').length, 6);
  });

  it('the simple rule places --max_gigabytes on a store and no more, also when volumes come together', async (db, all) => {
    await aProject(db);
    await writing(db, (tx) => setQuota(tx, 'apollo', 'volumes', null));
    for (const host of ['store1', 'store2']) await aStorageHost(db, host, 1000);
    const ids: number[] = [];
    for (let i = 0; i < 12; i++) ids.push((await api(db).create(ctx, { size: 3 })).id);
    const rest = { flags: Flags.of({ max_gigabytes: 10 }), log: silentLog, bus, host: 'ctl', rule: chance };
    const at = (on: NovaDb) => new SchedulerManager({ db: on, ...rest, volume_rule: volumeSimple });

    succeeded(await atOnce(all, 12, (on, i) => at(on).createVolume(ctx, { volume_id: ids[i] ?? 0 })));

    const hosts = (await api(db).list(ctx)).map(({ host }) => host ?? 'none');
    const on = (name: string) => hosts.filter((host) => host === name).length;
    assert.deepEqual([on('store1'), on('store2'), on('none')], [3, 3, 6]);
  });

  it('a volume made of a snapshot goes to the host that has it', async (db) => {
    await aCloud(db);
    await aStorageHost(db, 'store2');
    const snapshot_id = await aSnapshot(db, await aVolume(db, { host: 'store2' }), { host: 'store2' });
    for (let i = 0; i < 6; i++) {
      const { id } = await api(db).create(ctx, { snapshot_id });
      await scheduler(db).createVolume(ctx, { volume_id: id });
      assert.equal((await volumeById(db, id)).host, 'store2');
    }
    await db.updateTable('services').set({ incarnation: '' }).where('host', '=', 'store2').execute();
    const { id } = await api(db).create(ctx, { snapshot_id });

    let refusal = new Error('it was placed');
    await scheduler(db)
      .createVolume(ctx, { volume_id: id })
      .catch((err: Error) => (refusal = err));
    assert.ok(refusal instanceof NoValidHost, 'to be tried again');
    assert.equal((await volumeById(db, id)).status, 'creating');
    await scheduler(db).jobFailed(ctx, 'create_volume', { volume_id: id }, refusal);

    const { status, fault } = await volumeById(db, id);
    assert.equal(status, 'error');
    assert.match(fault ?? '', /^no valid host for a volume .* snap-0000000\d is on store2\. store2: down/);
  });

  it('a volume that is deleted while it is scheduled is gone or is being deleted by its host', async (db, all) => {
    await aCloud(db);
    const ids: number[] = [];
    for (let i = 0; i < 8; i++) ids.push((await api(db).create(ctx, { size: 1 })).id);

    const results = await atOnce<unknown>(all, 32, (on, i) => {
      const id = ids[i >> 2] ?? 0;
      return i % 4 === 0 ? scheduler(on).createVolume(ctx, { volume_id: id }) : api(on).delete(ctx, id);
    });

    succeeded(results, VolumeNotFound, VolumeBusy);
    const deletions = await jobs(db, 'delete_volume');
    for (const id of ids) {
      const { deleted, host, status } = await volumeById(db, id, { deleted: true });
      const casts = deletions.filter((job) => job.resource === `volume:${id}`).length;
      if (deleted === 1) assert.deepEqual([host, casts], [null, 0]);
      else assert.deepEqual([host, status, casts], ['store1', 'deleting', 1]);
    }
  });

  // --------------------------------------------------- snapshots, types, rest

  it('a snapshot is taken of an available volume, with force of one in use, within the room of its host', async (db) => {
    await aCloud(db);
    const { volume_id } = await attached(db);
    const idle = await aVolume(db, { size: 60 });

    await assert.rejects(api(db).snapshots.create(ctx, { volume_id }), VolumeBusy);
    const made = await api(db).snapshots.create(ctx, { volume_id, force: true, display_name: 'before' });
    assert.deepEqual(
      [made.status, made.progress, made.volume_size, made.display_name],
      ['creating', '0%', 1, 'before'],
    );
    await assert.rejects(api(db).snapshots.create(ctx, { volume_id: idle }), InsufficientVolumeCapacity);

    assert.deepEqual(
      (await jobs(db, 'create_snapshot')).map((job) => JSON.parse(job.args) as unknown),
      [{ volume_id, snapshot_id: made.id }],
    );
    await api(db).snapshots.delete(ctx, made.id);
    assert.deepEqual(
      (await listJobs(db, { resource: `snapshot:${made.id}` })).map((job) => job.method),
      ['delete_snapshot', 'create_snapshot'],
    );
  });

  it('a volume with snapshots is not deleted, and a snapshot not while a volume is made of it', async (db) => {
    await aCloud(db);
    const volume_id = await aVolume(db);
    const id = await aSnapshot(db, volume_id);
    const child = await api(db).create(ctx, { snapshot_id: id });

    await assert.rejects(api(db).delete(ctx, volume_id), { name: 'VolumeBusy', message: /1 snapshots/ });
    await assert.rejects(api(db).snapshots.delete(ctx, id), SnapshotBusy);
    await writing(db, (tx) => moveVolume(tx, child.id, { from: ['creating'], to: { status: 'available' } }));
    await api(db).snapshots.delete(ctx, id);
    await api(db).snapshots.delete(ctx, id);

    assert.equal((await api(db).snapshots.get(ctx, id)).status, 'deleting');
    assert.equal((await jobs(db, 'delete_snapshot')).length, 1);
  });

  it('metadata is added to, replaced and deleted, within the quota', async (db, all) => {
    await aCloud(db);
    await writing(db, (tx) => setQuota(tx, 'apollo', 'metadata_items', 4));
    const id = await aVolume(db);

    succeeded(await atOnce(all, 12, (on, i) => api(on).writeMetadata(ctx, id, { [`k${i}`]: 'v' })), InvalidInput);

    assert.equal(Object.keys((await api(db).get(ctx, id)).metadata).length, 4);
    assert.deepEqual(await api(db).writeMetadata(ctx, id, { a: '1', b: '2' }, { replace: true }), { a: '1', b: '2' });
    assert.equal(await api(db).deleteMetadata(ctx, id, 'a'), true);
    assert.equal(await api(db).deleteMetadata(ctx, id, 'a'), false);
    assert.deepEqual((await api(db).get(ctx, id)).metadata, { b: '2' });
  });

  it('volume types are made by administrators, each name once', async (db, all) => {
    await aCloud(db);
    const admin = adminContext();
    await assert.rejects(api(db).types.create(ctx, 'fast'), PolicyNotAuthorized);

    const made = await atOnce(all, 6, (on) => api(on).types.create(admin, 'fast', { disk: 'ssd' }));

    const [type] = succeeded(made, VolumeTypeExists);
    assert.deepEqual(await api(db).types.list(ctx), [{ id: type?.id, name: 'fast', extra_specs: { disk: 'ssd' } }]);
    assert.equal((await api(db).create(ctx, { size: 1, volume_type: 'fast' })).volume_type, 'fast');
    await api(db).types.writeExtraSpecs(admin, type?.id ?? 0, { disk: 'nvme', iops: '9' });
    assert.equal(await api(db).types.deleteExtraSpec(admin, type?.id ?? 0, 'iops'), true);
    assert.deepEqual((await api(db).types.get(ctx, 'fast')).extra_specs, { disk: 'nvme' });
    await api(db).types.delete(admin, type?.id ?? 0);
    await assert.rejects(api(db).types.get(ctx, 'fast'), VolumeTypeNotFound);
    assert.equal((await api(db).types.create(admin, 'fast')).extra_specs['disk'], undefined);
  });

  it('target numbers are given out from 1, each once for a host, until there are no more', async (db, all) => {
    const nums = succeeded(await atOnce(all, 40, (on, i) => claimTarget(on, 'store1', 1 + (i % 20), 20)));

    assert.deepEqual(
      [...new Set(nums)].toSorted((a, b) => a - b),
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    await assert.rejects(claimTarget(db, 'store1', 21, 20), { name: 'NoMoreTargets', message: /--iscsi_num_targets/ });
    assert.equal(await claimTarget(db, 'store2', 22, 20), 1);
    const third = await claimTarget(db, 'store1', 3, 20);
    await releaseTarget(db, 3);
    assert.equal(await claimTarget(db, 'store1', 21, 20), third);
    await assert.rejects(claimTarget(db, 'store1', 3, 20), NoMoreTargets);
  });

  it('a move is refused when another won, with what it is now', async (db, all) => {
    await aCloud(db);
    const id = await aVolume(db);

    const moves = await atOnce(all, 8, (on) =>
      writing(on, (tx) => moveVolume(tx, id, { from: ['available'], to: { status: 'deleting' }, deadline_s: 60 })),
    );

    assert.equal(succeeded(moves, VolumeBusy).length, 1);
    const { task_deadline } = await volumeById(db, id);
    assert.ok((task_deadline ?? '') > nowText());
    await assert.rejects(
      moveVolume(db, id, { from: ['available'], to: { status: 'error' } }),
      (err) => err instanceof Conflict && /is deleting/.test(err.message),
    );
  });
}
