import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { nowText } from '../../common/clock.ts';
import { errnoOf, S3Error } from '../logic/errors.ts';
import type { Conditions } from '../logic/conditions.ts';
import type { Layout } from './layout.ts';
import { Locks } from './locks.ts';
import { Receiver, type ObjectInfo, type Objects } from './objects.ts';
import type { Attributes } from './sidecars.ts';

export interface Upload extends Attributes {
  upload_id: string;
  key: string;
  user_id: string | null;
  /** UTC, ISO 8601. */
  initiated: string;
}
export interface Part {
  number: number;
  /** md5, hex. */
  etag: string;
  size: number;
  modified: Date;
  file: string;
}

export const MOST_PARTS = 10_000;
const COPY_BYTES = 1024 * 1024;
const ID = /^[0-9a-f]{32}$/;
const PART_FILE = /^(\d{5})\.([0-9a-f]{32})$/;

const noSuchUpload = (id: string): S3Error =>
  new S3Error('NoSuchUpload', `There is no upload ${id.slice(0, 64)} of that key; it may be complete or aborted.`);

/**
 * Multipart uploads: a folder each, with `upload.json` and a file per part called NUMBER.MD5, renamed there when complete.
 * Completing copies the parts into one file aside and renames that: until then the object is as it was, and a client may
 * complete again after a crash.
 */
export class Uploads {
  readonly #layout: Layout;
  readonly #objects: Objects;
  readonly #locks = new Locks();

  constructor(layout: Layout, objects: Objects) {
    this.#layout = layout;
    this.#objects = objects;
  }

  /** @returns the upload's id */
  async create(bucket: string, key: string, user_id: string | null, attributes: Attributes): Promise<string> {
    const upload_id = randomUUID().replaceAll('-', '');
    const folder = this.#layout.upload(bucket, upload_id);
    const { content_type, headers } = attributes;
    const upload: Upload = { upload_id, key, user_id, initiated: nowText(), content_type, headers };
    const aside = this.#layout.newFile();
    try {
      await writeFile(aside, JSON.stringify(upload), { flag: 'wx' });
      await mkdir(folder, { recursive: true });
      await rename(aside, `${folder}/upload.json`);
    } catch (err) {
      await rm(aside, { force: true });
      throw err;
    }
    return upload_id;
  }

  /** @throws S3Error NoSuchUpload */
  get(bucket: string, key: string, upload_id: string): Upload {
    const upload = ID.test(upload_id) ? readUpload(this.#layout.upload(bucket, upload_id)) : null;
    if (upload?.key !== key) throw noSuchUpload(upload_id);
    return upload;
  }

  /** @returns the part's etag. @throws S3Error NoSuchUpload, and what `check` throws */
  async putPart(
    bucket: string,
    upload_id: string,
    number: number,
    chunks: AsyncIterable<Buffer>,
    check: (md5: Buffer) => void,
  ): Promise<string> {
    const folder = this.#layout.upload(bucket, upload_id);
    const received = new Receiver(this.#layout);
    try {
      await received.take(chunks);
      const md5 = received.md5.digest();
      check(md5);
      await received.finish();
      const etag = md5.toString('hex');
      const file = `${String(number).padStart(5, '0')}.${etag}`;
      // Two of the same number at once would each take the other's for the one before.
      await this.#locks.run(upload_id, async () => {
        await rename(received.path, `${folder}/${file}`);
        for (const other of await readdir(folder))
          if (other !== file && other.startsWith(file.slice(0, 6))) await rm(`${folder}/${other}`, { force: true });
      });
      return etag;
    } catch (err) {
      await received.discard();
      throw errnoOf(err) === 'ENOENT' ? noSuchUpload(upload_id) : err;
    }
  }

  /** By number. */
  async parts(bucket: string, upload_id: string): Promise<Part[]> {
    const folder = this.#layout.upload(bucket, upload_id);
    const parts: Part[] = [];
    for (const file of (await readdir(folder)).sort()) {
      const match = PART_FILE.exec(file);
      if (!match) continue;
      const { size, mtime } = await stat(`${folder}/${file}`);
      parts.push({ number: Number(match[1]), etag: match[2] as string, size, modified: mtime, file });
    }
    return parts;
  }

  /** Of a bucket, by key, then by start. */
  async list(bucket: string): Promise<Upload[]> {
    const folder = `${this.#layout.aboutBucket(bucket)}/uploads`;
    const uploads: Upload[] = [];
    for (const id of existsSync(folder) ? await readdir(folder) : []) {
      const upload = readUpload(`${folder}/${id}`);
      if (upload) uploads.push(upload);
    }
    return uploads.sort((a, b) => (a.key === b.key ? (a.initiated < b.initiated ? -1 : 1) : a.key < b.key ? -1 : 1));
  }

  /** Completing twice gives the same answer. @throws S3Error NoSuchUpload, InvalidPart, PreconditionFailed, NoSuchBucket */
  async complete(
    bucket: string,
    key: string,
    upload_id: string,
    wanted: readonly { number: number; etag: string }[],
    conditions: Conditions | null,
  ): Promise<ObjectInfo> {
    return this.#locks.run(upload_id, async () => {
      const folder = this.#layout.upload(bucket, upload_id);
      const done = this.#completed(bucket, key, upload_id);
      if (done) {
        await rm(folder, { recursive: true, force: true }); // left from a crash
        return done;
      }
      const upload = this.get(bucket, key, upload_id);
      const parts = this.#choose(await this.parts(bucket, upload_id), wanted);
      const aside = this.#layout.newFile();
      try {
        await concatenate(
          parts.map((part) => `${folder}/${part.file}`),
          aside,
        );
        const info = await this.#objects.commit(
          bucket,
          key,
          aside,
          { etag: etagOfParts(parts), content_type: upload.content_type, headers: upload.headers, upload_id },
          conditions,
        );
        await rm(folder, { recursive: true, force: true });
        return info;
      } catch (err) {
        await rm(aside, { force: true });
        throw errnoOf(err) === 'ENOENT' ? noSuchUpload(upload_id) : err;
      }
    });
  }

  /** The object that this upload became; its folder may be left from a crash. */
  #completed(bucket: string, key: string, upload_id: string): ObjectInfo | null {
    try {
      const info = this.#objects.info(bucket, key);
      return info.upload_id === upload_id ? info : null;
    } catch (err) {
      if (err instanceof S3Error && err.code === 'NoSuchKey') return null;
      throw err;
    }
  }

  #choose(there: readonly Part[], wanted: readonly { number: number; etag: string }[]): Part[] {
    if (wanted.length === 0) throw new S3Error('MalformedXML', 'The list of parts is empty.');
    const by_name = new Map(there.map((part) => [`${part.number} ${part.etag}`, part]));
    let last = 0;
    return wanted.map(({ number, etag }) => {
      if (number <= last)
        throw new S3Error(
          'InvalidPartOrder',
          `Part ${number} is listed after part ${last}: parts go by their numbers.`,
        );
      last = number;
      const part = by_name.get(`${number} ${etag}`);
      if (part === undefined)
        throw new S3Error('InvalidPart', `Part ${number} with the etag ${etag.slice(0, 64)} was not uploaded.`);
      return part;
    });
  }

  /** @throws S3Error NoSuchUpload */
  async abort(bucket: string, key: string, upload_id: string): Promise<void> {
    await this.#locks.run(upload_id, async () => {
      this.get(bucket, key, upload_id);
      await rm(this.#layout.upload(bucket, upload_id), { recursive: true, force: true });
    });
  }
}

/** Null: it is not there, or not whole. */
export function readUpload(folder: string): Upload | null {
  const path = `${folder}/upload.json`;
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Upload;
  } catch (err) {
    if (err instanceof SyntaxError || errnoOf(err) === 'ENOENT') return null;
    throw err;
  }
}

/** The md5 of the parts' md5s, and how many there were, as AWS does it. */
function etagOfParts(parts: readonly Part[]): string {
  const md5 = createHash('md5');
  for (const part of parts) md5.update(part.etag, 'hex');
  return `${md5.digest('hex')}-${parts.length}`;
}

async function concatenate(paths: readonly string[], target: string): Promise<void> {
  const buffer = Buffer.allocUnsafe(COPY_BYTES);
  const out = await open(target, 'wx');
  try {
    for (const path of paths) {
      const from = await open(path, 'r');
      try {
        await appendFile(from, out, buffer);
      } finally {
        await from.close();
      }
    }
  } finally {
    await out.close();
  }
}

async function appendFile(from: FileHandle, to: FileHandle, buffer: Buffer): Promise<void> {
  for (;;) {
    const { bytesRead } = await from.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return;
    await to.writeFile(buffer.subarray(0, bytesRead)); // a FileHandle goes on where it stands
  }
}
