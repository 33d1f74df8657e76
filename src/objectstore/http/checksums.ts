import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Crc32c, Crc64Nvme } from '../logic/crc.ts';

export interface Checksum {
  update(bytes: Buffer): void;
  digest(): Buffer;
}

class Crc32 implements Checksum {
  #value = 0;
  update(bytes: Buffer): void {
    this.#value = crc32(bytes, this.#value);
  }
  digest(): Buffer {
    const out = Buffer.alloc(4);
    out.writeUInt32BE(this.#value);
    return out;
  }
}

/** The sums that a client may send along, by the header `x-amz-checksum-<name>`; the value is base64. */
const ALGORITHMS: Record<string, () => Checksum> = {
  crc32: () => new Crc32(),
  crc32c: () => new Crc32c(),
  crc64nvme: () => new Crc64Nvme(),
  sha1: () => createHash('sha1'),
  sha256: () => createHash('sha256'),
};

const PREFIX = 'x-amz-checksum-';

/** Of `x-amz-checksum-crc32`, a running sum; undefined for headers that are none of these. */
export function checksumOf(header: string): Checksum | undefined {
  const name = header.startsWith(PREFIX) ? header.slice(PREFIX.length) : '';
  return Object.hasOwn(ALGORITHMS, name) ? ALGORITHMS[name]?.() : undefined;
}
