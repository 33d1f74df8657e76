import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../../../src/common/clock.ts';
import { Conflict } from '../../../../src/common/errors.ts';
import { unplug } from '../../../../src/compute/drivers/volume_unplug.ts';

const never = new AbortController().signal;

test('the time that a guest has to let go of a disk begins when it stands still no more', async () => {
  let frozen = true;
  let gone = false;
  const disk = { ask: async () => undefined, isGone: async () => gone, isFrozen: async () => frozen };
  const failed = assert.rejects(unplug(disk, 'vol-00000001', 0.3, never), Conflict);
  let over = false;
  void failed.then(() => (over = true));
  await sleep(1000);
  assert.equal(over, false);
  frozen = false;
  await failed;

  frozen = true;
  const detached = unplug(disk, 'vol-00000001', 0.3, never);
  await sleep(600);
  gone = true;
  await detached;
});
