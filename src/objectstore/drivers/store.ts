import { existsSync, mkdirSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../logic/errors.ts';
import { Buckets } from './buckets.ts';
import { Layout } from './layout.ts';
import { Objects } from './objects.ts';
import { tokenOf } from './sidecars.ts';
import { readUpload, Uploads } from './uploads.ts';

/** The folders of --buckets_path, by what is in them. */
export interface Store {
  readonly buckets: Buckets;
  readonly objects: Objects;
  readonly uploads: Uploads;
  /**
   * Takes away what a process that died left: files half written, sidecars of versions that are gone, uploads half made or
   * half removed, and what is known of buckets that are not there. What is younger than an hour may belong to a request under way.
   */
  sweep(now_ms?: number): Promise<void>;
}

const LEFT_MS = 3_600_000;

/** Makes the folders where they are missing. */
export function openStore(buckets_path: string): Store {
  const layout = new Layout(buckets_path);
  for (const path of [...layout.tmp, layout.about]) mkdirSync(path, { recursive: true });
  const objects = new Objects(layout);
  return {
    buckets: new Buckets(layout),
    objects,
    uploads: new Uploads(layout, objects),
    sweep: (now_ms = Date.now()) => sweep(layout, now_ms - LEFT_MS),
  };
}

async function sweep(layout: Layout, before_ms: number): Promise<void> {
  for (const folder of layout.tmp) await removeOld(folder, before_ms, () => true);
  await removeOld(join(layout.root, '.nova/tmp'), before_ms, (name) => !/^\d+$/.test(name)); // an earlier layout’s
  await removeOld(layout.about, before_ms, (bucket) => !existsSync(layout.bucket(bucket)));
  for (const bucket of await readdir(layout.about)) {
    const uploads = join(layout.aboutBucket(bucket), 'uploads');
    if (existsSync(uploads)) await removeOld(uploads, before_ms, (id) => readUpload(join(uploads, id)) === null);
    const meta = join(layout.aboutBucket(bucket), 'meta');
    if (!existsSync(meta)) continue;
    const current = await currentSidecars(layout, bucket);
    await removeOld(meta, before_ms, (name) => !current.has(name));
  }
}

async function currentSidecars(layout: Layout, bucket: string): Promise<Set<string>> {
  const names = new Set<string>();
  for (const file of existsSync(layout.bucket(bucket)) ? await readdir(layout.bucket(bucket)) : []) {
    const found = await statIfThere(layout.object(bucket, file));
    if (found) names.add(`${file}@${tokenOf(found)}`);
  }
  return names;
}

async function removeOld(folder: string, before_ms: number, which: (name: string) => boolean): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const found = await statIfThere(path);
    if (found && found.ctimeMs < before_ms && which(name)) await rm(path, { recursive: true, force: true });
  }
}

async function statIfThere(path: string) {
  try {
    return await stat(path);
  } catch (err) {
    if (errnoOf(err) === 'ENOENT') return null;
    throw err;
  }
}
