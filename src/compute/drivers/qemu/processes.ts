import { readdir, readFile } from 'node:fs/promises';
import { sleep } from '../../../common/clock.ts';
import { BackendUnavailable } from '../../../common/errors.ts';

/**
 * The processes of this host whose command line has all the arguments that `wanted` asks for.
 * A process is always looked up by what it runs, and never by a pid that was written down: that number may by now be
 * another program's. One that has ended and was not yet collected has no command line, so it does not count.
 */
export async function processesWith(wanted: (argv: readonly string[]) => boolean): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => commandLine(Number(pid))));
  return pids.flatMap((pid, i) => (wanted(lines[i] ?? []) ? [Number(pid)] : []));
}

/** The arguments of every process, for one look at many guests. */
export async function allCommandLines(): Promise<string[][]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  return Promise.all(pids.map((pid) => commandLine(Number(pid))));
}

async function commandLine(pid: number): Promise<string[]> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
  } catch {
    return []; // it ended while we looked, or is not ours to read
  }
}

/**
 * Ends the processes that `find` finds, whatever it takes.
 * @throws BackendUnavailable when one is still there after `timeout_ms`, which is the kernel's word that it waits for
 *   a disk
 */
export async function endAll(find: () => Promise<number[]>, what: string, timeout_ms = 10_000): Promise<void> {
  for (let waited_ms = 0; ; waited_ms += 50) {
    const pids = await find();
    if (pids.length === 0) return;
    if (waited_ms >= timeout_ms)
      throw new BackendUnavailable(`${what}: process ${pids.join(', ')} is still there ${waited_ms} ms after SIGKILL`);
    for (const pid of pids) kill(pid);
    await sleep(50);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ESRCH') throw err;
  }
}
