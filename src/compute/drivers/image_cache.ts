import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, stat, statfs } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { Aborted, BackendUnavailable, InvalidInput } from '../../common/errors.ts';
import { QCOW2_HEADER_BYTES, qcow2VirtualSize } from '../logic/qcow2_header.ts';
import { checkAborted } from './aborted.ts';
import type { FetchImage, GuestImage } from './driver.ts';
import { exists, firstBytes, putInPlaceOnce } from './files.ts';

export type DiskFormat = 'raw' | 'qcow2';

export interface CachedImage {
  path: string;
  format: DiskFormat;
  /** Size of the disk that a guest sees. */
  virtual_bytes: number;
}

/** When this process started: with its pid, it is told from an earlier one. */
const STARTED = Math.floor(performance.timeOrigin);

interface Fetching {
  done: Promise<void>;
  waiters: number;
  abort: AbortController;
}

/**
 * The images that guests of this host were made from: each once, whole, checked, never written again, in files named
 * by the checksum of their bytes. A file has that name only when all of it is on the disk:
 *
 *   fetch -> .CHECKSUM.FORMAT.HOST.PID.START.RANDOM.part -> size and header are right -> flushed -> linked as CHECKSUM.FORMAT
 *
 * and what drivers make of them for many guests (`variant`), as CHECKSUM.NAME.FORMAT, likewise.
 * Guests that want an image at the same time wait for one fetch, which ends early only when nobody waits any more.
 * Two processes may fetch the same one: the second finds the name taken by the same bytes and drops its own.
 */
export class ImageCache {
  readonly #dir: string;
  readonly #fetching = new Map<string, Fetching>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** @throws InvalidInput for an image that cannot boot or must not, BackendUnavailable, Aborted, and what `fetch` throws */
  async get(image: GuestImage, fetch: FetchImage, signal: AbortSignal): Promise<CachedImage> {
    const format = diskFormat(image);
    if (!/^[0-9a-f]{32,128}$/.test(image.checksum))
      throw new InvalidInput(`image ${image.id} has no usable checksum: '${image.checksum}' is not hexadecimal`);
    const path = join(this.#dir, `${image.checksum}.${format}`);
    if (!(await exists(path)))
      await this.#once(path, signal, (until) => this.#bring(image, format, path, fetch, until));
    return { path, format, virtual_bytes: await virtualBytes(path, format, `image ${image.id}`) };
  }

  /** What `make` makes of a cached image in the path that it is given; the same name is the same bytes. @throws Aborted, and what `make` throws */
  async variant(
    base: CachedImage,
    name: string,
    make: (path: string, until: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<CachedImage> {
    const { format } = base;
    const path = join(this.#dir, `${basename(base.path, `.${format}`)}.${name}.${format}`);
    if (!(await exists(path)))
      await this.#once(path, signal, (until) => this.#aside(path, (aside) => make(aside, until)));
    return { path, format, virtual_bytes: await virtualBytes(path, format, basename(path)) };
  }

  /** Takes away what killed processes of this host left half-fetched. */
  async sweep(): Promise<void> {
    await mkdir(this.#dir, { recursive: true });
    for (const name of await readdir(this.#dir)) {
      const [, pid, start] = /^\..+\.(\d+)\.(\d+)\.\w+\.part$/.exec(name) ?? [];
      if (pid === undefined || !name.includes(`.${hostname()}.`)) continue;
      // In a container a restarted daemon has the pid of the one before.
      const dead = Number(pid) === process.pid ? Number(start) !== STARTED : !isAlive(Number(pid));
      if (dead) await rm(join(this.#dir, name), { force: true });
    }
  }

  /** Runs `work` for a path once, whoever asks meanwhile. @throws Aborted as soon as the asker's own signal says so */
  async #once(path: string, signal: AbortSignal, work: (until: AbortSignal) => Promise<void>): Promise<void> {
    let fetching = this.#fetching.get(path);
    if (fetching === undefined) {
      const abort = new AbortController();
      fetching = { done: work(abort.signal), waiters: 0, abort };
      fetching.done.catch(() => undefined); // told to those who wait; there may be none left
      this.#fetching.set(path, fetching);
    }
    const mine = fetching;
    mine.waiters++;
    try {
      await orAborted(mine.done, signal);
    } finally {
      mine.waiters--;
      // Out of the map before it is stopped: who comes now must start afresh, not join what is ending.
      if (mine.waiters === 0 && this.#fetching.get(path) === mine) this.#fetching.delete(path);
      if (mine.waiters === 0) mine.abort.abort('nobody waits for it');
    }
  }

  async #bring(image: GuestImage, format: DiskFormat, path: string, fetch: FetchImage, until: AbortSignal) {
    await mkdir(this.#dir, { recursive: true });
    if (await exists(path)) return; // another fetch ended between our look and now
    await this.#checkRoom(image);
    await this.#aside(path, async (aside) => {
      await fetch(image, aside, until);
      const { size } = await stat(aside);
      if (size !== image.size_bytes)
        throw new BackendUnavailable(`image ${image.id} came with ${size} bytes, it has ${image.size_bytes}`);
      await virtualBytes(aside, format, `image ${image.id}`);
    });
  }

  async #aside(path: string, make: (aside: string) => Promise<void>): Promise<void> {
    const random = randomBytes(4).toString('hex');
    const aside = join(this.#dir, `.${basename(path)}.${hostname()}.${process.pid}.${STARTED}.${random}.part`);
    try {
      await make(aside);
      await putInPlaceOnce(aside, path);
    } finally {
      await rm(aside, { force: true });
    }
  }

  async #checkRoom(image: GuestImage): Promise<void> {
    const { bavail, bsize } = await statfs(this.#dir);
    const free = bavail * bsize;
    if (free >= image.size_bytes) return;
    throw new BackendUnavailable(
      `image ${image.id} has ${mib(image.size_bytes)} MiB, ${this.#dir} has ${mib(free)} MiB free: make room there`,
    );
  }
}

/** @throws InvalidInput for a format that QEMU is not given here */
export function diskFormat({ id, disk_format }: GuestImage): DiskFormat {
  if (disk_format === 'qcow2') return 'qcow2';
  if (['raw', 'ami', 'aki', 'ari', 'machine'].includes(disk_format)) return 'raw';
  throw new InvalidInput(`image ${id} is in format '${disk_format}'; raw, qcow2, ami, aki and ari can boot`);
}

async function virtualBytes(path: string, format: DiskFormat, image: string): Promise<number> {
  if (format === 'raw') return (await stat(path)).size;
  return qcow2VirtualSize(await firstBytes(path, QCOW2_HEADER_BYTES), image);
}

/** The promise's outcome, or Aborted when the signal comes first; the promise is then left to itself. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(new Aborted(`image fetch: given up, ${String(signal.reason)}`));
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    checkAborted(signal, 'image fetch');
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (err) {
    return (err as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const mib = (bytes: number): number => Math.ceil(bytes / 1024 / 1024);
