import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { test, type TestContext } from 'node:test';
import { imageById } from '../../../../src/common/db/images.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { imagePath } from '../../../../src/common/image/store.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { objectSource } from '../../../../src/objectstore/drivers/object_source.ts';
import { openStore } from '../../../../src/objectstore/drivers/store.ts';
import { ObjectstoreManager } from '../../../../src/objectstore/manager/objectstore.ts';
import { aContext, aDatabase, anImage } from '../../../builders.ts';
import { tempDir } from '../../../rigs/tmp.ts';

async function aStore(t: TestContext) {
  const db = await aDatabase(t);
  const images_path = tempDir(t);
  const store = openStore(tempDir(t));
  const manager = new ObjectstoreManager({
    db,
    flags: Flags.of({ images_path }),
    log: silentLog,
    host: 'ctl',
    objects: objectSource(store),
    sweep: () => store.sweep(),
  });
  /** With the bytes that a process left that was killed. */
  const anImageIn = async (status: string): Promise<{ id: number; left: string }> => {
    const id = await anImage(db, { status });
    const left = `${imagePath(images_path, id)}.0123`;
    mkdirSync(dirname(left));
    writeFileSync(left, 'half a disk');
    return { id, left };
  };
  return { db, manager, anImageIn };
}

test('what came of an image that failed is taken away, and of none that is well or still comes', async (t) => {
  const { manager, anImageIn } = await aStore(t);
  const images = [await anImageIn('error'), await anImageIn('queued'), await anImageIn('active')];

  for (const { id } of images) await manager.deleteImage(aContext(), { image_id: id });

  assert.deepEqual(
    images.map(({ left }) => existsSync(left)),
    [false, true, true],
  );
});

test('a job that failed for good leaves no bytes, and an image that is active as it is', async (t) => {
  const { db, manager, anImageIn } = await aStore(t);
  const [queued, active] = [await anImageIn('queued'), await anImageIn('active')];

  for (const { id } of [queued, active])
    await manager.jobFailed(aContext(), 'register_image', { image_id: id }, new Error('killed three times'));

  assert.deepEqual([existsSync(queued.left), existsSync(active.left)], [false, true]);
  const [one, other] = [await imageById(db, queued.id), await imageById(db, active.id)];
  assert.deepEqual([one?.status, one?.fault], ['error', 'killed three times']);
  assert.deepEqual([other?.status, other?.properties], ['active', '{}']);
});
