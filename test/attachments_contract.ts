import assert from 'node:assert/strict';
import { writing } from '../src/common/db/connect.ts';
import { finishDelete, instanceById } from '../src/common/db/instances.ts';
import { listJobs } from '../src/common/db/jobs.ts';
import {
  attachmentOfVolume,
  beginAttachment,
  endAttachment,
  endAttachmentsOfInstance,
  finishAttachment,
} from '../src/common/db/volume_attachments.ts';
import { volumeById } from '../src/common/db/volumes.ts';
import {
  DeviceInUse,
  InstanceBusy,
  InstanceNotFound,
  InvalidInput,
  VolumeBusy,
  VolumeInUse,
  VolumeNotAttached,
  VolumeNotFound,
} from '../src/common/errors.ts';
import { tellStorage } from '../src/volume/rpc.ts';
import { anInstance, aSnapshot, aVolume, goesDown } from './builders.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';
import { aCloud, api, attached, ctx, jobs, storage } from './volumes_contract.ts';

/** What holds of volumes at instances, on every database. */
export function attachmentsContract(database: Database): void {
  const it = contractOf(database);

  // ------------------------------------------------------------------ attach

  it('of many who attach a volume at once one wins, with a secret of its own', async (db, all) => {
    await aCloud(db);
    const volume_id = await aVolume(db);
    const instances = [await anInstance(db), await anInstance(db), await anInstance(db), await anInstance(db)];

    const results = await atOnce(all, 16, (on, i) =>
      api(on).attach(ctx, { volume_id, instance: instances[i % 4] ?? 0, device: '/dev/vdb' }),
    );

    assert.equal(succeeded(results, VolumeInUse, VolumeBusy).length, 1);
    const { status, attachment } = await api(db).get(ctx, volume_id);
    const row = await attachmentOfVolume(db, volume_id);
    assert.deepEqual(
      [status, attachment?.status, attachment?.device, row?.epoch],
      ['attaching', 'attaching', '/dev/vdb', 1],
    );
    assert.equal(row?.auth_username, `vol-0000000${volume_id}-e1`);
    assert.match(row?.auth_password ?? '', /^[A-Za-z0-9_-]{12,16}$/);
    const cast = await jobs(db, 'attach_volume');
    assert.deepEqual(
      cast.map(({ topic, host, args }) => [topic, host, JSON.parse(args)]),
      [['compute', 'node1', { instance_id: attachment?.instance_id, volume_id, mountpoint: '/dev/vdb' }]],
    );
  });

  it('of many volumes that are attached at one device at once one wins, and without a device each gets its own', async (db, all) => {
    await aCloud(db);
    const [one, other] = [await anInstance(db), await anInstance(db)];
    const ids: number[] = [];
    for (let i = 0; i < 12; i++) ids.push(await aVolume(db));

    const results = await atOnce(all, 12, (on, i) =>
      i % 2 === 0
        ? api(on).attach(ctx, { volume_id: ids[i] ?? 0, instance: one, device: i % 4 === 0 ? '/dev/vdc' : '/dev/sdc' })
        : api(on).attach(ctx, { volume_id: ids[i] ?? 0, instance: other }),
    );

    assert.equal(succeeded(results, DeviceInUse).length, 7);
    const devices = (await api(db).list(ctx, { instance_id: other })).map((view) => view.attachment?.device);
    assert.deepEqual(
      devices.toSorted(),
      ['b', 'c', 'd', 'e', 'f', 'g'].map((letter) => `/dev/vd${letter}`),
    );
  });

  it('what cannot be attached is refused, with the reason', async (db) => {
    await aCloud(db);
    const instance = await anInstance(db);
    const volume_id = await aVolume(db);
    const attach = (over: object) => api(db).attach(ctx, { volume_id, instance, ...over });

    await assert.rejects(attach({ device: 'vdb' }), InvalidInput);
    await assert.rejects(attach({ device: '/dev/vda' }), DeviceInUse);
    await assert.rejects(attach({ volume_id: 99 }), VolumeNotFound);
    await assert.rejects(attach({ instance: 99 }), InstanceNotFound);
    await assert.rejects(attach({ instance: await anInstance(db, { project_id: 'gemini' }) }), InstanceNotFound);
    await assert.rejects(attach({ volume_id: await aVolume(db, { project_id: 'gemini' }) }), VolumeNotFound);
    await assert.rejects(attach({ volume_id: await aVolume(db, { status: 'error' }) }), VolumeBusy);
    await assert.rejects(attach({ instance: await anInstance(db, { vm_state: 'error' }) }), InstanceBusy);
    await assert.rejects(attach({ instance: await anInstance(db, { task_state: 'rebooting' }) }), InstanceBusy);
    await aSnapshot(db, volume_id, { status: 'creating' });
    await assert.rejects(attach({}), { name: 'VolumeBusy', message: /snapshot .* is being taken/ });
    assert.deepEqual(await listJobs(db, {}), []);
  });

  it('a stopped instance takes a volume, too', async (db) => {
    await aCloud(db);

    const view = await api(db).attach(ctx, {
      volume_id: await aVolume(db),
      instance: await anInstance(db, { vm_state: 'stopped' }),
    });

    assert.equal(view.status, 'attaching');
  });

  it('a launch that takes a volume which is being made has it when it is there, and the end of the launch frees it', async (db, all) => {
    await aCloud(db);
    for (let round = 0; round < 40; round++) {
      const volume_id = await aVolume(db, { status: 'creating' });
      const instance_id = await anInstance(db);
      const delete_on_termination = round % 2 === 0;
      const device = { volume_id, device: '/dev/vdb', delete_on_termination, boot: false };

      const [taken] = await atOnce<unknown>(all, 2, (on, i) =>
        i === 0
          ? writing(on, (tx) => api(on).attachAtLaunch(tx, ctx, instance_id, [device]))
          : storage(on).createVolume(ctx, { volume_id }),
      );

      assert.equal(taken?.status, 'fulfilled');
      assert.equal((await volumeById(db, volume_id)).status, 'attaching', `round ${round}`);
      await writing(db, (tx) => endAttachmentsOfInstance(tx, instance_id, 'terminated'));
      assert.equal((await volumeById(db, volume_id)).status, delete_on_termination ? 'deleting' : 'available');
    }
  });

  it('an attachment that ends while its volume is being made leaves it free', async (db, all) => {
    await aCloud(db);
    for (let round = 0; round < 40; round++) {
      const volume_id = await aVolume(db, { status: 'creating' });
      const attachment = { volume_id, instance_id: await anInstance(db), device: '/dev/vdb' };
      await writing(db, (tx) => beginAttachment(tx, attachment, { creating: true }));

      succeeded(
        await atOnce<unknown>(all, 2, (on, i) =>
          i === 0
            ? writing(on, (tx) => endAttachmentsOfInstance(tx, attachment.instance_id, 'terminated'))
            : storage(on).createVolume(ctx, { volume_id }),
        ),
      );

      assert.equal((await volumeById(db, volume_id)).status, 'available', `round ${round}`);
    }
  });

  it('an attachment of a volume that says it is available ends as any other', async (db) => {
    await aCloud(db);
    const kept = await attached(db);
    const gone = await attached(db, { delete_on_termination: true });
    await db.updateTable('volumes').set({ status: 'available' }).execute();

    for (const { instance } of [kept, gone])
      await writing(db, (tx) => endAttachmentsOfInstance(tx, instance, 'terminated'));

    assert.equal((await volumeById(db, kept.volume_id)).status, 'available');
    assert.equal((await volumeById(db, gone.volume_id)).status, 'deleting');
  });

  // ------------------------------------------------------------------ detach

  it('a volume in use is detached by its compute host, however often it is asked', async (db, all) => {
    await aCloud(db);
    const { volume_id, instance } = await attached(db);
    assert.equal((await api(db).get(ctx, volume_id)).attachment?.status, 'attached');

    succeeded(await atOnce(all, 8, (on) => api(on).detach(ctx, { volume_id, instance })));

    const { status, attachment } = await api(db).get(ctx, volume_id);
    assert.deepEqual([status, attachment?.status], ['detaching', 'detaching']);
    const casts = await jobs(db, 'detach_volume');
    assert.deepEqual(
      casts.map(({ host, args }) => [host, JSON.parse(args)]),
      [['node1', { instance_id: instance, volume_id }]],
    );
  });

  it('detaching from another instance or device than it is at is refused, and so is what is attached nowhere', async (db) => {
    await aCloud(db);
    const { volume_id } = await attached(db);

    await assert.rejects(api(db).detach(ctx, { volume_id, instance: await anInstance(db) }), InvalidInput);
    await assert.rejects(api(db).detach(ctx, { volume_id, device: '/dev/vdx' }), InvalidInput);
    await assert.rejects(api(db).detach(ctx, { volume_id: await aVolume(db) }), VolumeNotAttached);
    await assert.rejects(api(db).delete(ctx, volume_id), VolumeInUse);
    assert.equal((await api(db).get(ctx, volume_id)).status, 'in-use');
  });

  it('a compute host that is stopped for a moment is waited for', async (db) => {
    await aCloud(db);
    const { volume_id } = await attached(db);
    await db.updateTable('services').set({ incarnation: '' }).where('host', '=', 'node1').execute();

    assert.equal((await api(db).detach(ctx, { volume_id })).status, 'detaching');
  });

  it('by force, or when the compute host is down, the attachment ends at once and its access with it', async (db) => {
    await aCloud(db);
    const forced = await attached(db);
    const stranded = await attached(db);

    assert.equal((await api(db).detach(ctx, { volume_id: forced.volume_id, force: true })).status, 'available');
    await goesDown(db, 'node1');
    assert.equal((await api(db).detach(ctx, { volume_id: stranded.volume_id })).status, 'available');

    for (const { volume_id, attachment } of [forced, stranded]) {
      assert.equal(await attachmentOfVolume(db, volume_id), undefined);
      const casts = (await jobs(db, 'refresh_connections')).filter((job) => job.resource === `volume:${volume_id}`);
      assert.deepEqual(
        casts.map((job) => job.host),
        ['store1'],
      );
      await api(db).attach(ctx, { volume_id, instance: await anInstance(db) });
      const next = await attachmentOfVolume(db, volume_id);
      assert.equal(next?.epoch, 2);
      assert.notEqual(next?.auth_password, attachment.auth_password);
      await assert.rejects(
        writing(db, (tx) => finishAttachment(tx, attachment)),
        VolumeBusy,
      );
    }
  });

  it('the end of an instance ends its attachments, and deletes what was to go with it', async (db, all) => {
    await aCloud(db);
    const kept = await attached(db);
    const gone = await attached(db, { delete_on_termination: true });
    const snapped = await attached(db, { delete_on_termination: true });
    await aSnapshot(db, snapped.volume_id);

    for (const { instance } of [kept, gone, snapped]) {
      const row = await instanceById(db, instance);
      const ended = await atOnce(all, 4, (on) =>
        writing(on, async (tx) => {
          const end = await finishDelete(tx, row);
          await tellStorage(tx, ctx, end ?? [], 'its instance was deleted');
          return end;
        }),
      );
      assert.equal(succeeded(ended).filter((end) => end !== undefined).length, 1);
    }

    assert.equal((await volumeById(db, kept.volume_id)).status, 'available');
    assert.equal((await volumeById(db, gone.volume_id)).status, 'deleting');
    const { status, fault } = await volumeById(db, snapped.volume_id);
    assert.equal(status, 'available');
    assert.match(fault ?? '', /kept, though .* 1 snapshots/);
    const resources = async (method: string) => (await jobs(db, method)).map((job) => job.resource).toSorted();
    assert.deepEqual(await resources('delete_volume'), [`volume:${gone.volume_id}`]);
    assert.deepEqual(await resources('refresh_connections'), [
      `volume:${kept.volume_id}`,
      `volume:${snapped.volume_id}`,
    ]);
  });

  it('what ends with a launch that failed, also when its instance is deleted first, is what was made for it', async (db) => {
    await aCloud(db);
    const aLaunch = async () => {
      const instance = await anInstance(db, { vm_state: 'building', task_state: 'spawning' });
      const there = await aVolume(db);
      const at = (device: string, delete_on_termination: boolean) => ({ device, delete_on_termination, boot: false });
      const devices = [
        { ...at('/dev/vdb', true), volume_id: there },
        { ...at('/dev/vdc', true), size: 1 },
        { ...at('/dev/vdd', false), size: 1 },
      ];
      await writing(db, (tx) => api(db).attachAtLaunch(tx, ctx, instance, devices));
      return { instance, there, made: [there + 1, there + 2] };
    };
    const [failed, deleted, terminated] = [await aLaunch(), await aLaunch(), await aLaunch()];

    await writing(db, (tx) => endAttachmentsOfInstance(tx, failed.instance, 'launch failed'));
    await db.updateTable('instances').set({ vm_state: 'error' }).where('id', '=', deleted.instance).execute();
    for (const { instance } of [deleted, terminated]) {
      const row = await instanceById(db, instance);
      await writing(db, (tx) => finishDelete(tx, row));
    }

    const status = async (id: number) => (await volumeById(db, id, { deleted: true })).status;
    for (const { there, made } of [failed, deleted]) {
      assert.equal(await status(there), 'available');
      for (const id of made) assert.equal((await volumeById(db, id, { deleted: true })).deleted, 1);
    }
    assert.equal(await status(terminated.there), 'deleting');
    assert.deepEqual(
      await Promise.all(terminated.made.map(async (id) => (await volumeById(db, id, { deleted: true })).deleted)),
      [1, 0],
    );
  });

  it('an instance that is deleted while volumes are attached to it keeps none', async (db, all) => {
    await aCloud(db);
    for (let round = 0; round < 6; round++) {
      const instance = await anInstance(db);
      const row = await instanceById(db, instance);
      const ids = [await aVolume(db), await aVolume(db), await aVolume(db), await aVolume(db)];

      const results = await atOnce<unknown>(all, 4, (on, i) =>
        i === round % 4
          ? writing(on, (tx) => finishDelete(tx, row))
          : api(on).attach(ctx, { volume_id: ids[i] ?? 0, instance }),
      );

      succeeded(results, InstanceNotFound);
      for (const id of ids) assert.equal((await volumeById(db, id)).status, 'available', `round ${round}`);
    }
  });

  it('an attachment ends once, whoever ends it', async (db, all) => {
    await aCloud(db);
    const { attachment, volume_id } = await attached(db);

    const ends = await atOnce(all, 8, (on) => writing(on, (tx) => endAttachment(tx, attachment)));

    assert.equal(succeeded(ends).filter((end) => end !== undefined).length, 1);
    assert.equal((await volumeById(db, volume_id)).status, 'available');
  });
}
