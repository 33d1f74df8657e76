import { constants } from 'node:fs';
import { access, copyFile, link, mkdir, readdir, readFile, rm, truncate } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { execute } from '../../common/execute.ts';
import { Aborted, BackendUnavailable, Conflict, errorText, InvalidInput } from '../../common/errors.ts';
import { boolean, defineFlags, string, type FlagValues } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import { checkAborted } from './aborted.ts';
import { PowerState } from '../logic/power_state.ts';
import type { DriverDeps, FetchImage, GuestImage, GuestInfo, GuestSpec } from './driver.ts';
import { errorCode, exists, putInPlace, writeWhole } from './files.ts';
import { ImageCache, type CachedImage, type DiskFormat } from './image_cache.ts';
import { filesToInject, growExt, injectFiles, isExt, notInjected, type InjectedFile } from './inject.ts';

export const instanceFileFlags = defineFlags({
  instances_path: string('$state_path/instances', 'Folder of the disks, kernels and consoles of guests'),
  use_cow_images: boolean(true, 'Root disks share what they did not change with the image; else each is a whole copy'),
  qemu_img: string('qemu-img', 'The qemu-img program'),
});

export interface GuestFiles {
  /** Null: it boots from a volume. */
  root: { path: string; format: DiskFormat } | null;
  /** Always raw. */
  ephemeral: string | null;
  kernel: string | null;
  ramdisk: string | null;
}

/** What a guest's folder says of itself. `root_format` is there once the root disk is ready to be named. */
interface Card {
  uuid: string;
  root_format?: DiskFormat;
}

const GIB = 1024 ** 3;
/** Of a guest, and so of its folder. */
export const GUEST_NAME = /^[A-Za-z][A-Za-z0-9._-]*$/;

/**
 * The folder of each guest, instances_path/NAME, which holds all there is of it on this host, and the image cache
 * beside them, instances_path/_base. Each file is made under another name and renamed when it is whole, so that a
 * prepare that was killed is simply run again:
 *
 *   guest.json   whose folder it is, and the format of `disk`: the guest may write what it wants into a raw disk, even
 *                the head of a qcow2 that names a file of ours, so a disk's format is never read from the disk
 *   kernel, ramdisk, disk, disk.local, console.log (console_log.ts), and what a driver adds
 */
export class InstanceFiles {
  /** --instances_path, absolute. */
  readonly root: string;
  readonly #log: Log;
  readonly #flags: FlagValues<typeof instanceFileFlags>;
  readonly #cache: ImageCache;

  constructor({ flags, log }: DriverDeps) {
    this.#log = log;
    this.#flags = flags.read(instanceFileFlags);
    this.root = resolve(this.#flags.instances_path);
    this.#cache = new ImageCache(join(this.root, '_base'));
  }

  /** @throws BackendUnavailable when the folder cannot be used or qemu-img is not there */
  async initHost(signal: AbortSignal): Promise<void> {
    try {
      await mkdir(this.root, { recursive: true });
      await access(this.root, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch (err) {
      throw new BackendUnavailable(
        `--instances_path=${this.root} cannot be used: ${errorText(err)}. Make it writable for this user`,
        { cause: err },
      );
    }
    try {
      await execute([this.#flags.qemu_img, '--version'], { signal });
    } catch (err) {
      if (err instanceof Aborted) throw err;
      throw new BackendUnavailable(
        `--qemu_img=${this.#flags.qemu_img}: ${errorText(err)}. Install qemu-utils, or name the program`,
        { cause: err },
      );
    }
    await this.#cache.sweep();
  }

  /** A guest's folder, or a file in it. @throws InvalidInput for a name that could lead elsewhere */
  path(name: string, file = ''): string {
    if (!GUEST_NAME.test(name)) throw new InvalidInput(`'${name}' is no usable name of a guest`);
    return join(this.root, name, file);
  }

  /** Whose folder it is, or undefined when there is none. */
  async owner(name: string): Promise<string | undefined> {
    return (await this.#card(name))?.uuid;
  }

  /** Makes what is not there yet. @throws Conflict when the folder is another instance's, InvalidInput, BackendUnavailable, Aborted */
  async prepare(spec: GuestSpec, fetch: FetchImage, signal: AbortSignal): Promise<GuestFiles> {
    await mkdir(this.path(spec.name), { recursive: true });
    const card = await this.#card(spec.name);
    this.#checkOwner(spec, card);
    if (card === undefined) await this.#writeCard(spec.name, { uuid: spec.uuid });
    await this.#kernelFile(spec, 'kernel', spec.kernel, fetch, signal);
    await this.#kernelFile(spec, 'ramdisk', spec.ramdisk, fetch, signal);
    if (hasRootFile(spec) && (card?.root_format === undefined || !(await exists(this.path(spec.name, 'disk')))))
      await this.#rootDisk(spec, fetch, signal);
    await this.#ephemeralDisk(spec);
    checkAborted(signal, `spawn of ${spec.name}`);
    const files = await this.existing(spec);
    if (files === undefined) throw new BackendUnavailable(`the files of ${spec.name} went away while they were made`);
    return files;
  }

  /** The files of a guest that was prepared once; undefined when they are not all there. @throws Conflict */
  async existing(spec: GuestSpec): Promise<GuestFiles | undefined> {
    const card = await this.#card(spec.name);
    this.#checkOwner(spec, card);
    const at = (file: string) => this.path(spec.name, file);
    const format = card?.root_format;
    if (card === undefined || (hasRootFile(spec) && (format === undefined || !(await exists(at('disk'))))))
      return undefined;
    return {
      root: hasRootFile(spec) && format !== undefined ? { path: at('disk'), format } : null,
      ephemeral: spec.ephemeral_gb > 0 ? at('disk.local') : null,
      kernel: spec.kernel === null ? null : at('kernel'),
      ramdisk: spec.ramdisk === null ? null : at('ramdisk'),
    };
  }

  /** Takes the folder away; one that is not there is no failure, nor, with `uuid`, one of another instance, which stays. */
  async remove(name: string, uuid?: string): Promise<void> {
    const owner = uuid === undefined ? undefined : await this.owner(name);
    if (owner !== undefined && owner !== uuid) return;
    // Last what says whose it is: a removal that is killed on the way is found, and gone on with.
    for (const file of await this.#filesIn(name))
      if (file !== 'guest.json') await rm(this.path(name, file), { recursive: true, force: true, maxRetries: 5 });
    // A qemu-img of a killed daemon may still put a file there.
    await rm(this.path(name), { recursive: true, force: true, maxRetries: 5 });
  }

  /** Of folders without one of these guests: what a launch or a removal that was killed left behind, or what is being made. */
  async withoutGuest(guests: readonly GuestInfo[]): Promise<GuestInfo[]> {
    const known = new Set(guests.map(({ name }) => name));
    const found: GuestInfo[] = [];
    for (const name of await readdir(this.root)) {
      if (known.has(name) || !GUEST_NAME.test(name)) continue;
      try {
        const uuid = await this.owner(name);
        if (uuid !== undefined) found.push({ name, uuid, state: PowerState.SHUTOFF });
      } catch (err) {
        this.#log.warn({ err, folder: this.path(name) }, 'a folder cannot be read; left alone');
      }
    }
    return found;
  }

  async #filesIn(name: string): Promise<string[]> {
    try {
      return await readdir(this.path(name));
    } catch (err) {
      if (errorCode(err) === 'ENOENT') return [];
      throw err;
    }
  }

  async #card(name: string): Promise<Card | undefined> {
    try {
      return JSON.parse(await readFile(this.path(name, 'guest.json'), 'utf8')) as Card;
    } catch (err) {
      if (['ENOENT', 'ENOTDIR'].includes(errorCode(err) ?? '')) return undefined;
      throw err;
    }
  }

  async #writeCard(name: string, card: Card): Promise<void> {
    await writeWhole(this.path(name, 'guest.json'), `${JSON.stringify(card)}\n`);
  }

  #checkOwner(spec: GuestSpec, card: Card | undefined): void {
    if (card === undefined || card.uuid === spec.uuid) return;
    throw new Conflict(
      `${this.path(spec.name)} holds the files of another instance, ${card.uuid}, not of ${spec.uuid}: ` +
        'was the database replaced? Save what is needed there and remove the folder',
    );
  }

  async #kernelFile(
    spec: GuestSpec,
    file: string,
    image: GuestImage | null,
    fetch: FetchImage,
    signal: AbortSignal,
  ): Promise<void> {
    if (image === null || (await exists(this.path(spec.name, file)))) return;
    const base = await this.#cache.get(image, fetch, signal);
    if (base.format !== 'raw') throw new InvalidInput(`image ${image.id} cannot be a ${file}: it is ${base.format}`);
    const aside = this.path(spec.name, `${file}.part`);
    await rm(aside, { force: true });
    try {
      await link(base.path, aside); // the same bytes, which nobody ever writes
    } catch (err) {
      if (errorCode(err) !== 'EXDEV' && errorCode(err) !== 'EPERM') throw err;
      await copyFile(base.path, aside);
    }
    await putInPlace(aside, this.path(spec.name, file));
  }

  async #rootDisk(spec: GuestSpec, fetch: FetchImage, signal: AbortSignal): Promise<void> {
    if (spec.image === null) throw new InvalidInput(`${spec.name} has neither an image nor a volume to boot from`);
    const base = await this.#grown(spec, await this.#cache.get(spec.image, fetch, signal), signal);
    checkAborted(signal, `spawn of ${spec.name}`);
    const format = (await this.#diskWithFiles(spec, base, signal)) ?? (await this.#plainDisk(spec, base, signal));
    // The format before the disk: a disk whose format is not known could not be used by the next run.
    await this.#writeCard(spec.name, { uuid: spec.uuid, root_format: format });
    await putInPlace(this.path(spec.name, 'disk.part'), this.path(spec.name, 'disk'));
  }

  /** The image with its file system as large as the disk, where it is one ext file system: no program in the guest grows it. */
  async #grown(spec: GuestSpec, base: CachedImage, signal: AbortSignal): Promise<CachedImage> {
    const bytes = spec.root_gb * GIB;
    if (base.format !== 'raw' || base.virtual_bytes >= bytes || !(await isExt(base.path))) return base;
    const make = async (path: string, until: AbortSignal) => {
      await copyFile(base.path, path, constants.COPYFILE_FICLONE);
      await growExt(path, bytes, until);
    };
    try {
      return await this.#cache.variant(base, `${spec.root_gb}G`, make, signal);
    } catch (err) {
      if (err instanceof Aborted) throw err;
      const instance = { instance_id: spec.instance_id, guest: spec.name };
      this.#log.warn({ ...instance, reason: errorText(err) }, 'root file system is not grown to its disk');
      return base;
    }
  }

  /** A raw copy with the injected files in it; undefined when there are none, or when they cannot be written. */
  async #diskWithFiles(spec: GuestSpec, base: CachedImage, signal: AbortSignal): Promise<DiskFormat | undefined> {
    const files = filesToInject(spec);
    if (files.length === 0) return undefined;
    try {
      if (base.format !== 'raw' || !(await isExt(base.path)))
        throw new InvalidInput(`image ${spec.image?.id} is ${base.format} and not one raw ext file system`);
      await this.#copy(spec, base, signal);
      await injectFiles(this.path(spec.name, 'disk.part'), files, signal);
      return 'raw';
    } catch (err) {
      if (err instanceof Aborted) throw err;
      this.#warnNotInjected(spec, files, err);
      return undefined;
    }
  }

  #warnNotInjected(spec: GuestSpec, files: InjectedFile[], err: unknown): void {
    const instance = { instance_id: spec.instance_id, guest: spec.name };
    this.#log.warn({ ...instance, reason: notInjected(files, err) }, 'guest boots without injected files');
  }

  async #plainDisk(spec: GuestSpec, base: CachedImage, signal: AbortSignal): Promise<DiskFormat> {
    if (!this.#flags.use_cow_images) {
      await this.#copy(spec, base, signal);
      return 'raw';
    }
    // The base by a path from here, so that instances_path can be moved.
    const below = join('..', '_base', basename(base.path));
    const part = this.path(spec.name, 'disk.part');
    const size = String(this.#rootBytes(spec, base));
    await rm(part, { force: true });
    await execute([this.#flags.qemu_img, 'create', '-q', '-f', 'qcow2', '-b', below, '-F', base.format, part, size], {
      signal,
    });
    return 'qcow2';
  }

  async #copy(spec: GuestSpec, base: CachedImage, signal: AbortSignal): Promise<void> {
    const part = this.path(spec.name, 'disk.part');
    await rm(part, { force: true });
    if (base.format === 'raw' && (await sharedCopy(base.path, part)))
      return truncate(part, this.#rootBytes(spec, base));
    await execute([this.#flags.qemu_img, 'convert', '-q', '-f', base.format, '-O', 'raw', base.path, part], {
      signal,
      timeout_ms: 3_600_000,
    });
    await truncate(part, this.#rootBytes(spec, base));
  }

  #rootBytes(spec: GuestSpec, base: CachedImage): number {
    return Math.max(spec.root_gb * GIB, Math.ceil(base.virtual_bytes / 512) * 512);
  }

  async #ephemeralDisk(spec: GuestSpec): Promise<void> {
    const path = this.path(spec.name, 'disk.local');
    if (spec.ephemeral_gb === 0 || (await exists(path))) return;
    const part = `${path}.part`;
    await execute([this.#flags.qemu_img, 'create', '-q', '-f', 'raw', part, String(spec.ephemeral_gb * GIB)]);
    await putInPlace(part, path);
  }
}

/** Else it boots from a volume. */
const hasRootFile = ({ volumes }: GuestSpec): boolean => !volumes.some((volume) => volume.boot);

/** A copy that shares its blocks with the original, where the file system can. @returns false where it cannot */
async function sharedCopy(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (err) {
    if (['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOSYS', 'ENOTTY'].includes(errorCode(err) ?? '')) return false;
    throw err;
  }
}
