import { readFileSync, readdirSync } from 'node:fs';

/** A file of the kernel; empty when what it tells of has gone, be it between opening and reading, or is another user's. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** A file of a process, such as `cmdline`; empty when the process has ended. */
export const readProc = (pid: number, file: string): string => readText(`/proc/${pid}/${file}`);

/**
 * Whether a thread of it is not a zombie: all have ended and its files are closed then, though the first process of a
 * container may never reap it. The first thread may be one while another still writes.
 */
export const isAlive = (pid: number): boolean =>
  idsIn(`/proc/${pid}/task`).some((thread) => /\) [^ZX] /.test(readProc(pid, `task/${thread}/stat`)));

/** Those of this machine, zombies among them. */
export const allPids = (): number[] => idsIn('/proc');

/** None where the folder has gone. */
function idsIn(folder: string): number[] {
  try {
    return readdirSync(folder)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}
