import { constants } from 'node:fs';
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { BackendUnavailable, errorText, InvalidInput, ProcessExecutionError, Aborted } from '../../common/errors.ts';
import { execute } from '../../common/execute.ts';
import { defineFlags, integer, string, type Flags } from '../../common/flags.ts';
import { Turns } from '../../common/linux/host.ts';
import type { Log } from '../../common/log.ts';
import {
  volumeStoreFlags,
  type BytesOwner,
  type Inventory,
  type SnapshotSpec,
  type StoreStats,
  type VolumeSpec,
} from './driver.ts';
import { parted } from './half_made.ts';
import type { VolumeStore } from './iscsi.ts';
import { isOwn, notOwn } from './owner.ts';
import { gigabytes, GIB, MIB, sizeBytes } from './sizes.ts';

export const fileStoreFlags = defineFlags({
  volumes_path: string('$state_path/volumes', 'Folder of volumes that are files, and of their snapshots'),
  volume_reserved_mb: integer(1024, 'MiB of that file system which volumes never get', { min: 0 }),
});

/** A copy may take as long as it takes; the signal ends it. */
const COPY_MS = 24 * 3600 * 1000;

interface Room {
  /** Bytes that may be promised in all. */
  limit: number;
  /** Bytes promised: volumes with their full size, snapshots with what they hold. */
  promised: number;
  /** Bytes that can be written now. */
  free: number;
  /** Bytes that our files hold. */
  held: number;
}

/**
 * Volumes as sparse files. Each is made as `NAME.new` and renamed when it is whole, so a file of the right name is a whole
 * one. `$volumes_path/NAME` is a volume, `$volumes_path/snapshots/NAME` a snapshot; `owners/NAME` in the same folder holds
 * the token of the row that it is of, and is there before it.
 *
 * A deleted volume needs no overwriting: what a file system hands out reads as zeros until it is written.
 */
export class FileStore implements VolumeStore {
  readonly #folder: string;
  readonly #ratio: number;
  readonly #reserved: number;
  readonly #log: Log;
  /** Bytes promised to files that are being made, by path. */
  readonly #pending = new Map<string, number>();
  /** Bytes of files that are being copied, by path of the copy. */
  readonly #copying = new Map<string, number>();
  /** The file system of the folder is mounted there and has nothing else. */
  #has_its_own = false;
  /** Room is looked at and promised by one at a time, else two would both fit. */
  readonly #turns = new Turns();

  constructor({ flags, log }: { flags: Flags; log: Log }) {
    const { volumes_path, volume_reserved_mb } = flags.read(fileStoreFlags);
    this.#folder = resolve(volumes_path);
    this.#reserved = volume_reserved_mb * MIB;
    this.#ratio = flags.read(volumeStoreFlags).volume_overcommit_ratio;
    this.#log = log;
  }

  async initHost(): Promise<void> {
    if (this.#folder.includes(','))
      throw new InvalidInput(`--volumes_path=${this.#folder} has a comma, which tgtd cannot open`);
    try {
      for (const folder of [this.#folder, this.#snapshots])
        await mkdir(join(folder, OWNERS), { recursive: true, mode: 0o700 });
      await rm(join(this.#folder, 'probe.new'), { force: true });
      await (await open(join(this.#folder, 'probe.new'), 'wx')).close();
      await rm(join(this.#folder, 'probe.new'));
      this.#has_its_own = await isMounted(this.#folder);
    } catch (err) {
      throw new BackendUnavailable(`nova-volume cannot write to --volumes_path=${this.#folder}: ${errorText(err)}`, {
        cause: err,
      });
    }
  }

  async stats(): Promise<StoreStats> {
    const { free, held } = await this.#room();
    return { total_gb: Math.floor((free + held) / GIB), free_gb: Math.floor(free / GIB) };
  }

  path({ name }: Pick<VolumeSpec, 'name'>): string {
    return join(this.#folder, name);
  }
  get #snapshots(): string {
    return join(this.#folder, 'snapshots');
  }
  #snapshotPath({ name }: SnapshotSpec): string {
    return join(this.#snapshots, name);
  }

  async createVolume(volume: VolumeSpec, signal: AbortSignal): Promise<void> {
    const path = this.path(volume);
    await this.#make(path, volume, sizeBytes(volume.size), signal, async (aside) =>
      (await open(aside, 'wx', 0o600)).close(),
    );
  }

  async createVolumeFromSnapshot(volume: VolumeSpec, snapshot: SnapshotSpec, signal: AbortSignal): Promise<void> {
    const from = this.#snapshotPath(snapshot);
    const { size } = await stat(from).catch((err: unknown) => {
      throw new InvalidInput(`${snapshot.name} is not at --volumes_path: ${errorText(err)}`, { cause: err });
    });
    const bytes = Math.max(sizeBytes(volume.size), size);
    const path = this.path(volume);
    await this.#make(path, volume, bytes, signal, async (aside) => {
      if (!(await cloned(from, aside, path))) await this.#copy(from, aside, volume.name, null, signal);
    });
  }

  deleteVolume(volume: VolumeSpec): Promise<boolean> {
    return this.#delete(this.path(volume), volume);
  }

  async createSnapshot(
    snapshot: SnapshotSpec,
    still: (() => Promise<() => Promise<void>>) | null,
    signal: AbortSignal,
  ): Promise<string> {
    const from = this.path(snapshot.volume);
    const path = this.#snapshotPath(snapshot);
    const source = await stat(from).catch((err: unknown) => {
      throw new InvalidInput(`${snapshot.volume.name} is not at --volumes_path: ${errorText(err)}`, { cause: err });
    });
    await this.#make(path, snapshot, null, signal, async (aside) => {
      if (await cloned(from, aside, path)) return;
      await this.#promise(path, snapshot.name, source.blocks * 512);
      await this.#copy(from, aside, snapshot.name, still, signal);
    });
    return path;
  }

  deleteSnapshot(snapshot: SnapshotSpec): Promise<boolean> {
    return this.#delete(this.#snapshotPath(snapshot), snapshot);
  }

  async inventory(): Promise<Omit<Inventory, 'exports'>> {
    const names = async (folder: string) =>
      parted(
        (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name),
      );
    const [volumes, snapshots] = [await names(this.#folder), await names(this.#snapshots)];
    return {
      volumes: volumes.whole,
      snapshots: snapshots.whole,
      half_made: { volumes: volumes.half_made, snapshots: snapshots.half_made },
    };
  }

  /** @param bytes its size; null leaves it as `fill` made it, which then promises the room itself */
  async #make(
    path: string,
    spec: VolumeSpec | SnapshotSpec,
    bytes: number | null,
    signal: AbortSignal,
    fill: (aside: string) => Promise<unknown>,
  ): Promise<void> {
    const { name } = spec;
    const size = await sizeOf(path);
    if (size !== null) {
      if ((await isOwnFile(path, spec)) && size === (bytes ?? size)) return;
      throw notOwn(name, dirname(path), spec);
    }
    const aside = `${path}.new`;
    await rm(aside, { force: true });
    try {
      if (bytes !== null) await this.#promise(path, name, bytes);
      await writeOwner(path, spec.token);
      await fill(aside);
      await finish(aside, bytes);
      if (signal.aborted) throw new Aborted(`${name} was given up: ${String(signal.reason)}`);
      await rename(aside, path);
      await syncFolder(dirname(path));
    } catch (err) {
      await rm(aside, { force: true });
      throw isFull(err) ? await this.#full(name, err) : err;
    } finally {
      this.#pending.delete(path);
    }
    this.#log.info({ path, bytes }, 'file made');
  }

  /** @throws BackendUnavailable when there is no room */
  #promise(path: string, name: string, bytes: number): Promise<void> {
    return this.#turns.take(async () => {
      this.#check(name, bytes, await this.#room());
      this.#pending.set(path, bytes);
    });
  }

  async #delete(path: string, owner: BytesOwner): Promise<boolean> {
    const sizes = [await sizeOf(path), await sizeOf(`${path}.new`)];
    if (sizes.some((size) => size !== null) && !(await isOwnFile(path, owner))) return false;
    for (const one of [path, `${path}.new`]) await rm(one, { force: true });
    await syncFolder(dirname(path));
    for (const one of [ownerPath(path), sharedPath(path)]) await rm(one, { force: true });
    return true;
  }

  async #room(): Promise<Room> {
    const { bsize, blocks, bfree, bavail } = await statfs(this.#folder);
    const free = Math.max(0, bavail * bsize - this.#reserved);
    let held = 0;
    let promised = 0;
    for (const folder of [this.#folder, this.#snapshots]) {
      const marks = new Set(await readdir(join(folder, OWNERS)));
      for (const file of await filesIn(folder)) {
        // Beside others' files nobody can tell how much of what is used is ours, but for what no other file of ours shares.
        if (this.#has_its_own || !marks.has(`${file.name}.shared`)) held += file.held;
        // One that is being made counts below; one that was left by a crash is made anew or deleted.
        if (!file.name.endsWith('.new')) promised += folder === this.#folder ? file.size : file.held;
      }
    }
    for (const bytes of this.#pending.values()) promised += bytes;
    // Files that share blocks hold more in sum than is used.
    held = Math.min(held, (blocks - bfree) * bsize);
    return { limit: (free + held) * this.#ratio, promised, free, held };
  }

  /** @throws BackendUnavailable */
  #check(name: string, bytes: number, { limit, promised, free, held }: Room): void {
    if (promised + bytes <= limit) return;
    throw new BackendUnavailable(
      `no room for ${name} of ${gigabytes(bytes)}: --volumes_path=${this.#folder} has ${gigabytes(free + held)} for volumes ` +
        `(--volume_reserved_mb=${this.#reserved / MIB} aside), of which ${gigabytes(promised)} are promised ` +
        `(--volume_overcommit_ratio=${this.#ratio}): delete volumes or snapshots, or give it a larger disk`,
      { details: { limit, promised, free, asked: bytes } },
    );
  }

  /** Its bytes are written now, whatever may be promised. `still` as in VolumeDriver. */
  async #copy(
    from: string,
    to: string,
    name: string,
    still: (() => Promise<() => Promise<void>>) | null,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#turns.take(async () => {
      const bytes = (await stat(from)).blocks * 512;
      await this.#checkFree(name, bytes);
      this.#copying.set(to, bytes);
    });
    try {
      const resume = await still?.();
      try {
        await copySparse(from, to, signal);
      } finally {
        await resume?.();
      }
    } finally {
      this.#copying.delete(to);
    }
  }

  /** @throws BackendUnavailable */
  async #checkFree(name: string, bytes: number): Promise<void> {
    let { free } = await this.#room();
    for (const [to, all] of this.#copying) {
      const written = ((await stat(to).catch(nullWhenMissing))?.blocks ?? 0) * 512;
      free -= Math.max(0, all - written);
    }
    if (bytes <= free) return;
    throw new BackendUnavailable(
      `no room for ${name}, a copy of ${gigabytes(bytes)}: the file system of --volumes_path=${this.#folder} has ` +
        `${gigabytes(Math.max(0, free))} free (--volume_reserved_mb=${this.#reserved / MIB} aside): ` +
        'delete volumes or snapshots, or give it a larger disk',
      { details: { free, asked: bytes } },
    );
  }

  async #full(name: string, cause: unknown): Promise<Error> {
    const { free } = await this.#room();
    return new BackendUnavailable(
      `${name} cannot be written: the file system of --volumes_path=${this.#folder} is full (${gigabytes(free)} free): ` +
        'delete volumes or snapshots, or give it a larger disk',
      { cause },
    );
  }
}

async function filesIn(folder: string): Promise<{ name: string; size: number; held: number }[]> {
  const entries = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile());
  const found = await Promise.all(
    entries.map(async ({ name }) => {
      const is = await stat(join(folder, name)).catch(nullWhenMissing); // deleted meanwhile
      return is && { name, size: is.size, held: is.blocks * 512 };
    }),
  );
  return found.filter((one) => one !== null);
}

/**
 * Shares the blocks, at one moment, also while somebody writes, and marks `path`, which it is to be, as one that does.
 * @returns false where the file system cannot
 */
async function cloned(from: string, to: string, path: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    await writeFile(sharedPath(path), '', { mode: 0o600, flush: true });
    return true;
  } catch (err) {
    if (isFull(err) || (err as NodeJS.ErrnoException).code === 'ENOENT') throw err;
    await rm(to, { force: true });
    return false;
  }
}

/** Holes stay holes, and blocks of zeros become holes. */
async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  await execute(['cp', '--sparse=always', '--reflink=never', '--', from, to], { signal, timeout_ms: COPY_MS });
}

/** On the disk, and of its size, before anybody relies on it. */
async function finish(path: string, bytes: number | null): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.chmod(0o600);
    if (bytes !== null) await file.truncate(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whether a whole file system, no folder or subvolume of one, is mounted there. */
async function isMounted(folder: string): Promise<boolean> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((line) => line.split(' '));
  const path = await realpath(folder);
  return mounts.some(([_id, _parent, _device, root, point]) => root === '/' && point === path);
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const OWNERS = 'owners';
const ownerPath = (path: string): string => join(dirname(path), OWNERS, basename(path));
/** An empty file: blocks of this one may be another's of ours, too. */
const sharedPath = (path: string): string => `${ownerPath(path)}.shared`;

/** On the disk before the file that it is about. */
async function writeOwner(path: string, token: string): Promise<void> {
  await writeFile(ownerPath(path), token, { mode: 0o600, flush: true });
  await syncFolder(dirname(ownerPath(path)));
}

async function isOwnFile(path: string, owner: BytesOwner): Promise<boolean> {
  return isOwn(await readFile(ownerPath(path), 'utf8').catch(nullWhenMissing), owner);
}

/** Null: it is not there. */
const sizeOf = async (path: string): Promise<number | null> => (await stat(path).catch(nullWhenMissing))?.size ?? null;

function nullWhenMissing(err: NodeJS.ErrnoException): null {
  if (err.code !== 'ENOENT') throw err;
  return null;
}

const isFull = (err: unknown): boolean =>
  ['ENOSPC', 'EDQUOT'].includes((err as NodeJS.ErrnoException).code ?? '') ||
  (err instanceof ProcessExecutionError && /No space left|quota exceeded/i.test(err.message));
