import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { copyFile, open, stat } from 'node:fs/promises';
import { endpointFlags } from '../core_flags.ts';
import { ec2ImageId } from '../db/images.ts';
import { BackendAway, BackendUnavailable, ImageNotFound, errorText } from '../errors.ts';
import type { Flags } from '../flags.ts';
import type { Log } from '../log.ts';
import { imageFlags, imagePath } from './store.ts';

interface Wanted {
  id: number;
  /** sha256, hex. */
  checksum: string;
  size_bytes: number;
}

/**
 * Brings images to a compute host: from this host's image store when it is here, else from nova-objectstore at
 * `http://s3_host:s3_port/_images/<sha256>`. Whoever knows the checksum may have the bytes: it cannot be guessed.
 * What does not have the right size and checksum is refused; of the store here, nova-objectstore is asked then.
 */
export function imageFetcher({
  flags,
  log,
}: {
  flags: Flags;
  log: Log;
}): (image: Wanted, path: string, signal: AbortSignal) => Promise<void> {
  const { images_path } = flags.read(imageFlags);
  const { s3_host, s3_port } = flags.read(endpointFlags);
  return async (image, path, signal) => {
    const local = imagePath(images_path, image.id);
    const here = await stat(local).then(
      (file) => file.size === image.size_bytes,
      () => false,
    );
    if (here) {
      await copyFile(local, path, constants.COPYFILE_FICLONE);
      const checksum = await sha256Of(path, signal);
      if (checksum === image.checksum) return;
      log.warn({ image: image.id, path: local, checksum }, 'the bytes of an image are not those that were registered');
    }
    await download(`http://${s3_host}:${s3_port}/_images/${image.checksum}`, image, path, signal);
  };
}

async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>)
    hash.update(chunk);
  return hash.digest('hex');
}

async function download(url: string, image: Wanted, path: string, signal: AbortSignal): Promise<void> {
  const answer = await fetch(url, { signal }).catch((err: unknown) => {
    signal.throwIfAborted();
    throw new BackendAway(
      `nova-objectstore was not reached at ${url}: ${errorText(err)}; check --s3_host and --s3_port`,
      { cause: err },
    );
  });
  if (answer.status === 404)
    throw new ImageNotFound(`nova-objectstore has no bytes of image ${ec2ImageId(image.id)}; register it again`);
  if (!answer.ok || !answer.body) throw new BackendUnavailable(`${url} answered ${answer.status}`);
  const hash = createHash('sha256');
  let size = 0;
  const file = await open(path, 'w');
  try {
    for await (const chunk of unbroken(answer.body as AsyncIterable<Uint8Array>, url, signal)) {
      hash.update(chunk);
      size += chunk.length;
      await file.writeFile(chunk);
    }
  } finally {
    await file.close();
  }
  const checksum = hash.digest('hex');
  if (size !== image.size_bytes || checksum !== image.checksum)
    throw new BackendUnavailable(
      `image ${ec2ImageId(image.id)} came with ${size} bytes and sha256 ${checksum}, not ${image.size_bytes} and ${image.checksum}`,
    );
}

/** A line that breaks in between is named. */
async function* unbroken(
  body: AsyncIterable<Uint8Array>,
  url: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (err) {
    signal.throwIfAborted();
    throw new BackendAway(`${url} broke off: ${errorText(err)}; is nova-objectstore running?`, { cause: err });
  }
}
