import { createHash, hash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, statSync, writeSync, type Stats } from 'node:fs';
import {
  copyFile,
  constants,
  open,
  rename,
  rm,
  stat as statFile,
  unlink,
  utimes,
  type FileHandle,
} from 'node:fs/promises';
import { checkConditions, type Conditions } from '../logic/conditions.ts';
import { errnoOf, noSuchBucket, noSuchKey, S3Error } from '../logic/errors.ts';
import { isLongFile, objectFile, type Layout } from './layout.ts';
import { KeptObjects } from './kept_objects.ts';
import { Locks } from './locks.ts';
import {
  needsSidecar,
  plain,
  readSidecar,
  removeSidecar,
  SMALL_BYTES,
  writeSidecar,
  type Attributes,
  type Sidecar,
} from './sidecars.ts';

export interface ObjectInfo extends Attributes {
  size: number;
  modified: Date;
  /** The same with fractions, as the file system keeps it: tells two versions apart. */
  modified_ms: number;
  /** Without quotes. */
  etag: string;
  upload_id?: string;
}
export interface SmallObject {
  readonly info: ObjectInfo;
  readonly bytes: Buffer;
}
/** A small object comes whole; of a larger one the caller gets the open file, and closes it. */
export type OpenObject = SmallObject | { info: ObjectInfo; fd: number };

export interface PutOptions extends Attributes {
  /** Called with the md5 of all bytes before the object is there; what it throws leaves the bucket as it was. */
  check?: (md5: Buffer) => void;
  conditions: Conditions | null;
}

/** Bytes gathered for one write; one write is under way while the next gathers. */
const WRITE_BYTES = 512 * 1024;

/** A file being written, its md5 and size. Small contents stay in memory until the end. */
export class Receiver {
  readonly md5: Hash = createHash('md5');
  size = 0;
  readonly path: string;
  #gathered: Buffer[] = [];
  #gathered_bytes = 0;
  #file: FileHandle | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(layout: Layout) {
    this.path = layout.newFile();
  }

  async take(chunks: AsyncIterable<Buffer>): Promise<void> {
    for await (const chunk of chunks) {
      this.md5.update(chunk);
      this.size += chunk.length;
      this.#gathered.push(chunk);
      this.#gathered_bytes += chunk.length;
      if (this.#gathered_bytes >= WRITE_BYTES) await this.#flush();
    }
  }

  async #flush(): Promise<void> {
    await this.#writing;
    this.#file ??= await open(this.path, 'wx');
    const [file, buffers, bytes] = [this.#file, this.#gathered, this.#gathered_bytes];
    this.#gathered = [];
    this.#gathered_bytes = 0;
    this.#writing = writeAll(file, buffers, bytes);
    this.#writing.catch(() => undefined); // seen at the next await; until then it is not unhandled
  }

  /** The whole contents are in the file at `path`. */
  async finish(): Promise<void> {
    if (this.#file === undefined) return writeWhole(this.path, this.#gathered);
    if (this.#gathered_bytes > 0) await this.#flush();
    await this.#writing;
    await this.#file.close();
    this.#file = undefined;
  }

  /** Takes the file away; one that was renamed into place is not there any more. */
  async discard(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file?.close();
    await rm(this.path, { force: true });
  }
}

/** Sync: a small file goes into the page cache in a tenth of the time that the way through the thread pool takes. */
function writeWhole(path: string, buffers: readonly Buffer[]): void {
  const fd = openSync(path, 'wx');
  try {
    for (const bytes of buffers) {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    }
  } finally {
    closeSync(fd);
  }
}

async function writeAll(file: FileHandle, buffers: Buffer[], bytes: number): Promise<void> {
  const { bytesWritten } = await file.writev(buffers);
  if (bytesWritten === bytes) return;
  await file.writeFile(Buffer.concat(buffers).subarray(bytesWritten)); // a full disk says so here
}

/** Objects as files: written aside, then renamed into place. */
export class Objects {
  readonly #layout: Layout;
  readonly #locks = new Locks();
  readonly #kept = new KeptObjects<SmallObject>();

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** @throws S3Error NoSuchBucket, PreconditionFailed, and what the check throws */
  async put(bucket: string, key: string, chunks: AsyncIterable<Buffer>, options: PutOptions): Promise<ObjectInfo> {
    const received = new Receiver(this.#layout);
    try {
      await received.take(chunks);
      const md5 = received.md5.digest();
      options.check?.(md5);
      await received.finish();
      return await this.commit(
        bucket,
        key,
        received.path,
        { ...options, etag: md5.toString('hex') },
        options.conditions,
      );
    } catch (err) {
      await received.discard();
      throw err;
    }
  }

  /** Makes the finished file at `path` the object. @throws S3Error NoSuchBucket, PreconditionFailed */
  async commit(
    bucket: string,
    key: string,
    path: string,
    about: Sidecar,
    conditions: Conditions | null,
  ): Promise<ObjectInfo> {
    const file = objectFile(key);
    const target = this.#layout.object(bucket, file);
    return this.#locks.run(target, async () => {
      const before = statSync(target, { throwIfNoEntry: false });
      if (conditions) this.#checkWrite(bucket, key, file, before, conditions);
      let stat = statSync(path);
      if (before && stat.mtimeMs <= before.mtimeMs) {
        // Two versions must not share a time, or the older one's sidecar would count for the newer.
        await utimes(path, stat.atime, before.mtimeMs / 1000 + 0.001);
        stat = statSync(path);
      }
      const sidecar: Sidecar = {
        etag: about.etag,
        content_type: about.content_type,
        headers: about.headers,
        ...(about.upload_id === undefined ? {} : { upload_id: about.upload_id }),
        ...(isLongFile(file) ? { key } : {}),
      };
      const beside = needsSidecar(file, stat.size, sidecar);
      if (beside) writeSidecar(this.#layout, bucket, file, stat, sidecar);
      try {
        await rename(path, target); // never sync: over another file it waits until the disk has the new one's bytes
      } catch (err) {
        if (beside) removeSidecar(this.#layout, bucket, file, stat);
        throw errnoOf(err) === 'ENOENT' ? noSuchBucket(bucket) : err;
      }
      if (before) removeSidecar(this.#layout, bucket, file, before);
      return { ...sidecar, size: stat.size, modified: stat.mtime, modified_ms: stat.mtimeMs };
    });
  }

  #checkWrite(bucket: string, key: string, file: string, before: Stats | undefined, conditions: Conditions): void {
    const version = before
      ? this.#info(bucket, file, before, () => readFile(this.#layout.object(bucket, file), before.size))
      : null;
    if (checkConditions(conditions, version) === 'ok') return;
    throw new S3Error('PreconditionFailed', `The object ${key} is not in the state that the request asked for.`);
  }

  /**
   * @param wanted looks at what is there; when it says no the answer is null and nothing is open
   * @throws S3Error NoSuchKey, and what `wanted` throws
   */
  open(bucket: string, key: string, wanted: (info: ObjectInfo) => boolean): OpenObject | null {
    const file = objectFile(key);
    const path = this.#layout.object(bucket, file);
    const kept = this.#kept.get(path);
    if (kept) return wanted(kept.info) ? kept : null;
    const fd = this.#openFile(bucket, key, path);
    let keep = false;
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw noSuchKey(bucket, key);
      const bytes = stat.size > SMALL_BYTES ? null : readOpen(fd, stat.size);
      const info = this.#info(bucket, file, stat, () => bytes ?? Buffer.alloc(0));
      if (bytes) this.#kept.keep(path, stat, { info, bytes });
      if (!wanted(info)) return null;
      keep = bytes === null;
      return bytes === null ? { info, fd } : { info, bytes };
    } finally {
      if (!keep) closeSync(fd);
    }
  }

  /**
   * Sync, like the reading of small objects: open, fstat and read of what the page cache holds take 10 us together, and
   * 100 us through the thread pool. A GET of 4 KB is three times as fast so.
   */
  #openFile(bucket: string, key: string, path: string): number {
    try {
      return openSync(path, 'r');
    } catch (err) {
      throw errnoOf(err) === 'ENOENT' ? noSuchKey(bucket, key) : err;
    }
  }

  /** @throws S3Error NoSuchKey */
  info(bucket: string, key: string): ObjectInfo {
    const file = objectFile(key);
    const path = this.#layout.object(bucket, file);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile()) throw noSuchKey(bucket, key);
    return this.#info(bucket, file, stat, () => readFile(path, stat.size));
  }

  #info(bucket: string, file: string, stat: Stats, bytes: () => Buffer): ObjectInfo {
    const sidecar = readSidecar(this.#layout, bucket, file, stat);
    const { etag, content_type, headers, upload_id } = sidecar ?? {
      ...plain,
      etag: etagOf(stat, bytes),
      upload_id: undefined,
    };
    return {
      size: stat.size,
      modified: stat.mtime,
      modified_ms: stat.mtimeMs,
      etag,
      content_type,
      headers,
      ...(upload_id === undefined ? {} : { upload_id }),
    };
  }

  /** @throws S3Error NoSuchKey */
  async remove(bucket: string, key: string): Promise<void> {
    const file = objectFile(key);
    const path = this.#layout.object(bucket, file);
    await this.#locks.run(path, async () => {
      try {
        const stat = await statFile(path);
        await unlink(path);
        removeSidecar(this.#layout, bucket, file, stat);
      } catch (err) {
        throw errnoOf(err) === 'ENOENT' ? noSuchKey(bucket, key) : err;
      }
    });
  }

  /** Copies bytes; `attributes` null keeps the source's. @throws S3Error NoSuchKey, NoSuchBucket, PreconditionFailed */
  async copy(
    from: { bucket: string; key: string; conditions: Conditions | null },
    to: { bucket: string; key: string },
    attributes: Attributes | null,
  ): Promise<ObjectInfo> {
    const aside = this.#layout.newFile();
    try {
      const info = await this.#copyBytes(from, aside);
      const { etag, content_type, headers } = { ...info, ...attributes };
      return await this.commit(to.bucket, to.key, aside, { etag, content_type, headers }, null);
    } catch (err) {
      await rm(aside, { force: true });
      throw err;
    }
  }

  async #copyBytes(
    from: { bucket: string; key: string; conditions: Conditions | null },
    aside: string,
  ): Promise<ObjectInfo> {
    const source = this.#layout.object(from.bucket, objectFile(from.key));
    for (;;) {
      const info = this.info(from.bucket, from.key);
      if (checkConditions(from.conditions, info) !== 'ok')
        throw new S3Error(
          'PreconditionFailed',
          `The source ${from.key} is not in the state that the request asked for.`,
        );
      await copyFile(source, aside, constants.COPYFILE_FICLONE).catch((err: unknown) => {
        throw errnoOf(err) === 'ENOENT' ? noSuchKey(from.bucket, from.key) : err;
      });
      const after = statSync(source, { throwIfNoEntry: false });
      if (after?.mtimeMs === info.modified_ms) return info;
      // replaced while it was copied: what we know of it may be of the other version
    }
  }
}

/** The md5; of a large file that nobody gave us through the API, a name that changes with the file and is no md5. */
function etagOf(stat: Stats, bytes: () => Buffer): string {
  if (stat.size <= SMALL_BYTES) return hash('md5', bytes());
  const name = `${stat.size}-${stat.mtimeMs}-${stat.ino}`;
  return `${createHash('md5').update(name).digest('hex')}-0`;
}

function readFile(path: string, size: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    return size > SMALL_BYTES ? Buffer.alloc(0) : readOpen(fd, size);
  } finally {
    closeSync(fd);
  }
}

function readOpen(fd: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  const got = size === 0 ? 0 : readSync(fd, bytes, 0, size, 0);
  return got === size ? bytes : bytes.subarray(0, got);
}
