import { crc32 } from 'node:zlib';

/** Flag bit 11: names are UTF-8. */
const UTF8 = 0x0800;
const VERSION = 20;
/** Made on Unix, so that the file modes below count. */
const MADE_BY = (3 << 8) | VERSION;
const MODE = 0o100600;

/** A zip of a few small files, uncompressed as Nova's was, each for its owner's eyes. Source: PKWARE's APPNOTE 6.3.3, 4.3 */
export function zip(files: Readonly<Record<string, string>>, at: Date): Buffer {
  const [bodies, directory]: [Buffer[], Buffer[]] = [[], []];
  let offset = 0;
  for (const [name, text] of Object.entries(files)) {
    const [title, bytes] = [Buffer.from(name), Buffer.from(text)];
    const common = numbers([VERSION, 2], [UTF8, 2], [0, 2], [time(at), 2], [day(at), 2], [crc32(bytes), 4]);
    const sizes = numbers([bytes.length, 4], [bytes.length, 4], [title.length, 2], [0, 2]);
    const body = Buffer.concat([numbers([0x04034b50, 4]), common, sizes, title, bytes]);
    const place = numbers([0, 2], [0, 2], [0, 2], [MODE * 0x10000, 4], [offset, 4]);
    directory.push(numbers([0x02014b50, 4], [MADE_BY, 2]), common, sizes, place, title);
    bodies.push(body);
    offset += body.length;
  }
  const list = Buffer.concat(directory);
  const count = bodies.length;
  const end = numbers([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [list.length, 4], [offset, 4], [0, 2]);
  return Buffer.concat([...bodies, list, end]);
}

const time = (at: Date): number => (at.getHours() << 11) | (at.getMinutes() << 5) | (at.getSeconds() >> 1);
const day = (at: Date): number => ((at.getFullYear() - 1980) << 9) | ((at.getMonth() + 1) << 5) | at.getDate();

/** Each in so many bytes, the lowest first. */
function numbers(...fields: readonly (readonly [value: number, bytes: number])[]): Buffer {
  const out = Buffer.alloc(fields.reduce((sum, [, bytes]) => sum + bytes, 0));
  let at = 0;
  for (const [value, bytes] of fields) at = out.writeUIntLE(value, at, bytes);
  return out;
}
