import { createHash, randomBytes } from 'node:crypto';
import { open, mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Db } from '../db/connect.ts';
import { clock } from '../clock.ts';
import { activateImage, imagesOfChecksum, renewImage } from '../db/images.ts';
import { Conflict, InvalidInput } from '../errors.ts';
import { defineFlags, string } from '../flags.ts';

export const imageFlags = defineFlags({
  images_path: string('$state_path/images', 'Folder of the image store: one folder an image, named by its id in hex'),
});

export const kernelFlags = defineFlags({
  null_kernel: string('nokernel', 'Kernel id that means: boot the disk itself'),
});

/** `images_path/0000000a/image`. Source: Nova 2011.2 nova/image/local.py. */
export const imagePath = (images_path: string, id: number): string =>
  join(images_path, id.toString(16).padStart(8, '0'), 'image');

const QCOW2_MAGIC = Buffer.from('514649fb', 'hex');
/** How often the row is told that bytes come. */
const RENEW_MS = 60_000;

/**
 * Writes an image's bytes aside, reads their checksum, moves them into place and makes the row active; a process that
 * dies on the way leaves a queued row, which the sweep gives up, and no image. Bytes that are stored already are replaced by the same bytes.
 * @throws InvalidInput for an empty source, Conflict when the image is deleted or given up
 */
export async function storeImage(
  db: Db,
  images_path: string,
  id: number,
  source: Readable,
): Promise<{ checksum: string; size_bytes: number }> {
  const path = imagePath(images_path, id);
  await mkdir(dirname(path), { recursive: true });
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    const { checksum, size_bytes, head } = await writeAside(source, aside, () => renewImage(db, id));
    if (size_bytes === 0) throw new InvalidInput('the image is empty; nothing was stored');
    await rename(aside, path);
    await activateImage(db, id, {
      checksum,
      size_bytes,
      ...(head.equals(QCOW2_MAGIC) ? { disk_format: 'qcow2' } : {}),
    });
    return { checksum, size_bytes };
  } catch (err) {
    if (err instanceof Conflict) await rm(dirname(path), { recursive: true, force: true });
    await rm(aside, { force: true });
    throw err;
  }
}

async function writeAside(
  source: Readable,
  path: string,
  renew: () => Promise<unknown>,
): Promise<{ checksum: string; size_bytes: number; head: Buffer }> {
  const hash = createHash('sha256');
  let size_bytes = 0;
  let head = Buffer.alloc(0);
  let renewed_at = clock.now().getTime();
  const file = await open(path, 'w');
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      if (head.length < QCOW2_MAGIC.length) head = Buffer.concat([head, chunk]).subarray(0, QCOW2_MAGIC.length);
      hash.update(chunk);
      size_bytes += chunk.length;
      await file.writeFile(chunk);
      if (clock.now().getTime() - renewed_at < RENEW_MS) continue;
      renewed_at = clock.now().getTime();
      await renew();
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { checksum: hash.digest('hex'), size_bytes, head };
}

/** Where this host has the bytes of that sha256, or null. */
export async function findStoredImage(db: Db, images_path: string, checksum: string): Promise<string | null> {
  for (const id of await imagesOfChecksum(db, checksum)) {
    const path = imagePath(images_path, id);
    if (await isThere(path)) return path;
  }
  return null;
}

/** @throws what hinders to look: who asks for bytes that are there must not be told that there are none */
async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw err;
  }
}
