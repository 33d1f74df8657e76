import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { textIn } from '../../../src/common/clock.ts';
import { adminContext } from '../../../src/common/context.ts';
import { visibleImages } from '../../../src/common/db/images.ts';
import { ImageNotFound, InvalidInput, NotFound, ProjectNotFound } from '../../../src/common/errors.ts';
import { imagePath } from '../../../src/common/image/store.ts';
import { explainCommands } from '../../../src/manage/explain.ts';
import { imageCommands } from '../../../src/manage/image.ts';
import { aDatabase, aProject, anImage } from '../../builders.ts';
import { tempDir } from '../../rigs/tmp.ts';
import { run } from './a_manage.ts';

const DEFAULTS = { owner: 'apollo', name: undefined, public: true, arch: 'x86_64' };
const BARE = { ...DEFAULTS, cont_format: 'bare', disk_format: 'raw', kernel: undefined, ram: undefined };

test('image_register stores the bytes and prints the number as the world sees it', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const dir = tempDir(t);
  const path = join(dir, 'tiny.img');
  writeFileSync(path, 'a disk');

  const printed = await run(db, imageCommands, 'image_register', { ...BARE, path }, { images_path: dir });

  assert.deepEqual(printed, ['Image registered to 1 (00000001).']);
  assert.equal(readFileSync(imagePath(dir, 1), 'utf8'), 'a disk');
  const [image] = await visibleImages(db, adminContext()).execute();
  assert.deepEqual(
    [image?.name, image?.status, image?.project_id, image?.is_public, image?.container_format, image?.location],
    ['tiny.img', 'active', 'apollo', 1, 'bare', 'local'],
  );
  assert.match(
    (await run(db, imageCommands, 'list', { project: undefined }))[1] ?? '',
    /^ami-00000001  1   tiny\.img  active  apollo   T /,
  );
});

test('explain tells who registered an image, and what became of it', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const dir = tempDir(t);
  const path = join(dir, 'tiny.img');
  writeFileSync(path, 'a disk');
  await run(db, imageCommands, 'image_register', { ...BARE, path }, { images_path: dir });
  await anImage(db, { status: 'queued', task_deadline: textIn(100) });

  const stored = (await run(db, explainCommands, null, { what: 'ami-00000001' })).join('\n');
  const waits = (await run(db, explainCommands, null, { what: 'ami-00000002' })).join('\n');

  assert.match(stored, /image registered  by nova-manage, file \S+\/tiny\.img\n/);
  assert.match(stored, /image stored      checksum [0-9a-f]{64}, size bytes 6\n/);
  assert.match(stored, /Now\n {4}It is active\.$/);
  assert.match(waits, /It is queued\.\n.*nova-manage stores its bytes, where it still runs\.\n/);
  await assert.rejects(run(db, explainCommands, null, { what: 'ami-00000003' }), NotFound);
});

test('all_register links the image to its kernel and ramdisk, and does nothing when one file is missing', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const dir = tempDir(t);
  const files = Object.fromEntries(['image', 'kernel', 'ram'].map((name) => [name, join(dir, name)]));
  const flags = { images_path: dir };
  for (const name of ['image', 'kernel']) writeFileSync(join(dir, name), name);
  const all = { ...DEFAULTS, ...files };
  await assert.rejects(run(db, imageCommands, 'all_register', all, flags), InvalidInput);
  assert.deepEqual(await visibleImages(db, adminContext()).execute(), []);
  writeFileSync(join(dir, 'ram'), 'ram');

  const printed = await run(db, imageCommands, 'all_register', { ...all, name: 'mine', public: false }, flags);

  assert.equal(printed.length, 3);
  const images = await visibleImages(db, adminContext()).orderBy('id').execute();
  assert.deepEqual(
    images.map((image) => [image.name, image.container_format, image.kernel_id, image.ramdisk_id, image.is_public]),
    [
      ['kernel', 'aki', null, null, 0],
      ['ram', 'ari', null, null, 0],
      ['mine', 'ami', 1, 2, 0],
    ],
  );
});

test('image_register takes as kernel and ramdisk what is there, is that, and may be used by the owner', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const dir = tempDir(t);
  const path = join(dir, 'disk');
  writeFileSync(path, 'a disk');
  const [ami, others, kernel] = [
    await anImage(db),
    await anImage(db, { container_format: 'aki', project_id: 'gemini', is_public: 0 }),
    await anImage(db, { container_format: 'aki' }),
  ];
  const register = (parts: { kernel?: number; ram?: number }) =>
    run(db, imageCommands, 'image_register', { ...BARE, path, ...parts }, { images_path: dir });

  await assert.rejects(register({ kernel: 99 }), /there is no image ami-00000063/);
  await assert.rejects(register({ kernel: ami }), /image 1 is no kernel: its container format is bare, not aki/);
  await assert.rejects(register({ kernel: others }), ImageNotFound);
  await assert.rejects(register({ kernel, ram: kernel }), /is no ramdisk/);

  assert.equal((await visibleImages(db, adminContext()).execute()).length, 3);
  await register({ kernel });
});

test('an image of a project that is not there is refused', async (t) => {
  const db = await aDatabase(t);
  const path = join(tempDir(t), 'x');
  writeFileSync(path, 'x');
  await assert.rejects(run(db, imageCommands, 'image_register', { ...BARE, path }), ProjectNotFound);
});

test('delete takes the image out of the list and leaves the bytes to nova-objectstore', async (t) => {
  const db = await aDatabase(t);
  await anImage(db);

  assert.deepEqual(await run(db, imageCommands, 'delete', { image: 'ami-00000001' }), ['ami-00000001 deleted']);

  assert.equal((await run(db, imageCommands, 'list', {})).length, 1);
  const job = await db.selectFrom('jobs').select(['topic', 'method', 'args']).executeTakeFirst();
  assert.deepEqual(job, { topic: 'objectstore', method: 'delete_image', args: '{"image_id":1}' });
});

test('convert brings in kernels before the machine images that name them, and goes on behind a bad one', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const dir = tempDir(t);
  const old = (imageId: string, more: Record<string, unknown>): void => {
    mkdirSync(join(dir, imageId));
    const info = { imageId, imageOwnerId: 'apollo', isPublic: true, architecture: 'i386', imageState: 'available' };
    writeFileSync(join(dir, imageId, 'info.json'), JSON.stringify({ ...info, ...more }));
    writeFileSync(join(dir, imageId, 'image'), imageId);
  };
  old('ami-aaa', { type: 'machine', kernelId: 'aki-zzz', ramdiskId: 'ari-zzz' });
  old('ami-bbb', { type: 'machine' });
  old('ami-ccc', { type: 'machine', kernelId: 'aki-none' });
  old('aki-zzz', { type: 'kernel' });
  old('ari-zzz', { type: 'ramdisk' });
  writeFileSync(join(dir, 'README'), 'no image');

  await assert.rejects(
    run(db, imageCommands, 'convert', { dir }, { images_path: join(dir, 'new') }),
    /^InvalidInput: 1 of 5 images were not converted$/,
  );

  const images = await visibleImages(db, adminContext()).orderBy('id').execute();
  assert.deepEqual(
    images.map((image) => [image.name, image.container_format, image.disk_format, image.kernel_id, image.ramdisk_id]),
    [
      ['aki-zzz', 'aki', 'aki', null, null],
      ['ari-zzz', 'ari', 'ari', null, null],
      ['ami-aaa', 'ami', 'ami', 1, 2],
      ['ami-bbb', 'bare', 'raw', null, null],
    ],
  );
});
