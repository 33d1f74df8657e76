import assert from 'node:assert/strict';
import { existsSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { Conflict } from '../../src/common/errors.ts';
import { needs } from '../rigs/needs.ts';
import { anExport, aSnapshot, aStore, aVolume, exported, never, qemuIo } from './a_store.ts';

const skip = needs('tgtd', 'qemu-io', 'setpriv');
const MIB = 1024 * 1024;

test(
  'bytes that another row made, in this database or another, are neither adopted nor deleted',
  { skip },
  async (t) => {
    const { driver, dir } = await aStore(t);
    const theirs = aVolume({ size: 0 });
    const snapshot = aSnapshot(theirs);
    await driver.createVolume(theirs, never);
    await qemuIo(t, await exported(driver, anExport(theirs)), 'write -P 0x41 0 1M', 'flush');
    await driver.removeExport(theirs, theirs.id, never);
    await driver.createSnapshot(snapshot, null, never);
    const path = join(dir, 'volumes', theirs.name);

    for (const size of [0, 1]) {
      const ours = aVolume({ id: theirs.id, size }); // a database that is made anew gives a number again
      const wanted = new RegExp(
        `bytes of the name ${ours.name} are at ${dir}/volumes already.* --volume_name_template`,
      );
      await assert.rejects(
        driver.createVolume(ours, never),
        (err) => err instanceof Conflict && wanted.test(err.message),
      );
      await assert.rejects(driver.createVolumeFromSnapshot(ours, snapshot, never), Conflict);
      assert.equal(await driver.deleteVolume({ ...ours, made: true }, never), false);
    }
    const our_snapshot = { ...aSnapshot(theirs), name: snapshot.name };
    await assert.rejects(driver.createSnapshot(our_snapshot, null, never), /--snapshot_name_template/);
    assert.equal(await driver.deleteSnapshot(our_snapshot, never), false);
    await qemuIo(t, await exported(driver, anExport(theirs)), 'read -P 0x41 0 1M');
    await driver.removeExport(theirs, theirs.id, never);

    renameSync(path, join(dir, 'theirs'));
    const ours = aVolume({ id: theirs.id, size: 0 });
    await driver.createVolume(ours, never);
    await driver.createVolume(ours, never); // again changes nothing
    await assert.rejects(driver.createVolume({ ...ours, size: 1 }, never), Conflict);
    assert.equal(await driver.deleteVolume(theirs, never), false);
    assert.equal(await driver.deleteVolume(ours, never), true);
    assert.ok(!existsSync(path));
  },
);

test(
  'bytes with no token are of a volume that was made before there were tokens, and of no other',
  { skip },
  async (t) => {
    const { driver, dir } = await aStore(t);
    const volume = aVolume({ size: 0 });
    const path = join(dir, 'volumes', volume.name);
    writeFileSync(path, '');
    truncateSync(path, 100 * MIB);

    await assert.rejects(driver.createVolume(volume, never), Conflict);
    assert.equal(await driver.deleteVolume(volume, never), false);
    assert.equal(await driver.deleteVolume({ ...volume, made: true }, never), true);
    assert.ok(!existsSync(path));
  },
);
