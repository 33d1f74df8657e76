import { DeviceInUse, InvalidInput } from '../../common/errors.ts';

/** One line of a launch's block device mapping, as both APIs have it. Source: Nova 2011.3 nova/compute/api.py. */
export interface BlockDeviceMapping {
  /** `/dev/vdb`, `sdc`, `/dev/sda1`. */
  device_name: string;
  /** This volume, ... */
  volume_id?: number | null;
  /** ... or one made of this snapshot, or, with a size alone, an empty one. */
  snapshot_id?: number | null;
  /** GiB. */
  volume_size?: number | null;
  /** Name of the type of the volume that is made. */
  volume_type?: string;
  /** The volume goes with the instance; default true. */
  delete_on_termination?: boolean;
  /** Nothing at this device, whatever the image says. */
  no_device?: boolean;
  /** `ephemeral0`, `swap`: disks that the instance type has anyway, at their own places. */
  virtual_name?: string | null;
}

/** One volume of an instance to be. */
export interface LaunchVolume {
  device: string;
  volume_id: number | null;
  snapshot_id: number | null;
  /** GiB. */
  size: number | null;
  volume_type: string | null;
  delete_on_termination: boolean;
  /** The instance boots from it. */
  boot: boolean;
}

const FORM = /^\/dev\/x?[a-z]d[a-z]{1,2}$/;
/** The root disk has many names: `/dev/sda1` is EC2's. */
const ROOT = /^\/dev\/(x?[a-z]d)a1?$/;
const VIRTUAL = /^(ephemeral\d+|swap|ami|root)$/;

/**
 * The volumes that a mapping asks for. A mapping on the root's name makes the instance boot from it.
 * @param root_device the image's own name of its root, or null
 * @throws InvalidInput, DeviceInUse
 */
export function launchVolumes(mappings: readonly BlockDeviceMapping[], root_device: string | null): LaunchVolume[] {
  const volumes: LaunchVolume[] = [];
  const names = new Map<string, string>();
  for (const mapping of mappings) {
    const { device_name, virtual_name = null } = mapping;
    if (mapping.no_device) continue;
    if (virtual_name !== null) {
      if (!VIRTUAL.test(virtual_name))
        throw new InvalidInput(`${virtual_name.slice(0, 40)} is no virtual device: ephemeral0 and swap are`);
      continue;
    }
    const volume = oneVolume(mapping, root_device);
    const place = volume.boot ? 'a' : volume.device.replace(/^\/dev\/x?[a-z]d/, '');
    const other = names.get(place);
    if (other !== undefined) throw new DeviceInUse(`${device_name} and ${other} are the same device: name another`);
    names.set(place, device_name);
    volumes.push(volume);
  }
  return volumes;
}

function oneVolume(mapping: BlockDeviceMapping, root_device: string | null): LaunchVolume {
  const { volume_id = null, snapshot_id = null, volume_size: size = null } = mapping;
  const device = absolute(mapping.device_name);
  const boot = ROOT.test(device) || (root_device !== null && device === absolute(root_device));
  const at = `the block device mapping of ${device.slice(0, 40)}`;
  if (!boot && !FORM.test(device))
    throw new InvalidInput(`${at} names no device: it looks like /dev/vdb, /dev/sdc or /dev/xvdf`);
  if (volume_id !== null && snapshot_id !== null)
    throw new InvalidInput(`${at} names a volume and a snapshot: one of the two`);
  if (volume_id === null && snapshot_id === null && size === null)
    throw new InvalidInput(`${at} needs a volume, a snapshot or a size`);
  if (boot && volume_id === null && snapshot_id === null)
    throw new InvalidInput(`${at} is an empty volume, which boots nothing: name a volume or a snapshot`);
  const { delete_on_termination = true } = mapping;
  const made =
    volume_id === null ? { size, volume_type: mapping.volume_type ?? null } : { size: null, volume_type: null };
  return { device, volume_id, snapshot_id, ...made, delete_on_termination, boot };
}

const absolute = (name: string): string => (name.startsWith('/dev/') ? name : `/dev/${name}`);
