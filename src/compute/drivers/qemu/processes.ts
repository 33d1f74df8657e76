import { readdir, readFile } from 'node:fs/promises';
import { sleep } from '../../../common/clock.ts';
import { BackendUnavailable, errorText } from '../../../common/errors.ts';
import { errorCode } from '../files.ts';

/**
 * The processes of this host whose command line has all the arguments that `wanted` asks for.
 * A process is always looked up by what it runs, and never by a pid that was written down: that number may by now be
 * another program's. One that has ended and was not yet collected has no command line, so it does not count.
 */
export async function processesWith(wanted: (argv: readonly string[]) => boolean): Promise<number[]> {
  return (await processes()).flatMap(({ pid, argv }) => (wanted(argv) ? [pid] : []));
}

/** The arguments of every process, for one look at many guests. */
export async function allCommandLines(): Promise<string[][]> {
  return (await processes()).map(({ argv }) => argv);
}

/** A host has thousands of processes, and so many files may not be open. */
const AT_ONCE = 16;

/** @throws BackendUnavailable where it cannot be told: a guest that runs must not be taken for one that is off */
async function processes(): Promise<{ pid: number; argv: string[] }[]> {
  try {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
    const found = [];
    for (let at = 0; at < pids.length; at += AT_ONCE)
      found.push(...(await Promise.all(pids.slice(at, at + AT_ONCE).map(processOf))));
    return found;
  } catch (err) {
    throw new BackendUnavailable(`the processes of this host cannot be looked at: ${errorText(err)}`, { cause: err });
  }
}

/** Without arguments: it ended while we looked, or is not ours to read. */
async function processOf(pid: number): Promise<{ pid: number; argv: string[] }> {
  try {
    return { pid, argv: (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0') };
  } catch (err) {
    if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(err) ?? '')) throw err;
    return { pid, argv: [] };
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
    if (errorCode(err) !== 'ESRCH') throw err;
  }
}
