import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { adminContext } from '../../../../src/common/context.ts';
import { writing, type NovaDb } from '../../../../src/common/db/connect.ts';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { castJob, listJobs } from '../../../../src/common/db/jobs.ts';
import { snapshotById } from '../../../../src/common/db/snapshots.ts';
import {
  attachmentOfVolume,
  beginAttachment,
  beginDetachment,
  finishAttachment,
  undoDetachment,
} from '../../../../src/common/db/volume_attachments.ts';
import { volumeById } from '../../../../src/common/db/volumes.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { chance } from '../../../../src/scheduler/logic/chance.ts';
import { SchedulerManager } from '../../../../src/scheduler/manager/scheduler.ts';
import { sweepVolumes } from '../../../../src/scheduler/manager/sweep_volumes.ts';
import { volumeClient } from '../../../../src/volume/rpc.ts';
import {
  aComputeHost,
  aContext,
  aDatabase,
  anInstance,
  aSnapshot,
  aStorageHost,
  aVolume,
  goesDown,
} from '../../../builders.ts';

const LONG_AGO = '2011-04-15T00:00:00.000Z';
const overdue = { task_deadline: LONG_AGO };
const bus = new MemoryBus();

async function aCloud(t: TestContext): Promise<NovaDb> {
  const db = await aDatabase(t);
  await aStorageHost(db);
  await aComputeHost(db, 'node1');
  return db;
}

const sweep = (db: NovaDb): Promise<void> =>
  new SchedulerManager({ db, flags: Flags.of(), log: silentLog, bus, host: 'ctl', rule: chance }).periodicTasks(
    adminContext(),
  );
const cast = async (db: NovaDb) =>
  (await listJobs(db, {})).map(({ topic, host, method, args }) => [topic, host, method, JSON.parse(args) as unknown]);
const told = async (db: NovaDb, resource: string) => (await eventsOf(db, resource)).map(({ event }) => event);

async function anAttachment(
  db: NovaDb,
  over: { detaching?: boolean; instance?: object; made_for_launch?: boolean } = {},
): Promise<number> {
  const volume_id = await aVolume(db);
  const instance_id = await anInstance(db, over.instance);
  await writing(db, async (tx) => {
    const { made_for_launch = false } = over;
    const launched = { made_for_launch, delete_on_termination: over.instance !== undefined };
    const id = await beginAttachment(tx, { volume_id, instance_id, device: '/dev/vdb', ...launched });
    if (!over.detaching) return;
    await finishAttachment(tx, { id, volume_id });
    await beginDetachment(tx, { id, volume_id });
  });
  await db.updateTable('volumes').set(overdue).where('id', '=', volume_id).execute();
  return volume_id;
}

test('work whose job is lost is asked for again, each of whom it belongs to', async (t) => {
  const db = await aCloud(t);
  const unplaced = await aVolume(db, { status: 'creating', host: null, ...overdue });
  const placed = await aVolume(db, { status: 'creating', ...overdue });
  const deleting = await aVolume(db, { status: 'deleting', ...overdue });
  const attaching = await anAttachment(db);
  const detaching = await anAttachment(db, { detaching: true });
  const taken = await aSnapshot(db, placed, { status: 'creating', ...overdue });
  const dropped = await aSnapshot(db, placed, { status: 'deleting', ...overdue });

  await sweep(db);
  await sweep(db); // all have a new deadline

  assert.deepEqual((await cast(db)).toReversed(), [
    ['scheduler', null, 'create_volume', { volume_id: unplaced }],
    ['volume', 'store1', 'create_volume', { volume_id: placed }],
    ['volume', 'store1', 'delete_volume', { volume_id: deleting }],
    ['compute', 'node1', 'attach_volume', { instance_id: 1, volume_id: attaching, mountpoint: '/dev/vdb' }],
    ['compute', 'node1', 'detach_volume', { instance_id: 2, volume_id: detaching }],
    ['volume', 'store1', 'create_snapshot', { volume_id: placed, snapshot_id: taken }],
    ['volume', 'store1', 'delete_snapshot', { snapshot_id: dropped }],
  ]);
});

test('work whose job waits or runs gets more time, and says what it waits for', async (t) => {
  const db = await aCloud(t);
  const volume_id = await aVolume(db, { status: 'deleting', ...overdue });
  await writing(db, (tx) => castJob(tx, aContext(), volumeClient(bus).at('store1').deleteVolume, { volume_id }));

  await sweep(db);

  assert.equal((await cast(db)).length, 1);
  assert.deepEqual(await told(db, `volume:${volume_id}`), ['still deleting']);
});

test('a storage host that is down: what is being made is given up, what is being deleted waits for it', async (t) => {
  const db = await aCloud(t);
  const made = await aVolume(db, { status: 'creating', ...overdue });
  const deleted = await aVolume(db, { status: 'deleting', ...overdue });
  const taken = await aSnapshot(db, made, { status: 'creating', ...overdue });
  const dropped = await aSnapshot(db, made, { status: 'deleting', ...overdue });
  await goesDown(db, 'store1');

  await sweep(db);

  const { status, fault } = await volumeById(db, made);
  assert.deepEqual([status, fault], ['error', 'host store1 went down while vol-00000001 was creating']);
  assert.equal((await volumeById(db, deleted)).status, 'deleting');
  assert.equal((await snapshotById(db, taken)).status, 'error');
  assert.equal((await snapshotById(db, dropped)).status, 'deleting');
});

test('a compute host that is down: attachments under way end, and its access with them', async (t) => {
  const db = await aCloud(t);
  const ids = [await anAttachment(db), await anAttachment(db, { detaching: true })];
  await goesDown(db, 'node1');

  await sweep(db);

  for (const id of ids) {
    const { status, fault } = await volumeById(db, id);
    assert.equal(status, 'available');
    assert.match(fault ?? '', /host node1 went down while (at|de)taching/);
    assert.equal(await attachmentOfVolume(db, id), undefined);
  }
  assert.deepEqual(
    (await cast(db)).map(([, host, method]) => [host, method]),
    [
      ['store1', 'refresh_connections'],
      ['store1', 'refresh_connections'],
    ],
  );
});

for (const detaching of [false, true])
  test(`what a host that counted as down ${detaching ? 'detached' : 'attached'} since the sweep looked stays as it is`, async (t) => {
    const db = await aCloud(t);
    const id = await anAttachment(db, { detaching });
    const attachment = (await attachmentOfVolume(db, id)) ?? assert.fail();
    const { signal } = new AbortController();
    let done: Promise<unknown> | undefined;
    // Between the look and the change: one connection, so what begins first is done first.
    signal.throwIfAborted = () => {
      done = writing(db, (tx) =>
        detaching ? undoDetachment(tx, attachment, 'busy') : finishAttachment(tx, attachment),
      );
    };

    const up = { compute: new Set<string>(), volume: new Set(['store1']) };
    await sweepVolumes({ db, log: silentLog, bus }, adminContext({ signal }), up);

    await done;
    assert.equal((await volumeById(db, id)).status, 'in-use');
    assert.equal((await attachmentOfVolume(db, id))?.status, 'attached');
  });

test('a launch keeps its volumes for as long as it takes, and one that never came to be gives them back', async (t) => {
  const db = await aCloud(t);
  const launching = await anAttachment(db, {
    instance: { host: null, vm_state: 'building', task_state: 'scheduling' },
  });
  const failed = await anAttachment(db, { instance: { host: null, vm_state: 'error' } });

  await sweep(db);

  assert.equal((await volumeById(db, launching)).status, 'attaching');
  assert.equal((await volumeById(db, failed)).status, 'available');
  assert.deepEqual(
    (await cast(db)).map(([, , method]) => method),
    ['refresh_connections'],
  );
});

test('volumes of a failed launch: its host gives them back; when that is down they go if they were made for it, and else stay', async (t) => {
  const db = await aCloud(t);
  const instance = { vm_state: 'error' };
  const there = await anAttachment(db, { instance });
  const made = await anAttachment(db, { instance, made_for_launch: true });

  await sweep(db);
  assert.deepEqual(await cast(db), []);
  for (const id of [there, made]) assert.equal((await volumeById(db, id)).status, 'attaching');

  await db.updateTable('volumes').set(overdue).execute();
  await goesDown(db, 'node1');
  await sweep(db);

  assert.equal((await volumeById(db, there)).status, 'available');
  assert.equal((await volumeById(db, made)).status, 'deleting');
  assert.deepEqual((await cast(db)).map(([, host, method, args]) => [host, method, args]).toReversed(), [
    ['store1', 'refresh_connections', { volume_id: there }],
    ['store1', 'delete_volume', { volume_id: made }],
  ]);
});
