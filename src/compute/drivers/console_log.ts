import { open, stat, truncate, writeFile } from 'node:fs/promises';
import type { Turns } from '../../common/linux/host.ts';
import { errorCode, firstBytes, putInPlace } from './files.ts';

/**
 * A guest's serial console: `console.log`, to which QEMU appends over all boots, and `console.log.1` with what came
 * before. A guest that talks without end must not fill the host's disk, so now and then a log that grew large is cut:
 * its tail moves to `console.log.1` and it starts again, which works under a running QEMU because that only appends.
 */
const CUT_AT_BYTES = 1024 * 1024;
const KEPT_BYTES = 512 * 1024;

/** At most the last `limit_bytes` of all boots; empty when there is no log yet. */
export async function readConsole(log: string, limit_bytes: number): Promise<string> {
  const now = await tail(log, limit_bytes);
  const before = now.length < limit_bytes ? await tail(`${log}.1`, limit_bytes - now.length) : Buffer.alloc(0);
  return Buffer.concat([before, now]).toString('utf8');
}

/** In turn: who cuts a log that another has just emptied would put nothing in the tail's place. */
export function boundConsole(log: string, turns: Turns): Promise<void> {
  return turns.take(async () => {
    if ((await sizeOf(log)) < CUT_AT_BYTES) return;
    const aside = `${log}.1.tmp`;
    await writeFile(aside, await tail(log, KEPT_BYTES));
    await putInPlace(aside, `${log}.1`);
    await truncate(log, 0);
  });
}

/** Makes the file ahead of QEMU, so that this process may read it whoever QEMU runs as. */
export async function makeConsole(log: string): Promise<void> {
  await (await open(log, 'a', 0o644)).close();
}

async function tail(path: string, limit_bytes: number): Promise<Buffer> {
  const size = await sizeOf(path);
  if (size === 0 || limit_bytes <= 0) return Buffer.alloc(0);
  const count = Math.min(size, limit_bytes);
  return firstBytes(path, count, size - count);
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (err) {
    if (errorCode(err) === 'ENOENT') return 0;
    throw err;
  }
}
