import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { execute } from '../../src/common/execute.ts';
import type { StateFolder } from './state_folder.ts';

/** `mov dx, 0x501; mov al, 16; out dx, al; hlt`: with isa-debug-exit there, QEMU ends with 16 * 2 + 1. */
const BOOT_SECTOR = Buffer.alloc(512);
BOOT_SECTOR.set([0xba, 0x01, 0x05, 0xb0, 0x10, 0xee, 0xf4]);
BOOT_SECTOR.set([0x55, 0xaa], 510);
const EXIT_CODE = 33;
/** With a KVM worth having it takes a fraction of a second; where it takes longer, guests are faster without. */
const TIMEOUT_MS = 2000;

/**
 * Why guests cannot run with KVM, or undefined when they do. /dev/kvm alone says little: in some virtual machines it is
 * there, QEMU starts, and the guest never gets anywhere, or QEMU ends when the guest is to have the host's processor, as
 * ours have. So one is booted that does nothing but end QEMU. What came of it holds until the machine is booted again, and
 * is kept for as long.
 */
export async function kvmObstacle(state: StateFolder): Promise<string | undefined> {
  if (!existsSync('/dev/kvm')) return 'there is no /dev/kvm';
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'this user may not open /dev/kvm (its group, kvm, may)';
  }
  const boot_id = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const file = state.path('kvm');
  let known = existsSync(file) ? readFileSync(file, 'utf8').split(' ') : [];
  if (known[0] !== boot_id) {
    known = [boot_id, (await boots(state)) ? 'works' : 'hangs'];
    state.write('kvm', known.join(' '));
  }
  return known[1] === 'works' ? undefined : 'a guest that was tried with /dev/kvm did not run';
}

async function boots(state: StateFolder): Promise<boolean> {
  const sector = state.path('boot_sector.img');
  writeFileSync(sector, BOOT_SECTOR);
  const argv = 'qemu-system-x86_64 -accel kvm -cpu host -m 32 -nodefaults -display none -boot a'.split(' ');
  argv.push('-device', 'isa-debug-exit,iobase=0x501,iosize=1');
  argv.push('-drive', `file=${sector},format=raw,if=floppy,readonly=on`);
  try {
    await execute(argv, { ok: [EXIT_CODE], timeout_ms: TIMEOUT_MS });
    return true;
  } catch {
    return false; // refused, or hung until it was killed
  } finally {
    rmSync(sector, { force: true });
  }
}
