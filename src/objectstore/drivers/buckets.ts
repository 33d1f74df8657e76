import { existsSync, readFileSync, statSync } from 'node:fs';
import { link, mkdir, readdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { clock, nowText } from '../../common/clock.ts';
import { isOwner, type BucketProject } from '../logic/bucket_owner.ts';
import { errnoOf, noSuchBucket, S3Error } from '../logic/errors.ts';
import { checkBucketName, keyOfFile } from '../logic/keys.ts';
import { sortKeys } from '../logic/list.ts';
import { isLongFile, TICK_MS, type Layout } from './layout.ts';
import { Locks } from './locks.ts';
import { readSidecar } from './sidecars.ts';

export interface Owner extends BucketProject {
  user_id: string | null;
  /** UTC, ISO 8601. */
  created_at: string;
}
export interface Bucket extends Owner {
  name: string;
}

/** Who makes a bucket. */
interface Maker extends BucketProject {
  project_id: string;
  user_id: string | null;
}

/** How long an owner is believed without a look at the disk, and how long sorted keys are kept for the next page. */
const OWNER_MS = 1000;
const KEYS_MS = 10_000;

interface SortedKeys {
  keys: string[];
  changed_ms: number;
  timer: NodeJS.Timeout;
}

/** Buckets as folders under --buckets_path. */
export class Buckets {
  readonly #layout: Layout;
  readonly #locks = new Locks();
  readonly #owners = new Map<string, { owner: Owner; until: number }>();
  readonly #keys = new Map<string, SortedKeys>();

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** @throws S3Error BucketAlreadyExists, BucketAlreadyOwnedByYou (both 403, as Nova) */
  async create(bucket: string, by: Maker): Promise<void> {
    await this.#locks.run(bucket, async () => {
      if (existsSync(this.#layout.bucket(bucket))) throw this.#taken(bucket, by);
      const about = this.#layout.aboutBucket(bucket);
      await mkdir(`${about}/meta`, { recursive: true });
      await mkdir(`${about}/uploads`, { recursive: true });
      await this.#claim(bucket, by);
      await mkdir(this.#layout.bucket(bucket)).catch((err: unknown) => {
        throw errnoOf(err) === 'EEXIST' ? this.#taken(bucket, by) : err;
      });
      this.#owners.delete(bucket);
    });
  }

  /** Links the finished owner file into place, which only one can. One that we left half-way is ours to finish. */
  async #claim(bucket: string, by: Maker): Promise<void> {
    const owner: Owner = { ...by, created_at: nowText() };
    const aside = this.#layout.newFile();
    await writeFile(aside, JSON.stringify(owner), { flag: 'wx' });
    try {
      await link(aside, `${this.#layout.aboutBucket(bucket)}/owner.json`);
    } catch (err) {
      if (errnoOf(err) !== 'EEXIST') throw err;
      if (!this.#has(by, bucket)) throw this.#taken(bucket);
    } finally {
      await rm(aside, { force: true });
    }
  }

  #has({ project_id, project_created_at }: Maker, bucket: string): boolean {
    const owner = this.#readOwner(bucket);
    return owner !== null && isOwner(owner, project_id, project_created_at ?? null);
  }

  #taken(bucket: string, by?: Maker): S3Error {
    return by && this.#has(by, bucket)
      ? new S3Error('BucketAlreadyOwnedByYou', `Your project has the bucket ${bucket} already.`)
      : new S3Error('BucketAlreadyExists', `The bucket name ${bucket} is taken; choose another.`);
  }

  #readOwner(bucket: string): Owner | null {
    const path = `${this.#layout.aboutBucket(bucket)}/owner.json`;
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Owner) : null;
  }

  /** @throws S3Error NoSuchBucket */
  owner(bucket: string): Owner {
    const now = clock.now().getTime();
    const known = this.#owners.get(bucket);
    if (known && known.until > now) return known.owner;
    this.#owners.delete(bucket);
    const stat = statSync(this.#layout.bucket(bucket), { throwIfNoEntry: false });
    if (!stat?.isDirectory()) throw noSuchBucket(bucket);
    const owner = this.#readOwner(bucket) ?? {
      project_id: null,
      user_id: null,
      created_at: stat.ctime.toISOString(),
    };
    if (this.#owners.size >= 1000) this.#owners.clear();
    this.#owners.set(bucket, { owner, until: now + OWNER_MS });
    return owner;
  }

  /** By name. */
  async list(): Promise<Bucket[]> {
    const buckets: Bucket[] = [];
    for (const entry of await readdir(this.#layout.root, { withFileTypes: true })) {
      if (!entry.isDirectory() || entry.name.startsWith('.')) continue;
      try {
        buckets.push({ name: checkBucketName(entry.name), ...this.owner(entry.name) });
      } catch (err) {
        if (!(err instanceof S3Error)) throw err; // gone meanwhile, or a folder that no bucket can be called
      }
    }
    return buckets.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws S3Error NoSuchBucket, BucketNotEmpty (403, as Nova) */
  async remove(bucket: string): Promise<void> {
    await this.#locks.run(bucket, async () => {
      try {
        await rmdir(this.#layout.bucket(bucket));
      } catch (err) {
        if (errnoOf(err) === 'ENOENT') throw noSuchBucket(bucket);
        if (errnoOf(err) !== 'ENOTEMPTY') throw err;
        throw new S3Error('BucketNotEmpty', `The bucket ${bucket} holds objects; delete them first.`);
      }
      this.#owners.delete(bucket);
      await rm(this.#layout.aboutBucket(bucket), { recursive: true, force: true });
    });
  }

  /**
   * All keys in byte order. Those of the last seconds are kept, so that paging through a big bucket reads its folder once;
   * any change of the folder is noticed. @throws S3Error NoSuchBucket
   */
  async keys(bucket: string): Promise<readonly string[]> {
    const path = this.#layout.bucket(bucket);
    const changed = () => statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    const changed_ms = changed();
    if (changed_ms === undefined) throw noSuchBucket(bucket);
    const kept = this.#keys.get(bucket);
    if (kept?.changed_ms === changed_ms) {
      kept.timer.refresh();
      return kept.keys;
    }
    this.#forgetKeys(bucket);
    const settled = Date.now() - changed_ms > TICK_MS;
    const keys = sortKeys(await this.#readKeys(bucket));
    if (settled && changed() === changed_ms && this.#keys.size < 8) {
      const timer = setTimeout(() => this.#keys.delete(bucket), KEYS_MS).unref();
      this.#forgetKeys(bucket);
      this.#keys.set(bucket, { keys, changed_ms, timer });
    }
    return keys;
  }

  #forgetKeys(bucket: string): void {
    clearTimeout(this.#keys.get(bucket)?.timer);
    this.#keys.delete(bucket);
  }

  async #readKeys(bucket: string): Promise<string[]> {
    const keys: string[] = [];
    for (const entry of await readdir(this.#layout.bucket(bucket), { withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const key = isLongFile(entry.name) ? this.#longKey(bucket, entry.name) : keyOfFile(entry.name);
      if (key !== null) keys.push(key);
    }
    return keys;
  }

  #longKey(bucket: string, file: string): string | null {
    const stat = statSync(this.#layout.object(bucket, file), { throwIfNoEntry: false });
    return stat ? (readSidecar(this.#layout, bucket, file, stat)?.key ?? null) : null;
  }
}
