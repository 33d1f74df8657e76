import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf } from '../logic/errors.ts';
import { isLongFile, type Layout } from './layout.ts';

/** What is known of an object besides its bytes. */
export interface Attributes {
  /** Null: the client gave none. */
  content_type: string | null;
  /** Further headers that go out as they came in: Cache-Control, Content-Encoding, x-amz-meta-... */
  headers: Record<string, string>;
}
export interface Sidecar extends Attributes {
  /** Without quotes. */
  etag: string;
  /** For a key too long to be the file's name. */
  key?: string;
  /** The multipart upload that made it: completing it again is no error. */
  upload_id?: string;
}

/** Objects up to this size are read whole, and their etag is worked out from what was read. */
export const SMALL_BYTES = 64 * 1024;

export const plain: Attributes = { content_type: null, headers: {} };

/**
 * A sidecar exists only where the file cannot speak for itself. It belongs to one version of the file, by the time of its
 * last change (in its name, microseconds), so a crash between writing the two leaves the old pair whole and a sidecar that
 * nothing asks for. Copies of the tree that keep times (`cp -a`, `rsync -a`) keep everything.
 */
export const tokenOf = (stat: Stats): string => Math.round(stat.mtimeMs * 1000).toString(36);

export function needsSidecar(file: string, size: number, sidecar: Sidecar): boolean {
  return (
    size > SMALL_BYTES ||
    sidecar.content_type !== null ||
    sidecar.etag.includes('-') || // not the md5 of the bytes
    Object.keys(sidecar.headers).length > 0 ||
    isLongFile(file)
  );
}

/** Sync: the answer is in the page cache, and the way through the thread pool takes ten times as long as the answer. */
export function readSidecar(layout: Layout, bucket: string, file: string, stat: Stats): Sidecar | null {
  const path = layout.sidecar(bucket, file, tokenOf(stat));
  if (!existsSync(path)) return null; // the common case, without the cost of an exception
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Sidecar;
  } catch (err) {
    if (errnoOf(err) === 'ENOENT') return null;
    throw err;
  }
}

export function writeSidecar(layout: Layout, bucket: string, file: string, stat: Stats, sidecar: Sidecar): void {
  const path = layout.sidecar(bucket, file, tokenOf(stat));
  const aside = layout.newFile();
  writeFileSync(aside, JSON.stringify(sidecar), { flag: 'wx' });
  try {
    renameSync(aside, path);
  } catch (err) {
    // a bucket older than this program has no folder for them
    if (errnoOf(err) !== 'ENOENT') throw err;
    mkdirSync(dirname(path), { recursive: true });
    renameSync(aside, path);
  }
}

export function removeSidecar(layout: Layout, bucket: string, file: string, stat: Stats): void {
  const path = layout.sidecar(bucket, file, tokenOf(stat));
  if (existsSync(path)) rmSync(path, { force: true });
}
