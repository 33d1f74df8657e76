import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { makeVolumeDriver } from '../../../src/volume/classes.ts';

const made = async (volume_driver: string): Promise<string> =>
  (await makeVolumeDriver(volume_driver, { flags: Flags.of(), log: silentLog })).constructor.name;

test('--volume_driver chooses the driver by its dotted name', async () => {
  assert.equal(await made('nova.volume.driver.FakeISCSIDriver'), 'FakeVolumeDriver');
  assert.equal(await made('nova.volume.driver.FileISCSIDriver'), 'FileISCSIDriver');
  assert.equal(await made('nova.volume.driver.ISCSIDriver'), 'ISCSIDriver');
});

test('a driver that Nova had and we do not is refused by name, and a misspelt one with the known names', async () => {
  for (const name of ['nova.volume.driver.RBDDriver', 'nova.volume.san.HpSanISCSIDriver'])
    await assert.rejects(made(name), {
      name: 'ClassNotFound',
      message: new RegExp(
        `^--volume_driver=${name.replaceAll('.', '[.]')}: .*not part of this suite. Use .*FakeISCSIDriver`,
      ),
    });
  await assert.rejects(made('nova.volume.driver.ISCSIDrvier'), { message: /Known: .*FakeISCSIDriver/ });
});
