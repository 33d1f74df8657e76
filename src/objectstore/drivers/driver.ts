import type { Readable } from 'node:stream';

/** What the manager asks of the buckets. All methods throw BucketNotFound and KeyNotFound. */
export interface ObjectSource {
  /** The bucket's project, or null when it has none. */
  ownerOf(bucket: string): string | null;
  sizeOf(bucket: string, key: string): number;
  /** The object as it is now; a later version does not mix in. Destroy it when it is not read to its end. */
  read(bucket: string, key: string): Readable;
}
