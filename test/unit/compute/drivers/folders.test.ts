import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { QemuDriver } from '../../../../src/compute/drivers/qemu/driver.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { tempDir } from '../../../rigs/tmp.ts';

const uuid = '00000000-0000-4000-8000-000000000001';

test('a folder that a killed launch or removal left is a guest that is off, and goes as one', async (t) => {
  const instances_path = tempDir(t);
  const folder = join(instances_path, 'instance-00000001');
  mkdirSync(join(folder, 'disk.part.inject'), { recursive: true });
  mkdirSync(join(instances_path, '_base'));
  mkdirSync(join(instances_path, 'of-somebody-else'));
  writeFileSync(join(instances_path, 'a-file'), '');
  writeFileSync(join(folder, 'guest.json'), JSON.stringify({ uuid }));
  writeFileSync(join(folder, 'disk.part'), 'half a disk');
  const driver = new QemuDriver({ flags: Flags.of({ instances_path }), log: silentLog });

  assert.deepEqual(await driver.listInstances(), [{ name: 'instance-00000001', uuid, state: PowerState.SHUTOFF }]);
  await driver.destroy('instance-00000001', new AbortController().signal, uuid);

  assert.deepEqual([existsSync(folder), await driver.listInstances()], [false, []]);
});
