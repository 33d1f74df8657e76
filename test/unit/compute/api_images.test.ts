import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImageNotActive, InvalidInput } from '../../../src/common/errors.ts';
import { type LaunchSpec } from '../../../src/compute/api.ts';
import { anImage } from '../../builders.ts';

import { anApi, assertNothing } from './a_compute_api.ts';

test('an image that is not active says what it is, and why', async (t) => {
  const { db, launch } = await anApi(t);
  const queued = await anImage(db, { status: 'queued' });
  const broken = await anImage(db, { status: 'error', fault: 'its manifest is no XML' });

  await assert.rejects(launch({ image_id: queued }), (err) => {
    assert.ok(err instanceof ImageNotActive);
    assert.match(err.message, /^image ami-0000000\d is queued; only an active image boots$/);
    return true;
  });
  await assert.rejects(launch({ image_id: broken }), /is error \(its manifest is no XML\); only/);
  await assertNothing(db);
});

test('a kernel is no machine image, and a machine image is no kernel', async (t) => {
  const { db, launch } = await anApi(t);
  const aki = await anImage(db, { container_format: 'aki' });
  const ari = await anImage(db, { container_format: 'ari' });

  for (const [spec, message] of [
    [{ image_id: aki }, /image aki-0000000\d is of format aki; here ami or bare is needed/],
    [{ kernel_id: 1 }, /image ami-00000001 is of format bare; here aki is needed/],
    [{ kernel_id: ari }, /is of format ari; here aki is needed/],
    [{ kernel_id: aki, ramdisk_id: aki }, /is of format aki; here ari is needed/],
  ] as const)
    await assert.rejects(launch(spec), (err) => err instanceof InvalidInput && message.test(err.message));
  await assertNothing(db);
});

test("kernel and ramdisk are the image's unless the launch names others, or says that there are none", async (t) => {
  const { db, launch } = await anApi(t);
  const aki = await anImage(db, { container_format: 'aki' });
  const ari = await anImage(db, { container_format: 'ari' });
  const other = await anImage(db, { container_format: 'aki' });
  const image_id = await anImage(db, { container_format: 'ami', kernel_id: aki, ramdisk_id: ari });
  const parts = async (spec: Partial<LaunchSpec>) => {
    const [made] = (await launch({ image_id, ...spec })).instances;
    return [made?.kernel_id, made?.ramdisk_id];
  };

  assert.deepEqual(await parts({}), [aki, ari]);
  assert.deepEqual(await parts({ kernel_id: other }), [other, ari]);
  assert.deepEqual(await parts({ ramdisk_id: null }), [aki, null]);
  assert.deepEqual(await parts({ kernel_id: null }), [null, null]);
});
