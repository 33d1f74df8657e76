import { InvalidInput } from '../../common/errors.ts';

/** Bytes of a file that `qcow2VirtualSize` wants to see. */
export const QCOW2_HEADER_BYTES = 104;

const MAGIC = 0x514649fb; // "QFI" 0xfb
const INCOMPATIBLE_DATA_FILE = 1n << 2n;

/**
 * Reads the head of an image that a user brought. A qcow2 can name other files of the host, as the disk below it or as
 * the place of its data: a guest that boots it could read them. Such an image is refused, and by these bytes alone,
 * since the tools that would tell open those files to do so.
 * @returns size in bytes of the disk that a guest sees
 * @throws InvalidInput saying what is wrong, with `image` as the subject
 */
export function qcow2VirtualSize(head: Uint8Array, image: string): number {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.byteLength < 72 || view.getUint32(0) !== MAGIC) throw new InvalidInput(`${image} is not a qcow2 file`);
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) throw new InvalidInput(`${image} is qcow2 version ${version}; 2 and 3 are known`);
  if (view.getBigUint64(8) !== 0n)
    throw new InvalidInput(`${image} needs a backing file; upload it as one whole image`);
  if (view.getUint32(32) !== 0) throw new InvalidInput(`${image} is encrypted; upload it in the clear`);
  if (version === 3) {
    if (head.byteLength < QCOW2_HEADER_BYTES) throw new InvalidInput(`${image} is not a whole qcow2 file`);
    if ((view.getBigUint64(72) & INCOMPATIBLE_DATA_FILE) !== 0n)
      throw new InvalidInput(`${image} keeps its data in another file; upload it as one whole image`);
  }
  return Number(view.getBigUint64(24));
}
