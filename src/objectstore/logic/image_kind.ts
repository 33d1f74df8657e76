/** Bytes that `imageKind` looks at. */
export const HEAD_BYTES = 0x206;

const COMPRESSED_OR_CPIO = [
  '1f8b', // gzip
  '28b52ffd', // zstd
  'fd377a585a00', // xz
  '02214c18', // lz4, as the kernel packs
  '894c5a4f', // lzop
  '303730373031', // cpio, unpacked: 070701
].map((hex) => Buffer.from(hex, 'hex'));

/**
 * What an object that is registered as it is can only be: a Linux kernel for x86 (`HdrS` of its boot protocol) or a ramdisk;
 * else a disk. A disk begins with its boot record, and one that is packed does not boot.
 */
export function imageKind(head: Buffer): 'aki' | 'ari' | null {
  if (head.subarray(0x202, 0x206).equals(Buffer.from('HdrS'))) return 'aki';
  return COMPRESSED_OR_CPIO.some((magic) => head.subarray(0, magic.length).equals(magic)) ? 'ari' : null;
}
