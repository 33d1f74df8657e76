import { BackendUnavailable } from '../common/errors.ts';
import type { Daemon, Running } from '../common/service.ts';
import { driverFlags } from '../compute/classes.ts';
import { start, volumeDriverFlags } from '../volume/main.ts';

/** Nova's default keeps volumes in an LVM group that the operator made; who starts everything at once has none. */
const FILES = 'nova.volume.driver.FileISCSIDriver';
const FAKE = 'nova.volume.driver.FakeISCSIDriver';
/** Of --connection_type. */
const REAL_HYPERVISORS = ['libvirt', 'qemu'];

/**
 * nova-volume of nova-all. Without --volume_driver volumes are files, or fake beside a fake hypervisor, and a host that
 * cannot have them (no tgtd, no right to run it) has the rest of the cloud: null then. @throws where the flag is given
 */
export async function startVolumes(daemon: Daemon): Promise<Running | null> {
  const { flags, log } = daemon;
  flags.read(volumeDriverFlags);
  if (flags.source('volume_driver') !== 'default') return start(daemon);
  const real = REAL_HYPERVISORS.includes(flags.read(driverFlags).connection_type);
  try {
    return await start(daemon, real ? FILES : FAKE);
  } catch (err) {
    if (!(err instanceof BackendUnavailable)) throw err;
    log.warn({ err }, 'this host has no volumes; the rest of the cloud runs without');
    return null;
  }
}
