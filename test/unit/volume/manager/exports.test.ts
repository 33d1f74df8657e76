import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writing } from '../../../../src/common/db/connect.ts';
import { targetsOfHost } from '../../../../src/common/db/iscsi_targets.ts';
import { attachmentOfVolume, beginAttachment, endAttachment } from '../../../../src/common/db/volume_attachments.ts';
import { volumeById } from '../../../../src/common/db/volumes.ts';
import { Conflict } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { FakeVolumeDriver } from '../../../../src/volume/drivers/fake.ts';
import { Exports } from '../../../../src/volume/manager/exports.ts';
import { StoreNames } from '../../../../src/volume/manager/names.ts';
import { aContext, aDatabase, anInstance, aVolume } from '../../../builders.ts';

test('however connections, ends and refreshes of a volume come together, who is let in at last is who has it', async (t) => {
  const db = await aDatabase(t);
  const flags = Flags.of({ fake_volume_delay_ms: 1 });
  const driver = new FakeVolumeDriver({ flags });
  const names = new StoreNames(flags);
  const exports = new Exports({ db, log: silentLog, host: 'store1', driver, names, iscsi_num_targets: 100 });
  const { signal } = new AbortController();
  const volume_id = await aVolume(db);
  driver.store.volumes[names.volume(await volumeById(db, volume_id)).name] = { size: 1, from: null };
  const instance_id = await anInstance(db);

  for (let round = 1; round <= 20; round++) {
    const id = await writing(db, (tx) => beginAttachment(tx, { volume_id, instance_id, device: '/dev/vdb' }));
    const attachment = (await attachmentOfVolume(db, volume_id)) ?? assert.fail();
    const results = await Promise.allSettled([
      exports.connect(aContext(), volume_id, id),
      exports.refresh(volume_id, signal),
      ...(round % 2 === 0 ? [writing(db, (tx) => endAttachment(tx, attachment))] : []),
      exports.connect(aContext(), volume_id, id),
      exports.refresh(volume_id, signal),
    ]);
    for (const result of results)
      if (result.status === 'rejected' && !(result.reason instanceof Conflict)) throw result.reason;

    if (round % 2 === 0) {
      await exports.refresh(volume_id, signal); // as the end casts it
      assert.deepEqual([driver.store.exports, await targetsOfHost(db, 'store1')], [{}, []], `round ${round}`);
      await assert.rejects(exports.connect(aContext(), volume_id, id), Conflict);
    } else {
      assert.deepEqual(
        Object.values(driver.store.exports).map(({ username, password }) => [username, password]),
        [[attachment.auth_username, attachment.auth_password]],
        `round ${round}`,
      );
      await writing(db, (tx) => endAttachment(tx, attachment));
    }
  }
});
