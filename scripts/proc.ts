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

/** A zombie has ended, its files closed: the first process of a container may never reap it. */
export const isAlive = (pid: number): boolean => /\) [^ZX] /.test(readProc(pid, 'stat'));

/** Those of this machine, zombies among them. */
export const allPids = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
