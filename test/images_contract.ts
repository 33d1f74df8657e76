import assert from 'node:assert/strict';
import { adminContext } from '../src/common/context.ts';
import {
  createImage,
  deleteImageRow,
  failImage,
  imageById,
  mergeImageProperties,
  overdueImages,
  queueImage,
  renewImage,
  updateImage,
  visibleImage,
  visibleImages,
} from '../src/common/db/images.ts';
import type { NovaDb } from '../src/common/db/connect.ts';
import { ImageNotFound } from '../src/common/errors.ts';
import { aContext, anImage } from './builders.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

const propertiesOf = async (db: NovaDb, id: number): Promise<unknown> =>
  JSON.parse((await imageById(db, id))?.properties ?? 'null');

/** What holds of the images table, on every database. */
export function imagesContract(database: Database): void {
  const it = contractOf(database);

  it('an image is seen by its project, by all when it is public, and by administrators', async (db) => {
    const own = await anImage(db, { is_public: 0 });
    const others = await anImage(db, { is_public: 0, project_id: 'gemini' });
    const shared = await anImage(db, { project_id: 'gemini' });
    const ids = async (ctx = aContext()) =>
      (await visibleImages(db, ctx).orderBy('id').execute()).map((image) => image.id);

    assert.deepEqual(await ids(), [own, shared]);
    assert.deepEqual(await ids(adminContext()), [own, others, shared]);
    assert.deepEqual(await ids(aContext({ project_id: null })), [shared]);
    assert.equal((await visibleImage(db, aContext(), own)).id, own);
    await assert.rejects(visibleImage(db, aContext(), others), ImageNotFound);
    await assert.rejects(visibleImage(db, aContext(), 999), /there is no image ami-000003e7 \(999\)/);
  });

  it('a new image is queued and has no bytes', async (db) => {
    const id = await createImage(db, {
      name: 'tiny',
      project_id: 'apollo',
      user_id: null,
      is_public: false,
      container_format: 'ami',
      disk_format: 'ami',
      architecture: 'x86_64',
      kernel_id: 3,
      ramdisk_id: null,
      location: 'bucket/key',
      properties: { os: 'tiny' },
    });

    const { status, checksum, size_bytes, is_public, kernel_id } = await visibleImage(db, aContext(), id);
    assert.deepEqual(
      { status, checksum, size_bytes, is_public, kernel_id },
      { status: 'queued', checksum: null, size_bytes: null, is_public: 0, kernel_id: 3 },
    );
    assert.deepEqual(await propertiesOf(db, id), { os: 'tiny' });
  });

  it('an image whose bytes stopped coming is given up once, and a job may begin again', async (db, all) => {
    const seen = '2011-04-15T00:00:00.000Z';
    const id = await anImage(db, { status: 'queued', task_deadline: seen });
    await anImage(db, { status: 'queued', task_deadline: '9999-01-01T00:00:00.000Z' });
    const overdue = async () => (await overdueImages(db, 10)).map((image) => image.id);
    assert.deepEqual(await overdue(), [id]);

    const failed = await atOnce(all, 8, (on) => failImage(on, id, new Error('no bytes came'), seen));

    assert.equal(succeeded(failed).filter(Boolean).length, 1);
    assert.deepEqual(await overdue(), []);
    assert.equal(await renewImage(db, id), false);
    assert.equal(await queueImage(db, id), true);
    assert.equal(await renewImage(db, id, seen), false); // its deadline is another now
    assert.equal(await failImage(db, id, new Error('late'), seen), false);
    assert.equal(await renewImage(db, id), true);
    assert.deepEqual([(await imageById(db, id))?.status, await overdue()], ['queued', []]);
  });

  it('twenty who set a property each at once all set it', async (db, all) => {
    const id = await anImage(db, { properties: '{"old":"1","gone":"1"}' });

    succeeded(
      await atOnce(all, 20, (on, i) =>
        mergeImageProperties(on, id, i === 0 ? { gone: null } : { [`p${i}`]: String(i) }),
      ),
    );

    const wanted = Array.from({ length: 19 }, (_, i) => [`p${i + 1}`, String(i + 1)]);
    assert.deepEqual(await propertiesOf(db, id), { old: '1', ...Object.fromEntries(wanted) });
  });

  it('an image is deleted once, and then changes no more', async (db, all) => {
    const id = await anImage(db);

    assert.equal(await updateImage(db, id, { name: 'small', is_public: 0 }), true);
    const deleted = await atOnce(all, 8, (on) => deleteImageRow(on, id));

    assert.equal(succeeded(deleted).filter(Boolean).length, 1);
    assert.equal(await updateImage(db, id, { name: 'large' }), false);
    await mergeImageProperties(db, id, { os: 'none' });
    assert.equal((await imageById(db, id))?.name, 'small');
    assert.deepEqual(await propertiesOf(db, id), {});
    await assert.rejects(visibleImage(db, adminContext(), id), ImageNotFound);
  });
}
