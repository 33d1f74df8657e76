import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { BucketNotFound, InvalidInput, KeyNotFound } from '../../common/errors.ts';
import { S3Error } from '../logic/errors.ts';
import { checkBucketName, checkKey } from '../logic/keys.ts';
import type { ObjectSource } from './driver.ts';
import type { Store } from './store.ts';

const READ_BYTES = 1024 * 1024;

/** The buckets of this host, for the daemon itself: no signatures, the errors of all daemons. */
export function objectSource(store: Store): ObjectSource {
  return {
    ownerOf: (bucket) => named(() => store.buckets.owner(checkBucketName(bucket))),
    sizeOf: (bucket, key) => named(() => store.objects.info(checkBucketName(bucket), checkKey(key)).size),
    read: (bucket, key) =>
      named(() => {
        const object = store.objects.open(checkBucketName(bucket), checkKey(key), () => true);
        if (object === null) throw new KeyNotFound(`bucket ${bucket} has no object ${key}`);
        if ('bytes' in object) return Readable.from([object.bytes]);
        return createReadStream('', { fd: object.fd, highWaterMark: READ_BYTES });
      }),
  };
}

function named<T>(work: () => T): T {
  try {
    return work();
  } catch (err) {
    if (!(err instanceof S3Error)) throw err;
    if (err.code === 'NoSuchBucket') throw new BucketNotFound(err.message, { cause: err });
    if (err.code === 'NoSuchKey') throw new KeyNotFound(err.message, { cause: err });
    throw new InvalidInput(err.message, { cause: err });
  }
}
