import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { addAbortSignal } from 'node:stream';
import { lockProject, writing } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { createImage, failImage, LOCAL, mergeImageProperties, type NewImage } from '../common/db/images.ts';
import { findProject } from '../common/db/projects.ts';
import { InvalidInput, NovaError, ProjectNotFound, errorText } from '../common/errors.ts';
import { imageFlags, storeImage } from '../common/image/store.ts';
import { checkParts } from '../objectstore/api.ts';
import { imageResource } from '../objectstore/rpc.ts';
import type { Manage } from './noun.ts';

export type Formats = Pick<NewImage, 'container_format' | 'disk_format' | 'kernel_id' | 'ramdisk_id'>;
export const BARE: Formats = { container_format: 'bare', disk_format: 'raw', kernel_id: null, ramdisk_id: null };
export const MACHINE: Formats = { container_format: 'ami', disk_format: 'ami', kernel_id: null, ramdisk_id: null };
export const KERNEL: Formats = { container_format: 'aki', disk_format: 'aki', kernel_id: null, ramdisk_id: null };
export const RAMDISK: Formats = { container_format: 'ari', disk_format: 'ari', kernel_id: null, ramdisk_id: null };

export interface Given {
  path: string;
  owner: string;
  name: string | undefined;
  public: boolean;
  arch: string;
}

/** Ctrl-C, or a signal that means the same. */
export class Interrupted extends NovaError {}

/**
 * A file of this host into its image store; what is interrupted is an image in error.
 * @returns the image's id. @throws InvalidInput, ProjectNotFound, ImageNotFound, Interrupted
 */
export async function storeImageFile(m: Manage, given: Given, formats: Formats): Promise<number> {
  await checkFile(given.path);
  if (!(await findProject(m.db, given.owner)))
    throw new ProjectNotFound(`there is no project ${given.owner}: see nova-manage project list`);
  const as_owner = { ...m.ctx, is_admin: false, project_id: given.owner };
  await checkParts(m.db, as_owner, { kernel_id: formats.kernel_id, ramdisk_id: formats.ramdisk_id });
  const ctx = { ...m.ctx, project_id: given.owner };
  const id = await writing(m.db, async (tx) => {
    await lockProject(tx, m.db.dialect, given.owner); // deleted just now: the next one of that name would have it
    const image_id = await createImage(tx, {
      name: given.name ?? (given.path.split('/').at(-1) as string),
      project_id: given.owner,
      user_id: null,
      is_public: given.public,
      architecture: given.arch,
      location: LOCAL,
      properties: { image_state: 'pending' },
      ...formats,
    });
    const details = { by: 'nova-manage', file: given.path };
    await recordEvent(tx, ctx, imageResource(image_id), 'image registered', hostname(), details);
    return image_id;
  });
  try {
    const { images_path } = m.flags.read(imageFlags);
    const stored = await untilInterrupted((signal) =>
      storeImage(m.db, images_path, id, addAbortSignal(signal, createReadStream(given.path))),
    );
    await mergeImageProperties(m.db, id, { image_state: 'available' });
    await recordEvent(m.db, ctx, imageResource(id), 'image stored', hostname(), stored);
  } catch (err) {
    const error = errorText(err);
    if (await failImage(m.db, id, err))
      await recordEvent(m.db, ctx, imageResource(id), 'image not stored', hostname(), { error });
    if (err instanceof Interrupted) throw err;
    throw new InvalidInput(`Failed to register ${given.path}: ${error}`, { cause: err });
  }
  return id;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A second signal ends the process at once. @throws Interrupted */
async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const ended = new AbortController();
  const end = (name: NodeJS.Signals): void => {
    for (const one of SIGNALS) process.off(one, end);
    ended.abort(new Interrupted(`ended by ${name} before all bytes were stored: register the image again`));
  };
  for (const name of SIGNALS) process.on(name, end);
  try {
    return await work(ended.signal);
  } catch (err) {
    throw ended.signal.aborted ? ended.signal.reason : err;
  } finally {
    for (const name of SIGNALS) process.off(name, end);
  }
}

/** @throws InvalidInput */
export async function checkFile(file: string): Promise<void> {
  const found = await stat(file).catch((err: unknown) => {
    throw new InvalidInput(`Failed to register ${file}: ${errorText(err)}`, { cause: err });
  });
  if (!found.isFile() || found.size === 0)
    throw new InvalidInput(`Failed to register ${file}: not a file with contents`);
}
