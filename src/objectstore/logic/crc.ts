/** Running checksums that node:zlib does not have, over tables as usual; both reflected, start and end inverted. */

/** CRC-32C (Castagnoli). */
const CRC32C_POLY = 0x82f63b78;
/** CRC-64/NVME, as two halves: JavaScript's bit operations have 32 bits. */
const NVME_HIGH = 0x9a6c9329;
const NVME_LOW = 0xac4bc9b5;

function table32(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = (c >>> 1) ^ (c & 1 ? CRC32C_POLY : 0);
    return c;
  });
}

function table64(): { high: Int32Array; low: Int32Array } {
  const high = new Int32Array(256);
  const low = new Int32Array(256);
  for (let n = 0; n < 256; n++) {
    let [h, l] = [0, n];
    for (let bit = 0; bit < 8; bit++) {
      const odd = l & 1;
      l = (l >>> 1) | (h << 31);
      h >>>= 1;
      if (odd) [h, l] = [h ^ NVME_HIGH, l ^ NVME_LOW];
    }
    high[n] = h;
    low[n] = l;
  }
  return { high, low };
}

export class Crc32c {
  readonly #table = table32();
  #c = -1;
  update(bytes: Uint8Array): void {
    const table = this.#table;
    let c = this.#c;
    for (let i = 0; i < bytes.length; i++) c = (c >>> 8) ^ (table[(c ^ (bytes[i] as number)) & 0xff] as number);
    this.#c = c;
  }
  digest(): Buffer {
    const out = Buffer.alloc(4);
    out.writeInt32BE(~this.#c);
    return out;
  }
}

export class Crc64Nvme {
  readonly #table = table64();
  #high = -1;
  #low = -1;
  update(bytes: Uint8Array): void {
    const { high, low } = this.#table;
    let [h, l] = [this.#high, this.#low];
    for (let i = 0; i < bytes.length; i++) {
      const n = (l ^ (bytes[i] as number)) & 0xff;
      l = ((l >>> 8) | (h << 24)) ^ (low[n] as number);
      h = (h >>> 8) ^ (high[n] as number);
    }
    [this.#high, this.#low] = [h, l];
  }
  digest(): Buffer {
    const out = Buffer.alloc(8);
    out.writeInt32BE(~this.#high, 0);
    out.writeInt32BE(~this.#low, 4);
    return out;
  }
}
