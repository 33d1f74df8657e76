import type { Difference } from '../../common/difference.ts';
import type { Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { NetworkInfo } from '../../common/network_info.ts';
import type { GuestVolume } from '../../common/volume_connection.ts';
import type { InstanceFirewall } from '../logic/instance_firewall.ts';
import type { PowerState } from '../logic/power_state.ts';

/** One image as a driver needs it. `checksum` (sha256, hex) is its identity in the cache. */
export interface GuestImage {
  id: number;
  checksum: string;
  size_bytes: number;
  /** `raw`, `qcow2`, or `ami`, `aki`, `ari` (all three raw bytes). */
  disk_format: string;
}

/** Everything about a guest that does not change while it lives; the same spec always gives the same guest. */
export interface GuestSpec {
  /** Hypervisor name: `instance-0000000a`. */
  name: string;
  instance_id: number;
  uuid: string;
  hostname: string;
  memory_mb: number;
  vcpus: number;
  /** Root disk grows to this many GiB where the image is smaller; 0 leaves the image's own size. */
  root_gb: number;
  /** Size of the second, empty disk in GiB; 0: none. */
  ephemeral_gb: number;
  /** Null: it boots from one of its volumes. */
  image: GuestImage | null;
  /** Both null: a whole-disk image that boots by itself. */
  kernel: GuestImage | null;
  ramdisk: GuestImage | null;
  nics: NetworkInfo[];
  /** OpenSSH public key line to write into the disk, or null. */
  key_data: string | null;
  /** What is attached now. Where one says `boot`, no disk is made of the image. */
  volumes: GuestVolume[];
}

/** Brings an image's bytes to `path` and checks them. @throws ImageNotFound, BackendUnavailable */
export type FetchImage = (image: GuestImage, path: string, signal: AbortSignal) => Promise<void>;

export interface GuestInfo {
  name: string;
  /** Whose it is: a database that was replaced gives the same names to other instances. Null: that cannot be read now. */
  uuid: string | null;
  state: PowerState;
}

export interface HostResources {
  vcpus: number;
  memory_mb: number;
  local_gb: number;
  /** libvirt's word: `QEMU`, or `fake`. */
  hypervisor_type: string;
  /** e.g. 7002000 for 7.2.0. */
  hypervisor_version: number;
  /** JSON text: {arch, model, vendor, topology: {cores, sockets, threads}, features: []}. */
  cpu_info: string;
}

/** What every driver is made from: `new Driver({ flags, log })`. */
export interface DriverDeps {
  flags: Flags;
  log: Log;
}
export type ComputeDriverClass = new (deps: DriverDeps) => ComputeDriver;

/**
 * What ComputeManager asks of a hypervisor. Every method may be run twice: it looks at what is there first.
 * Errors: BackendUnavailable when the hypervisor is away (worth a retry), InvalidInput when the spec cannot work,
 * Aborted when the signal ended it; the driver then leaves what it made for `destroy` to take away.
 * Source: Nova 2011.2 nova/virt/driver.py, the part the suite uses.
 */
export interface ComputeDriver {
  /** Checks the hypervisor and tools. @throws BackendUnavailable with what to install or start */
  initHost(signal: AbortSignal): Promise<void>;
  /** All guests of ours, running or not, in one question to the hypervisor; a folder without its guest is one that is off. */
  listInstances(): Promise<GuestInfo[]>;
  /** @throws InstanceNotFound */
  getInfo(name: string): Promise<GuestInfo>;
  /** Makes disks and starts the guest; one that runs already is left alone. Returns when the hypervisor says running. */
  spawn(spec: GuestSpec, fetch: FetchImage, signal: AbortSignal): Promise<void>;
  /**
   * Stops the guest and deletes its files; absent is success. With `uuid`, a guest that another instance left under
   * this name counts as absent and stays.
   */
  destroy(name: string, signal: AbortSignal, uuid?: string): Promise<void>;
  /**
   * SOFT asks the guest, which goes on for that when it is frozen, and falls back to HARD; starts a guest that is off.
   * The console log is kept.
   */
  reboot(spec: GuestSpec, how: 'SOFT' | 'HARD', signal: AbortSignal): Promise<void>;
  /**
   * Hot-plugs a disk with the volume's serial. A guest that has this very connection is left alone; an older one of the
   * same volume goes first. @throws InstanceNotFound, Conflict when the guest does not run
   */
  attachVolume(name: string, volume: GuestVolume, signal: AbortSignal): Promise<void>;
  /**
   * Returns when the guest let go of the disk with this serial and nothing of it is left; without such a disk, or such a
   * guest, at once. @throws Conflict when the guest does not let go within --volume_detach_timeout, which begins when it is
   * frozen no more
   */
  detachVolume(name: string, serial: string, signal: AbortSignal): Promise<void>;
  /** Serials of the volumes that running guests of ours have, by guest, without those that do not answer now. */
  listVolumes(): Promise<Map<string, string[]>>;
  /**
   * The guest stands still, its writes flushed, until `key` is thawed or `seconds` are over; when this process was killed
   * meanwhile, until one after it finds that they are. Several keys may hold it. @throws InstanceNotFound, Conflict when it does not run
   */
  freeze(name: string, key: string, seconds: number): Promise<void>;
  /** @returns whether the guest stood still since this key froze it */
  thaw(name: string, key: string): Promise<boolean>;
  /** This process ends: guests that it has stand still go on, and a `thaw` that is late hears so. */
  thawAll(): Promise<void>;
  /** At most the last `limit_bytes` of the serial console, over all boots. Empty when it said nothing yet. */
  getConsoleOutput(name: string, limit_bytes: number): Promise<string>;
  hostResources(): Promise<HostResources>;
}

/**
 * What ComputeManager asks of the host's packet filter. Errors: BackendUnavailable when the host lacks a program, a
 * right or a kernel feature. Source: Nova 2011.3 nova/virt/firewall.py, FirewallDriver.
 */
export interface FirewallDriver {
  /** Checks programs and has bridged packets filtered. @throws BackendUnavailable with what to install or set */
  initHost(signal: AbortSignal): Promise<void>;
  /** Has bridged packets filtered, where somebody turned that off. @throws BackendUnavailable */
  filterBridges(signal: AbortSignal): Promise<void>;
  /**
   * Makes the rules of this host's guests exactly these, other programs' untouched; connections live on.
   * @param before what was applied last, trusted to be there still; without it the host is looked at
   */
  apply(firewall: InstanceFirewall, signal: AbortSignal, before?: InstanceFirewall): Promise<void>;
  /**
   * Lets guests reach themselves by their own floating addresses: their bridge ports send back what came in by them, as far
   * as the rules in force allow. Ports that are not there yet are left out.
   */
  reflect(taps: readonly string[], signal: AbortSignal): Promise<void>;
  /** What initHost, apply and reflect would change. */
  look(firewall: InstanceFirewall, signal: AbortSignal): Promise<Difference[]>;
  /** Takes all of them away. */
  remove(signal: AbortSignal): Promise<void>;
}

export type FirewallDriverClass = new (deps: DriverDeps) => FirewallDriver;
