import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import { errorText } from '../../src/common/errors.ts';
import { LIBVIRTD_DIR_MAX } from '../own_libvirtd.ts';
import { kvmObstacle } from './kvm.ts';
import { StartError } from './start_error.ts';
import type { Mode, StateFolder } from './state_folder.ts';

export const DRIVERS = ['libvirt', 'qemu', 'fake'] as const;

/** A mode, and why none that does more: lines for the user. */
export interface Choice {
  mode: Mode;
  why_not: string[];
}

/** The most that this machine and user can do. @param wanted nothing else will do. @throws StartError with what is missing */
export async function chooseMode(state: StateFolder, wanted?: Mode['driver']): Promise<Choice> {
  const why_not: string[] = [];
  for (const driver of DRIVERS) {
    if (wanted !== undefined && wanted !== driver) continue;
    const obstacle = await OBSTACLES[driver](state);
    if (obstacle === undefined) return { mode: await modeOf(driver, state, why_not), why_not };
    why_not.push(`no ${driver}: ${obstacle}`);
  }
  throw new StartError(`--driver=${wanted} is not possible here: ${why_not.join('; ')}`);
}

const OBSTACLES: Record<Mode['driver'], (state: StateFolder) => Promise<string | undefined>> = {
  async libvirt({ dir }) {
    if (process.getuid?.() !== 0) return 'bridges and libvirtd need root';
    if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun, of which guests get their cards';
    const lacking = lackingPrograms({
      virsh: 'libvirt-clients',
      libvirtd: 'libvirt-daemon-system',
      dnsmasq: 'dnsmasq-base',
      iptables: 'iptables',
      ip: 'iproute2',
      'qemu-system-x86_64': 'qemu-system-x86',
      'qemu-img': 'qemu-utils',
    });
    if (lacking !== undefined) return lacking;
    if (join(dir, 'libvirt').length > LIBVIRTD_DIR_MAX)
      return `${dir} is too long for libvirtd's socket: set NOVA_STATE_DIR to a shorter path`;
    return networkObstacle();
  },
  qemu: async () => lackingPrograms({ 'qemu-system-x86_64': 'qemu-system-x86', 'qemu-img': 'qemu-utils' }),
  fake: async () => undefined,
};

function lackingPrograms(programs: Record<string, string>): string | undefined {
  const lacking = Object.entries(programs).filter(([program]) => !isThere(program));
  if (lacking.length === 0) return undefined;
  return `${lacking.map(([program]) => program).join(', ')} not installed: apt-get install ${[...new Set(lacking.map(([, from]) => from))].join(' ')}`;
}

export const isThere = (program: string): boolean =>
  (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));

/** Root in a container often may not touch the network: a bridge is made and taken away again, and rules are read. */
async function networkObstacle(): Promise<string | undefined> {
  const name = `nova${process.pid}`.slice(0, 15);
  try {
    await execute(['ip', 'link', 'add', 'name', name, 'type', 'bridge']);
    await execute(['ip', 'link', 'del', 'dev', name]);
    await execute(['iptables', '-t', 'nat', '-S']);
    return undefined;
  } catch (err) {
    return `this root may not make bridges and rules (${errorText(err).trim()})`;
  }
}

async function modeOf(driver: Mode['driver'], state: StateFolder, why_not: string[]): Promise<Mode> {
  if (driver === 'fake') return { driver };
  const obstacle = await kvmObstacle(state);
  const accel = obstacle === undefined ? 'kvm' : 'tcg';
  if (obstacle !== undefined) why_not.push(`no KVM: ${obstacle}; the processor is emulated, which is slow`);
  if (driver === 'qemu') return { driver, accel };
  return { driver, accel, libvirtd: await whichLibvirtd(state, accel, why_not) };
}

/** The machine's, when one answers and can run a guest of ours: with its users, cgroups and the rights of our folder. */
async function whichLibvirtd(state: StateFolder, accel: 'kvm' | 'tcg', why_not: string[]): Promise<'machine' | 'own'> {
  const virsh = (...words: string[]) =>
    execute(['virsh', '-q', '-c', 'qemu:///system', ...words], { timeout_ms: 30_000 });
  try {
    await virsh('version');
  } catch {
    return 'own'; // none runs
  }
  const disk = state.path('probe.img');
  writeFileSync(disk, Buffer.alloc(512));
  state.write('probe.xml', probeDomain(disk, accel));
  try {
    await virsh('create', state.path('probe.xml'), '--paused');
    return 'machine';
  } catch (err) {
    why_not.push(`not the libvirtd of this machine, which cannot run a guest: ${lastLine(errorText(err))}`);
    return 'own';
  } finally {
    await virsh('destroy', PROBE).catch(() => undefined); // it did not start
    for (const file of [disk, state.path('probe.xml')]) rmSync(file, { force: true });
  }
}

const PROBE = 'nova-start-probe';

/** A guest that never runs: no system, its disk in our folder. */
const probeDomain = (disk: string, accel: 'kvm' | 'tcg'): string => `<domain type='${accel === 'kvm' ? 'kvm' : 'qemu'}'>
  <name>${PROBE}</name><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>
  </devices></domain>
`;

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';
