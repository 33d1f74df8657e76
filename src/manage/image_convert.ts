import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { visibleImages, type Image } from '../common/db/images.ts';
import { ImageNotFound, InvalidInput, errorText } from '../common/errors.ts';
import { BARE, Interrupted, KERNEL, MACHINE, RAMDISK, storeImageFile, type Formats, type Given } from './image_file.ts';
import { parseId, type Manage } from './noun.ts';

/** What Bexar's object store wrote beside each image. */
interface OldImage {
  imageId: string;
  type: string;
  isPublic: boolean;
  imageOwnerId: string;
  architecture: string;
  kernelId: string | null;
  ramdiskId: string | null;
}

/**
 * Kernels and ramdisks first, so that the machine images find them. One that fails is named and the others go on.
 * Source: Nova 2011.3 bin/nova-manage ImageCommands.convert. @throws InvalidInput when the folder holds none, or one failed
 */
export async function convertImages(m: Manage, folder: string): Promise<void> {
  const old = await readOld(m, folder);
  if (old.length === 0) throw new InvalidInput(`${folder} holds no folder with an info.json`);
  const machines_last = old.toSorted((a, b) => Number(a.info.type === 'machine') - Number(b.info.type === 'machine'));
  let failed = 0;
  for (const { info, path } of machines_last) {
    try {
      const id = await storeImageFile(m, given(info, path), await formats(m, info));
      m.out(`Image ${info.imageId} converted to ${id} (${id.toString(16).padStart(8, '0')}).`);
    } catch (err) {
      if (err instanceof Interrupted) throw err;
      failed++;
      m.warn(`Failed to convert ${info.imageId}: ${errorText(err)}`);
    }
  }
  if (failed > 0) throw new InvalidInput(`${failed} of ${old.length} images were not converted`);
}

async function readOld(m: Manage, folder: string): Promise<{ info: OldImage; path: string }[]> {
  const names = await readdir(folder).catch((err: unknown) => {
    throw new InvalidInput(`${folder} was not read: ${errorText(err)}`, { cause: err });
  });
  const found: { info: OldImage; path: string }[] = [];
  for (const name of names.sort()) {
    const file = join(folder, name, 'info.json');
    try {
      found.push({ info: parseInfo(await readFile(file, 'utf8')), path: join(folder, name, 'image') });
    } catch (err) {
      if (!['ENOENT', 'ENOTDIR'].includes(String((err as { code?: unknown }).code)))
        m.warn(`Failed to load ${file}: ${errorText(err)}`);
    }
  }
  return found;
}

/** @throws InvalidInput */
function parseInfo(json: string): OldImage {
  const info = JSON.parse(json) as Record<string, unknown>;
  const text = (name: string): string | null =>
    typeof info[name] === 'string' && info[name] !== '' ? info[name] : null;
  const need = (name: string): string => {
    const value = text(name);
    if (value === null) throw new InvalidInput(`it has no ${name}`);
    return value;
  };
  return {
    imageId: need('imageId'),
    type: need('type'),
    isPublic: info['isPublic'] === true,
    imageOwnerId: need('imageOwnerId'),
    architecture: text('architecture') ?? 'x86_64',
    kernelId: text('kernelId'),
    ramdiskId: text('ramdiskId'),
  };
}

const given = (info: OldImage, path: string): Given => ({
  path,
  owner: info.imageOwnerId,
  name: info.imageId,
  public: info.isPublic,
  arch: info.architecture,
});

/** @throws InvalidInput, ImageNotFound */
async function formats(m: Manage, info: OldImage): Promise<Formats> {
  if (info.type === 'kernel') return KERNEL;
  if (info.type === 'ramdisk') return RAMDISK;
  if (info.type !== 'machine') throw new InvalidInput(`its type ${info.type} is not machine, kernel or ramdisk`);
  if (info.kernelId === null) return BARE;
  return {
    ...MACHINE,
    kernel_id: (await lookUp(m, info.kernelId)).id,
    ramdisk_id: info.ramdiskId === null ? null : (await lookUp(m, info.ramdiskId)).id,
  };
}

/** By the name that it was converted to, else by its number. @throws ImageNotFound */
async function lookUp(m: Manage, old: string): Promise<Image> {
  const query = visibleImages(m.db, m.ctx);
  const named = await query.where('name', '=', old).orderBy('id', 'desc').executeTakeFirst();
  const numbered =
    named === undefined && /^a[kr]i-[0-9a-f]{1,8}$/.test(old)
      ? await query.where('id', '=', parseId('a[kr]i', old)).executeTakeFirst()
      : undefined;
  const found = named ?? numbered;
  if (!found) throw new ImageNotFound(`there is no image ${old}, which it boots with`);
  return found;
}
