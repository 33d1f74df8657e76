import type { Readable } from 'node:stream';
import type { BucketProject } from '../logic/bucket_owner.ts';

/** What the manager asks of the buckets. All methods throw BucketNotFound and KeyNotFound. */
export interface ObjectSource {
  ownerOf(bucket: string): BucketProject;
  sizeOf(bucket: string, key: string): number;
  /** The object as it is now; a later version does not mix in. Destroy it when it is not read to its end. */
  read(bucket: string, key: string): Readable;
}
