import { DeviceInUse, InvalidInput } from '../../common/errors.ts';

/** What is known of an instance's disks. */
export interface Disks {
  /** For messages: `i-0000000a`. */
  instance: string;
  /** Devices of its live attachments: `/dev/vdb`. */
  attached: readonly string[];
  /** It has a second disk of its own. */
  ephemeral: boolean;
}

const FORM = /^\/dev\/x?[a-z]d([a-z]{1,2})$/;

/** A guest's own disks: the root, and the empty second one of its type. */
const ROOT = 'a';
const EPHEMERAL = 'b';

/**
 * The name of the volume in the guest: the one asked for, else the next free `/dev/vdX`. Names are compared by their last
 * letters, since `/dev/sdb` and `/dev/vdb` are both the guest's second disk. Source: Nova 2011.3 nova/compute/api.py,
 * which took /dev/[a-z]d[a-z]+. @throws InvalidInput, DeviceInUse
 */
export function chooseDevice(asked: string | null, disks: Disks): string {
  const taken = new Map<string, string>([[ROOT, 'its root disk']]);
  if (disks.ephemeral) taken.set(EPHEMERAL, 'the second disk of its type');
  // A root volume may be /dev/sda1, EC2's name of its disk.
  for (const device of disks.attached) taken.set(lettersOf(device.replace(/\d+$/, '')), `the volume at ${device}`);
  if (asked === null) {
    const free = LETTERS.find((letter) => !taken.has(letter));
    if (free === undefined)
      throw new DeviceInUse(`${disks.instance} has a disk at every name up to /dev/vdz: detach one`);
    return `/dev/vd${free}`;
  }
  const letters = lettersOf(asked);
  const by = taken.get(letters);
  if (by !== undefined)
    throw new DeviceInUse(`${asked} of ${disks.instance} is in use by ${by}: name another device, or leave it out`);
  return asked;
}

const LETTERS = [...'abcdefghijklmnopqrstuvwxyz'];

/** @throws InvalidInput */
export function lettersOf(device: string): string {
  const letters = FORM.exec(device)?.[1];
  if (letters === undefined)
    throw new InvalidInput(`'${device.slice(0, 40)}' names no device: it looks like /dev/vdb, /dev/sdc or /dev/xvdf`);
  return letters;
}
