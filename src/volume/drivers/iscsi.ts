import type { Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { VolumeConnection } from '../../common/volume_connection.ts';
import type { Inventory, Look, SnapshotSpec, StoreStats, VolumeDriver, VolumeExport, VolumeSpec } from './driver.ts';
import { LUN, Tgt, tgtFlags } from './tgt/tgt.ts';

/** Where the bytes are. Methods as VolumeDriver's of the same name. */
export interface VolumeStore {
  initHost(signal: AbortSignal): Promise<void>;
  stats(): Promise<StoreStats>;
  createVolume(volume: VolumeSpec, signal: AbortSignal): Promise<void>;
  createVolumeFromSnapshot(volume: VolumeSpec, snapshot: SnapshotSpec, signal: AbortSignal): Promise<void>;
  deleteVolume(volume: VolumeSpec, signal: AbortSignal): Promise<boolean>;
  /** @returns where it is, in the store's own words */
  createSnapshot(
    snapshot: SnapshotSpec,
    still: (() => Promise<() => Promise<void>>) | null,
    signal: AbortSignal,
  ): Promise<string>;
  deleteSnapshot(snapshot: SnapshotSpec, signal: AbortSignal): Promise<boolean>;
  /** Of a file or a block device that tgtd opens. */
  path(volume: VolumeSpec): string;
  inventory(): Promise<Omit<Inventory, 'exports'>>;
}

/** A store of this host whose volumes tgtd exports. */
export class IscsiDriver implements VolumeDriver {
  readonly #store: VolumeStore;
  readonly #tgt: Tgt;
  readonly #prefix: string;

  constructor(store: VolumeStore, deps: { flags: Flags; log: Log }) {
    this.#store = store;
    this.#tgt = new Tgt(deps);
    this.#prefix = deps.flags.read(tgtFlags).iscsi_target_prefix;
  }

  async initHost(signal: AbortSignal): Promise<void> {
    await this.#store.initHost(signal);
    await this.#tgt.initHost(signal);
  }

  stats(): Promise<StoreStats> {
    return this.#store.stats();
  }

  async createVolume(volume: VolumeSpec, signal: AbortSignal): Promise<string> {
    await this.#store.createVolume(volume, signal);
    return this.#location(volume);
  }

  async createVolumeFromSnapshot(volume: VolumeSpec, snapshot: SnapshotSpec, signal: AbortSignal): Promise<string> {
    await this.#store.createVolumeFromSnapshot(volume, snapshot, signal);
    return this.#location(volume);
  }

  async deleteVolume(volume: VolumeSpec, signal: AbortSignal): Promise<boolean> {
    await this.#tgt.remove(this.#iqn(volume), signal); // tgtd would keep the bytes open
    return this.#store.deleteVolume(volume, signal);
  }

  createSnapshot(
    snapshot: SnapshotSpec,
    still: (() => Promise<() => Promise<void>>) | null,
    signal: AbortSignal,
  ): Promise<string> {
    return this.#store.createSnapshot(snapshot, still, signal);
  }

  deleteSnapshot(snapshot: SnapshotSpec, signal: AbortSignal): Promise<boolean> {
    return this.#store.deleteSnapshot(snapshot, signal);
  }

  async ensureExport(wanted: VolumeExport, signal: AbortSignal): Promise<VolumeConnection | null> {
    const { volume, target_num, access } = wanted;
    const iqn = this.#iqn(volume);
    if (access === null) {
      await this.#tgt.remove(iqn, signal);
      return null;
    }
    await this.#tgt.ensure({ iqn, target_num, path: this.#store.path(volume), access }, signal);
    return {
      driver_volume_type: 'iscsi',
      target_portal: this.#tgt.portal,
      target_iqn: iqn,
      target_lun: LUN,
      auth_username: access.username,
      auth_password: access.password,
    };
  }

  removeExport(volume: VolumeSpec, _target_num: number | null, signal: AbortSignal): Promise<void> {
    return this.#tgt.remove(this.#iqn(volume), signal);
  }

  async inventory(): Promise<Inventory> {
    const exports = this.#names(await this.#tgt.iqns());
    return { ...(await this.#store.inventory()), exports };
  }

  async look(): Promise<Look> {
    const iqns = await this.#tgt.look();
    const exports = iqns === null ? [] : this.#names(iqns);
    return { ...(await this.#store.inventory()), exports, missing: iqns === null ? 'tgtd' : null };
  }

  #names(iqns: readonly string[]): string[] {
    return iqns.map((iqn) => (iqn.startsWith(this.#prefix) ? iqn.slice(this.#prefix.length) : iqn)).sort();
  }

  #iqn({ name }: VolumeSpec): string {
    return `${this.#prefix}${name}`;
  }

  /** As Nova wrote it and iscsiadm's discovery prints it: `IP:PORT,PORTAL IQN`. */
  #location(volume: VolumeSpec): string {
    return `${this.#tgt.portal},1 ${this.#iqn(volume)}`;
  }
}
