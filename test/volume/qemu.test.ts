import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { execute } from '../../src/common/execute.ts';
import { QMP_SOCKET } from '../../src/compute/drivers/qemu/command_line.ts';
import { qmp } from '../../src/compute/drivers/qemu/qmp.ts';
import { needs } from '../rigs/needs.ts';
import { startTgt, type Tgt } from '../rigs/tgt.ts';
import { tempDir } from '../rigs/tmp.ts';
import { aRealRig } from '../guest/compute/drivers/rig.ts';
import { volumeCases, withShell, type VolumeRig } from './guest_volumes.ts';

// tgtd wants root; QEMU does not.
const skip = needs('root', 'qemu-system-x86_64', 'qemu-img', 'mke2fs', 'debugfs', 'tgtd', 'socat');
const tgt: Promise<Tgt> | undefined = skip ? undefined : startTgt({ after });

async function aQemuRig(t: TestContext, flags: Record<string, unknown> = {}): Promise<VolumeRig> {
  const rig = await aRealRig(t, tempDir(t), { connection_type: 'qemu', ...flags });
  const shell: VolumeRig['shell'] = async (name, line) => {
    const said = await rig.driver.getConsoleOutput(name, 1 << 20);
    const port = [...said.matchAll(/2222 at 127\.0\.0\.1:(\d+)/g)].at(-1)?.[1] ?? '';
    const argv = ['socat', '-t', '10', '-', `TCP:127.0.0.1:${port},connect-timeout=5`];
    return (await execute(argv, { input: `${line}\n` })).stdout;
  };
  const paused: VolumeRig['paused'] = async (name, yes) =>
    void (await qmp(join(rig.instances_path, name), QMP_SOCKET, yes ? 'stop' : 'cont'));
  return withShell(rig, await tgt!, shell, paused);
}

if (skip) test('volumes at guests of QEMU', { skip }, () => undefined);
else volumeCases('qemu', aQemuRig);
