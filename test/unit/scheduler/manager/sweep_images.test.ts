import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminContext } from '../../../../src/common/context.ts';
import { writing, type NovaDb } from '../../../../src/common/db/connect.ts';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { createImage, imageById } from '../../../../src/common/db/images.ts';
import { castJob, listJobs } from '../../../../src/common/db/jobs.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { objectstoreClient } from '../../../../src/objectstore/rpc.ts';
import { chance } from '../../../../src/scheduler/logic/chance.ts';
import { SchedulerManager } from '../../../../src/scheduler/manager/scheduler.ts';
import { aContext, aDatabase } from '../../../builders.ts';
import { later } from '../../../clock.ts';

const bus = new MemoryBus();
const aQueuedImage = (db: NovaDb, location: string): Promise<number> =>
  createImage(db, {
    name: 'tiny',
    project_id: 'apollo',
    user_id: null,
    is_public: true,
    container_format: 'bare',
    disk_format: 'raw',
    architecture: 'x86_64',
    kernel_id: null,
    ramdisk_id: null,
    location,
    properties: {},
  });
const sweep = (db: NovaDb): Promise<void> =>
  new SchedulerManager({ db, flags: Flags.of(), log: silentLog, bus, host: 'ctl', rule: chance }).periodicTasks(
    adminContext(),
  );
const jobs = async (db: NovaDb) => (await listJobs(db, {})).map(({ method, resource }) => [method, resource]);
const told = async (db: NovaDb, id: number) => (await eventsOf(db, `image:${id}`)).map(({ event }) => event);

test('an image that nova-manage no longer stores is given up, and its bytes are taken away', async (t) => {
  const db = await aDatabase(t);
  const id = await aQueuedImage(db, 'local');
  await sweep(db);
  assert.equal((await imageById(db, id))?.status, 'queued'); // its bytes may well come

  later(t, 3600);
  await sweep(db);
  await sweep(db);

  const image = await imageById(db, id);
  assert.deepEqual([image?.status, image?.task_deadline], ['error', null]);
  assert.match(image?.fault ?? '', /^nova-manage was ended before all bytes were stored: register the image again$/);
  assert.deepEqual(await told(db, id), ['given up: its bytes stopped coming']);
  assert.deepEqual(await jobs(db), [['delete_image', `image:${id}`]]);
});

test('an image of a bucket waits for its job, and gets another one when that is lost', async (t) => {
  const db = await aDatabase(t);
  const [waits, lost] = [await aQueuedImage(db, 'b/one'), await aQueuedImage(db, 'b/two')];
  await writing(db, (tx) => castJob(tx, aContext(), objectstoreClient(bus).registerImage, { image_id: waits }));

  later(t, 3600);
  await sweep(db);
  await sweep(db); // both have a new deadline

  assert.deepEqual(await told(db, waits), ['still queued']);
  assert.deepEqual(await told(db, lost), ['queued had no job, cast again']);
  assert.deepEqual((await jobs(db)).toSorted(), [
    ['register_image', `image:${waits}`],
    ['register_image', `image:${lost}`],
  ]);
});
