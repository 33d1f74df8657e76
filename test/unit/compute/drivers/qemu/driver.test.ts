import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { sleep } from '../../../../../src/common/clock.ts';
import { Flags } from '../../../../../src/common/flags.ts';
import { silentLog } from '../../../../../src/common/log.ts';
import { QemuDriver } from '../../../../../src/compute/drivers/qemu/driver.ts';
import { PowerState } from '../../../../../src/compute/logic/power_state.ts';
import { tempDir } from '../../../../rigs/tmp.ts';

const uuid = '00000000-0000-4000-8000-000000000001';

test('a guest whose console cannot be cut and one whose QEMU does not answer are listed with the others', async (t) => {
  const instances_path = tempDir(t);
  const [full, hangs] = ['instance-00000001', 'instance-00000002'].map((name) => join(instances_path, name));
  assert.ok(full !== undefined && hangs !== undefined);
  for (const folder of [full, hangs]) {
    mkdirSync(folder);
    writeFileSync(join(folder, 'guest.json'), JSON.stringify({ uuid }));
    const definition = { uuid, forwards: {}, address: null, network: null };
    writeFileSync(join(folder, 'qemu.json'), JSON.stringify(definition));
  }
  writeFileSync(join(full, 'console.log'), 'x'.repeat(1024 * 1024));
  mkdirSync(join(full, 'console.log.1.tmp')); // nothing can be written there, as on a full disk
  const argv = ['-c', 'while :; do sleep 1; done', '-daemonize', '-pidfile', join(hangs, 'qemu.pid')];
  const qemu = spawn('/bin/sh', argv, { stdio: 'ignore' });
  t.after(() => qemu.kill('SIGKILL'));
  while (!readFileSync(`/proc/${qemu.pid}/cmdline`, 'utf8').includes('-daemonize')) await sleep(5);
  const driver = new QemuDriver({ flags: Flags.of({ instances_path }), log: silentLog });

  assert.deepEqual(await driver.listInstances(), [
    { name: 'instance-00000001', uuid, state: PowerState.SHUTOFF },
    { name: 'instance-00000002', uuid, state: PowerState.RUNNING },
  ]);
  assert.deepEqual([...(await driver.listVolumes())], []);
});
