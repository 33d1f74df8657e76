import { sleep } from '../../common/clock.ts';
import { Aborted, BackendUnavailable, errorText } from '../../common/errors.ts';
import { defineFlags, float, integer, list, string, type FlagValues } from '../../common/flags.ts';
import { StateFile } from '../../common/state_file.ts';
import type { VolumeConnection } from '../../common/volume_connection.ts';
import type {
  Inventory,
  Look,
  SnapshotSpec,
  StoreStats,
  VolumeDriver,
  VolumeDriverDeps,
  VolumeExport,
  VolumeSpec,
} from './driver.ts';

export const fakeVolumeDriverFlags = defineFlags({
  fake_volume_state: string(null, 'Fake driver: JSON file that keeps the volumes when nova-volume ends; unset: memory'),
  fake_volume_delay_ms: integer(0, 'Fake driver: milliseconds each operation takes', { min: 0 }),
  fake_volume_failure_rate: float(0, 'Fake driver: share of operations that fail, 0 to 1', { min: 0, max: 1 }),
  fake_volume_failing: list(
    ['create'],
    'Fake driver: which operations that share is of: create, delete, snapshot, delete_snapshot, export, remove_export',
  ),
  fake_volume_total_gb: integer(100_000, 'Fake driver: room of this host in GiB', { min: 0 }),
});

interface FakeStore {
  /** Name to GiB and what it is made of. */
  volumes: Record<string, { size: number; from: string | null }>;
  /** Name to volume. */
  snapshots: Record<string, { volume: string }>;
  /** Volume to who may reach it. */
  exports: Record<string, { target_num: number; username: string; password: string }>;
}

/**
 * A whole driver over memory, for tests, load and simulation: volumes that cost nothing, with delays and failures on
 * demand, which outlive nova-volume when they have a file to live in. Source: Nova 2011.2 nova/volume/driver.py,
 * FakeISCSIDriver, which ran no commands and kept nothing.
 */
export class FakeVolumeDriver implements VolumeDriver {
  /** A simulation may change what it finds here, as an operator or a fault would. */
  readonly store: FakeStore = { volumes: {}, snapshots: {}, exports: {} };
  readonly #flags: FlagValues<typeof fakeVolumeDriverFlags>;
  readonly #file: StateFile<FakeStore> | undefined;

  constructor({ flags }: Pick<VolumeDriverDeps, 'flags'>) {
    this.#flags = flags.read(fakeVolumeDriverFlags);
    const path = this.#flags.fake_volume_state;
    if (path !== null) this.#file = new StateFile(path, () => this.store);
  }

  async initHost(): Promise<void> {
    if (this.#file === undefined) return;
    try {
      Object.assign(this.store, (await this.#file.load()) ?? {});
      await this.#file.save(); // so that a path which cannot be written ends the start, not the first volume
    } catch (err) {
      throw new BackendUnavailable(
        `--fake_volume_state=${this.#flags.fake_volume_state}: ${errorText(err)}. Give a file that can be written`,
        { cause: err },
      );
    }
  }

  async stats(): Promise<StoreStats> {
    const total_gb = this.#flags.fake_volume_total_gb;
    const used = Object.values(this.store.volumes).reduce((sum, { size }) => sum + size, 0);
    return { total_gb, free_gb: Math.max(0, total_gb - used) };
  }

  async createVolume({ name, size }: VolumeSpec, signal: AbortSignal): Promise<string> {
    await this.#begin('create', name, signal);
    this.store.volumes[name] ??= { size, from: null };
    await this.#save();
    return `fake:${name}`;
  }

  async createVolumeFromSnapshot(volume: VolumeSpec, snapshot: SnapshotSpec, signal: AbortSignal): Promise<string> {
    await this.#begin('create', volume.name, signal);
    if (this.store.snapshots[snapshot.name] === undefined)
      throw new BackendUnavailable(`${snapshot.name} is not at this store`);
    this.store.volumes[volume.name] ??= { size: volume.size, from: snapshot.name };
    await this.#save();
    return `fake:${volume.name}`;
  }

  async deleteVolume({ name }: VolumeSpec, signal: AbortSignal): Promise<boolean> {
    await this.#begin('delete', name, signal);
    if (this.store.exports[name] !== undefined) throw new BackendUnavailable(`${name} is exported`);
    delete this.store.volumes[name];
    await this.#save();
    return true;
  }

  async createSnapshot(
    snapshot: SnapshotSpec,
    still: (() => Promise<() => Promise<void>>) | null,
    signal: AbortSignal,
  ): Promise<string> {
    const there = `fake:${snapshot.name}`;
    if (this.store.snapshots[snapshot.name] !== undefined) return there;
    if (this.store.volumes[snapshot.volume.name] === undefined)
      throw new BackendUnavailable(`${snapshot.volume.name} is not at this store`);
    const goOn = await still?.();
    try {
      await this.#begin('snapshot', snapshot.name, signal);
    } finally {
      await goOn?.();
    }
    this.store.snapshots[snapshot.name] = { volume: snapshot.volume.name };
    await this.#save();
    return there;
  }

  async deleteSnapshot({ name }: SnapshotSpec, signal: AbortSignal): Promise<boolean> {
    await this.#begin('delete_snapshot', name, signal);
    delete this.store.snapshots[name];
    await this.#save();
    return true;
  }

  async ensureExport(wanted: VolumeExport, signal: AbortSignal): Promise<VolumeConnection | null> {
    const { volume, target_num, access } = wanted;
    if (access === null) {
      await this.removeExport(volume, target_num, signal);
      return null;
    }
    await this.#begin('export', volume.name, signal);
    if (this.store.volumes[volume.name] === undefined)
      throw new BackendUnavailable(`${volume.name} is not at this store`);
    this.store.exports[volume.name] = { target_num, ...access };
    await this.#save();
    return { driver_volume_type: 'fake' };
  }

  async removeExport({ name }: VolumeSpec, _target_num: number | null, signal: AbortSignal): Promise<void> {
    await this.#begin('remove_export', name, signal);
    delete this.store.exports[name];
    await this.#save();
  }

  async inventory(): Promise<Inventory> {
    const { volumes, snapshots, exports } = this.store;
    return {
      volumes: Object.keys(volumes),
      snapshots: Object.keys(snapshots),
      exports: Object.keys(exports),
      half_made: { volumes: [], snapshots: [] },
    };
  }

  async look(): Promise<Look> {
    return { ...(await this.inventory()), missing: null };
  }

  #save = async (): Promise<void> => this.#file?.save();

  async #begin(operation: string, name: string, signal: AbortSignal): Promise<void> {
    const { fake_volume_delay_ms, fake_volume_failing, fake_volume_failure_rate } = this.#flags;
    const given_up = () => new Aborted(`${operation} of ${name} was given up`, { cause: signal.reason });
    if (signal.aborted) throw given_up();
    if (fake_volume_delay_ms > 0)
      await sleep(fake_volume_delay_ms, signal).catch(() => {
        throw given_up();
      });
    if (fake_volume_failure_rate === 0 || !fake_volume_failing.includes(operation)) return;
    if (Math.random() >= fake_volume_failure_rate) return;
    throw new BackendUnavailable(
      `${operation} of ${name} failed, as --fake_volume_failure_rate=${fake_volume_failure_rate} asks`,
    );
  }
}
