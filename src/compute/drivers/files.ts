import { constants } from 'node:fs';
import { access, link, open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export const errorCode = (err: unknown): string | undefined => (err as NodeJS.ErrnoException | undefined)?.code;

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path, constants.F_OK);
    return true;
  } catch (err) {
    if (errorCode(err) === 'ENOENT') return false;
    throw err;
  }
}

/** Flushes a file, or the names in a folder, to the disk. */
export async function flush(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Gives a file that is whole its name, for good: after a power cut either the whole file has the name or none has. */
export async function putInPlace(aside: string, path: string): Promise<void> {
  await flush(aside);
  await rename(aside, path);
  await flush(dirname(path));
}

/** The same, but a file that has the name already keeps it and the new one goes away. */
export async function putInPlaceOnce(aside: string, path: string): Promise<void> {
  await flush(aside);
  try {
    await link(aside, path);
  } catch (err) {
    if (errorCode(err) !== 'EEXIST') throw err;
  }
  await rm(aside, { force: true });
  await flush(dirname(path));
}

export async function writeWhole(path: string, text: string, mode = 0o644): Promise<void> {
  const aside = `${path}.tmp`;
  await writeFile(aside, text, { mode });
  await putInPlace(aside, path);
}

export async function firstBytes(path: string, count: number, position = 0): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(count), 0, count, position);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
