import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allPids, readProc, readText } from '../../../scripts/proc.ts';
import type { Scope } from '../../rigs/tmp.ts';

/** Runs `use` with a scope of its own, ends that, and fails when a process, a folder or a network device is left. */
export async function assertLeavesNothing(use: (scope: Scope) => Promise<void>): Promise<void> {
  const marked = mark();
  const ends: Array<() => Promise<void>> = [];
  try {
    await use({ after: (fn) => void ends.push(fn) });
  } finally {
    for (const end of ends) await end();
    assert.deepEqual(marked.leftovers(), []);
    marked.remove();
  }
}

/** From here on, what this process starts can be told by its environment, and its temp folders lie in one. */
export function mark(): { leftovers: () => string[]; remove: () => void } {
  const { TMPDIR } = process.env;
  const mark = `NOVA_TEST_MARK=${randomUUID()}`;
  const folder = mkdtempSync(join(tmpdir(), 'nova-mark-'));
  chmodSync(folder, 0o755); // servers that run as a user of their own have their folders in it
  [process.env['NOVA_TEST_MARK'], process.env['TMPDIR']] = [mark.slice(15), folder];
  return {
    leftovers: () => [
      ...processesWith(mark),
      ...readdirSync(folder).map((name) => `folder ${name}`),
      ...devicesWith(mark),
    ],
    remove() {
      delete process.env['NOVA_TEST_MARK'];
      if (TMPDIR === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = TMPDIR;
      rmSync(folder, { recursive: true });
    },
  };
}

/** Network devices of this machine whose alias is the mark; one that goes while we look is gone. */
const devicesWith = (mark: string): string[] =>
  readdirSync('/sys/class/net').filter((name) => readText(`/sys/class/net/${name}/ifalias`).trim() === mark);

/** Other processes than this one whose environment has the mark: a zombie has none, and has ended. */
function processesWith(mark: string): string[] {
  return allPids()
    .filter((pid) => pid !== process.pid)
    .filter((pid) => readProc(pid, 'environ').includes(mark))
    .map((pid) => `process ${pid} ${readProc(pid, 'cmdline').replaceAll('\0', ' ')}`);
}
