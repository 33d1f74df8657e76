import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { fileOfKey } from '../logic/keys.ts';

/** What changed this recently may change again without a new time: the kernel's clock has ticks of up to 10 ms. */
export const TICK_MS = 20;
const TMP_FOLDERS = 16;

/**
 * Where everything is under --buckets_path:
 *
 *   BUCKET/FILE                       the bytes of an object, and nothing else: what an operator puts there is an object
 *   .nova/buckets/BUCKET/owner.json   the bucket's project; made first and whole, so it is what claims the name
 *                       /meta/FILE@T  what the bytes alone do not tell of an object (sidecars.ts)
 *                       /uploads/ID/  multipart uploads under way (uploads.ts)
 *   .nova/tmp/N/                      what is being written; renamed into place when complete
 *
 * A bucket's name never starts with a dot, so `.nova` is never one.
 */
export class Layout {
  readonly root: string;
  /** In turn: while a file is renamed out of one, which a disk can make long, others are made in the others. */
  readonly tmp: readonly string[];
  readonly #process = randomUUID();
  #written = 0;

  constructor(buckets_path: string) {
    this.root = buckets_path;
    this.tmp = Array.from({ length: TMP_FOLDERS }, (_, n) => join(buckets_path, `.nova/tmp/${n}`));
  }

  get about(): string {
    return join(this.root, '.nova/buckets');
  }
  bucket(bucket: string): string {
    return `${this.root}/${bucket}`;
  }
  aboutBucket(bucket: string): string {
    return `${this.root}/.nova/buckets/${bucket}`;
  }
  object(bucket: string, file: string): string {
    return `${this.root}/${bucket}/${file}`;
  }
  sidecar(bucket: string, file: string, token: string): string {
    return `${this.root}/.nova/buckets/${bucket}/meta/${file}@${token}`;
  }
  upload(bucket: string, upload_id: string): string {
    return `${this.root}/.nova/buckets/${bucket}/uploads/${upload_id}`;
  }
  /** A name that no other write of any process has. */
  newFile(): string {
    const n = this.#written++;
    return `${this.tmp[n % TMP_FOLDERS]}/${this.#process}-${n}`;
  }
}

/** The file name of a key; one too long to be spelt out is named by its hash, and its sidecar holds the key. */
export function objectFile(key: string): string {
  return fileOfKey(key) ?? `%long-${createHash('sha256').update(key).digest('hex')}`;
}
export const isLongFile = (file: string): boolean => file.startsWith('%long-');
