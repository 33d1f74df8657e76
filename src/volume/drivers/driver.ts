import { defineFlags, enumeration, float, type Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { VolumeConnection } from '../../common/volume_connection.ts';

export const volumeStoreFlags = defineFlags({
  volume_overcommit_ratio: float(1, 'GiB of volumes promised for each GiB that the store has', { min: 0.1, max: 1000 }),
  // Nova always wrote zeros.
  volume_clear: enumeration(
    'zero',
    ['zero', 'none'],
    'What becomes of the bytes of a deleted volume, where a new one could read them',
  ),
});

/** Whose bytes are: a name comes again in a database that is made anew, and in another cloud at the same store. */
export interface BytesOwner {
  /** Kept beside the bytes: `nova-` and hex digits, which no other row has, here or in another database. */
  token: string;
  /** They were whole once: bytes of that name without any token are then its own, from before there were tokens. */
  made: boolean;
}

/** What a driver needs to know of a volume; the same row always gives the same. */
export interface VolumeSpec extends BytesOwner {
  id: number;
  /** At the store: `volume-0000000a`. */
  name: string;
  /** GiB. */
  size: number;
}
export interface SnapshotSpec extends BytesOwner {
  id: number;
  /** At the store: `snapshot-0000000a`. */
  name: string;
  /** Of which volume. */
  volume: Pick<VolumeSpec, 'id' | 'name' | 'size'>;
  /** GiB of that volume when it was taken. */
  size: number;
}

/** Who may reach an export. */
export interface ExportAccess {
  username: string;
  password: string;
}
/** One export as it ought to be. */
export interface VolumeExport {
  volume: VolumeSpec;
  /** `iscsi_targets.target_num`, this host's. */
  target_num: number;
  /** Null: nobody, since it is not attached; there is then no export at all. */
  access: ExportAccess | null;
}

/** Names of all volumes, snapshots and exports of ours. */
export interface Inventory {
  volumes: string[];
  snapshots: string[];
  exports: string[];
  /** Those whose making was begun and has not come to its end; none of them is whole. */
  half_made: { volumes: string[]; snapshots: string[] };
}
export interface Look extends Inventory {
  /** The program that exports and does not run, so that there are no exports; null: all runs. */
  missing: string | null;
}

export interface StoreStats {
  /** GiB, whole. */
  total_gb: number;
  free_gb: number;
}

/** What every driver is made from: `new Driver({ flags, log })`. */
export interface VolumeDriverDeps {
  flags: Flags;
  log: Log;
}
export type VolumeDriverClass = new (deps: VolumeDriverDeps) => VolumeDriver;

/**
 * What VolumeManager asks of a store. Every method may be run twice: it looks at what is there first. Errors:
 * BackendUnavailable when a program or the store is away (worth a retry), InvalidInput when it cannot work, Conflict when what
 * is to be made is there and somebody else's, Aborted when the signal ended it; the driver then leaves what it made for
 * `deleteVolume` to take away. Source: Nova 2011.3 nova/volume/driver.py.
 */
export interface VolumeDriver {
  /** Checks programs and store, and has the target daemon running. @throws BackendUnavailable with flag and remedy */
  initHost(signal: AbortSignal): Promise<void>;
  stats(): Promise<StoreStats>;
  /** @returns `provider_location`. A half-made one is never taken for whole. @throws BackendUnavailable when the store is full */
  createVolume(volume: VolumeSpec, signal: AbortSignal): Promise<string>;
  /** At least the snapshot's size; what is beyond it is empty. */
  createVolumeFromSnapshot(volume: VolumeSpec, snapshot: SnapshotSpec, signal: AbortSignal): Promise<string>;
  /**
   * Bytes are gone as --volume_clear says; absent is success. Not called while it is exported. @returns false when bytes of
   * its name are there that are not its own: they stay
   */
  deleteVolume(volume: VolumeSpec, signal: AbortSignal): Promise<boolean>;
  /**
   * As the volume is at one moment. Where the store cannot do that at once while somebody writes, it calls `still`, copies,
   * and calls what `still` gave; `still` is null when nobody has the volume. @returns `provider_location`
   */
  createSnapshot(
    snapshot: SnapshotSpec,
    still: (() => Promise<() => Promise<void>>) | null,
    signal: AbortSignal,
  ): Promise<string>;
  /** As deleteVolume. */
  deleteSnapshot(snapshot: SnapshotSpec, signal: AbortSignal): Promise<boolean>;
  /**
   * Makes this export, and who may reach it, as given: sessions of others end, the secret of others is void, a session of
   * this access lives on. @returns how a hypervisor reaches it, or null when nobody may
   */
  ensureExport(wanted: VolumeExport, signal: AbortSignal): Promise<VolumeConnection | null>;
  /** Sessions end; absent is success. `target_num` null: whichever it has. */
  removeExport(volume: VolumeSpec, target_num: number | null, signal: AbortSignal): Promise<void>;
  /** What is at the store, with whatever it takes to export running. */
  inventory(): Promise<Inventory>;
  /** The same for `volume doctor`: nothing is started. */
  look(): Promise<Look>;
}
