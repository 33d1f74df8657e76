import { sleep } from '../../common/clock.ts';
import { BackendUnavailable, Conflict, errorText, InvalidInput, ProcessExecutionError } from '../../common/errors.ts';
import type { ExecuteResult } from '../../common/execute.ts';
import { defineFlags, integer, string, type Flags } from '../../common/flags.ts';
import { Host, hostFlags, rootHelper } from '../../common/linux/host.ts';
import type { Log } from '../../common/log.ts';
import {
  volumeStoreFlags,
  type BytesOwner,
  type Inventory,
  type SnapshotSpec,
  type StoreStats,
  type VolumeSpec,
} from './driver.ts';
import { parted } from './half_made.ts';
import type { VolumeStore } from './iscsi.ts';
import { isOwn, notOwn } from './owner.ts';
import { gigabytes, GIB, MIB, sizeBytes } from './sizes.ts';

export const lvmFlags = defineFlags({
  volume_group: string('nova-volumes', 'LVM volume group that volumes are made in', {
    form: { pattern: '[A-Za-z0-9+_.][A-Za-z0-9+_.-]*', says: 'a name: letters, digits, and + _ . -' },
  }),
  num_shell_tries: integer(3, 'Attempts of an LVM command; after the n-th that fails it waits n x n seconds', {
    min: 1,
  }),
});

interface LogicalVolume {
  name: string;
  /** First letter of its attributes: `o` has snapshots, `s` is one; a capital while it is merged. */
  kind: string;
  bytes: number;
  /** The token of the row that it is of: a tag of it. */
  token: string | null;
}

/** As long as it takes; the signal ends it. */
const COPY_MS = 24 * 3600 * 1000;

/**
 * Volumes as logical volumes, each tagged with its row's token. One that gets a snapshot's bytes is `NAME.new` until it has
 * them all.
 * Source: Nova 2011.3 nova/volume/driver.py, VolumeDriver.
 */
export class LvmStore implements VolumeStore {
  readonly #group: string;
  readonly #tries: number;
  readonly #clear: string;
  readonly #host: Host;
  readonly #log: Log;

  constructor({ flags, log }: { flags: Flags; log: Log }) {
    const { volume_group, num_shell_tries } = flags.read(lvmFlags);
    this.#group = volume_group;
    this.#tries = num_shell_tries;
    this.#clear = flags.read(volumeStoreFlags).volume_clear;
    this.#host = new Host({ root_helper: rootHelper(flags.read(hostFlags)) });
    this.#log = log;
  }

  async initHost(signal: AbortSignal): Promise<void> {
    const remedy = 'or keep volumes in files by --volume_driver=nova.volume.driver.FileISCSIDriver';
    const listed = await this.#host.run(['vgs', '--noheadings', '-o', 'name'], { signal }).catch((err: unknown) => {
      if (!(err instanceof ProcessExecutionError)) throw err;
      throw new BackendUnavailable(
        `nova-volume cannot list LVM's volume groups (Debian package lvm2; as root, or with a --root_helper that works), ${remedy}: ${err.message}`,
        { cause: err },
      );
    });
    const groups = listed.stdout.split('\n').map((line) => line.trim());
    if (!groups.includes(this.#group))
      throw new BackendUnavailable(
        `there is no volume group ${this.#group} (--volume_group): make it by vgcreate ${this.#group} /dev/DISK, ${remedy}. ` +
          `This host has: ${groups.filter((name) => name !== '').join(', ') || 'none'}`,
      );
  }

  async stats(): Promise<StoreStats> {
    const { total, free } = await this.#room();
    return { total_gb: Math.floor(total / GIB), free_gb: Math.floor(free / GIB) };
  }

  path({ name }: Pick<VolumeSpec, 'name'>): string {
    return this.#device(name);
  }
  #device(name: string): string {
    return `/dev/${this.#group}/${name}`;
  }

  async createVolume(volume: VolumeSpec, signal: AbortSignal): Promise<void> {
    if (await this.#isMade(volume.name, volume, sizeBytes(volume.size), signal)) return;
    await this.#create(volume.name, volume, volume.size, signal);
  }

  async createVolumeFromSnapshot(volume: VolumeSpec, snapshot: SnapshotSpec, signal: AbortSignal): Promise<void> {
    const size = Math.max(volume.size, snapshot.size);
    if (await this.#isMade(volume.name, volume, sizeBytes(size), signal)) return;
    const from = await this.#find(lvOf(snapshot), signal);
    if (from === undefined) throw new InvalidInput(`${snapshot.name} is not in volume group ${this.#group}`);
    const aside = `${volume.name}.new`;
    // One that a killed attempt left is written anew, not removed: with what it holds, its room would go to another tenant.
    if (!(await this.#isMade(aside, volume, sizeBytes(size), signal))) await this.#create(aside, volume, size, signal);
    await this.#dd(this.#device(from.name), this.#device(aside), sizeBytes(snapshot.size), signal);
    await this.#retried(['lvrename', this.#group, aside, volume.name], signal);
  }

  async deleteVolume(volume: VolumeSpec, signal: AbortSignal): Promise<boolean> {
    await this.#delete(`${volume.name}.new`, volume, signal);
    return this.#delete(volume.name, volume, signal);
  }

  /** At once, whoever writes; so nobody needs to stand still. */
  async createSnapshot(snapshot: SnapshotSpec, _still: unknown, signal: AbortSignal): Promise<string> {
    const name = lvOf(snapshot);
    if (!(await this.#isMade(name, snapshot, 0, signal))) {
      const { name: of, size } = snapshot.volume;
      if ((await this.#find(of, signal)) === undefined)
        throw new InvalidInput(`${of} is not in volume group ${this.#group}`);
      // What it keeps of a volume that is wholly written anew, and where that belongs; LVM takes no more than it can use.
      const mib = Math.ceil((sizeBytes(size) * 1.02) / MIB);
      await this.#checkRoom(name, mib * MIB);
      const words = ['--addtag', snapshot.token, '--name', name, '--snapshot', `${this.#group}/${of}`];
      await this.#retried(['lvcreate', '-L', `${mib}M`, ...words], signal);
    }
    return `${this.#group}/${name}`;
  }

  deleteSnapshot(snapshot: SnapshotSpec, signal: AbortSignal): Promise<boolean> {
    return this.#delete(lvOf(snapshot), snapshot, signal);
  }

  async inventory(): Promise<Omit<Inventory, 'exports'>> {
    const all = await this.#list();
    const isSnapshot = ({ kind }: LogicalVolume) => kind.toLowerCase() === 's';
    const volumes = parted(all.filter((lv) => !isSnapshot(lv)).map(({ name }) => name));
    return {
      volumes: volumes.whole,
      half_made: { volumes: volumes.half_made, snapshots: [] },
      snapshots: all
        .filter(isSnapshot)
        .map(({ name }) => name.replace(/^_snapshot/, 'snapshot'))
        .sort(),
    };
  }

  /** Whether it is there. @throws Conflict when what is there is not its own, or smaller than these bytes */
  async #isMade(name: string, spec: VolumeSpec | SnapshotSpec, bytes: number, signal: AbortSignal): Promise<boolean> {
    const lv = await this.#find(name, signal);
    if (lv === undefined) return false;
    if (isOwn(lv.token, spec) && lv.bytes >= bytes) return true; // LVM rounds up
    throw notOwn(name, `volume group ${this.#group}`, spec);
  }

  async #create(name: string, { token }: BytesOwner, size: number, signal: AbortSignal): Promise<void> {
    await this.#checkRoom(name, sizeBytes(size));
    // --yes: else LVM asks about a file system that it finds in what a volume had before, and takes silence for no.
    const words = ['--addtag', token, '-n', name, this.#group, '--yes'];
    await this.#retried(['lvcreate', '-L', sizeWord(size), ...words], signal);
  }

  async #delete(name: string, owner: BytesOwner, signal: AbortSignal): Promise<boolean> {
    const lv = await this.#find(name, signal);
    if (lv === undefined) return true;
    if (!isOwn(lv.token, owner)) return false;
    if (lv.kind.toLowerCase() === 'o')
      throw new Conflict(`${name} has snapshots, which are nothing without it: delete them first`);
    if (this.#clear === 'zero') {
      // Its room as a volume of its own: zeros written to a snapshot would take more room, and room that is zeros already
      // would get what somebody overwrites in its volume meanwhile.
      const words = ['--splitsnapshot', '--yes', `${this.#group}/${name}`];
      if (lv.kind.toLowerCase() === 's') await this.#retried(['lvconvert', ...words], signal);
      await this.#dd('/dev/zero', this.#device(name), lv.bytes, signal);
    }
    await this.#remove(name, signal);
    return true;
  }

  async #remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#retried(['lvremove', '-f', `${this.#group}/${name}`], signal);
  }

  async #dd(from: string, to: string, bytes: number, signal: AbortSignal): Promise<void> {
    const argv = ['dd', `if=${from}`, `of=${to}`, `count=${Math.ceil(bytes / MIB)}`, 'bs=1M', 'conv=notrunc,fsync'];
    await this.#host.run(argv, { signal, timeout_ms: COPY_MS }).catch(asUnavailable);
  }

  async #checkRoom(name: string, bytes: number): Promise<void> {
    const { total, free } = await this.#room();
    if (bytes > free)
      throw new BackendUnavailable(
        `no room for ${name} of ${gigabytes(bytes)}: volume group ${this.#group} (--volume_group) has ` +
          `${gigabytes(free)} free of ${gigabytes(total)}: delete volumes or snapshots, or add a disk by vgextend`,
        { details: { free, total } },
      );
  }

  async #room(): Promise<{ total: number; free: number }> {
    const words = ['--noheadings', '--nosuffix', '--units', 'b', '-o', 'vg_size,vg_free', this.#group];
    const { stdout } = await this.#host.run(['vgs', ...words]).catch(asUnavailable);
    const [total, free] = stdout.trim().split(/\s+/).map(Number);
    if (total === undefined || free === undefined || Number.isNaN(total + free))
      throw new BackendUnavailable(`vgs tells no size of ${this.#group}: ${stdout}`);
    return { total, free };
  }

  async #find(name: string, signal: AbortSignal): Promise<LogicalVolume | undefined> {
    return (await this.#list(signal)).find((lv) => lv.name === name);
  }

  /** All of the group; unlike lvdisplay of one, whose failure may mean that it is not there, or that LVM is ill. */
  async #list(signal?: AbortSignal): Promise<LogicalVolume[]> {
    const words = [
      '--noheadings',
      '--nosuffix',
      '--units',
      'b',
      '--separator',
      ':',
      '-o',
      'lv_name,lv_attr,lv_size,lv_tags',
    ];
    const { stdout } = await this.#retried(['lvs', ...words, this.#group], signal);
    const lines = stdout.split('\n').filter((line) => line.trim() !== '');
    return lines.map((line) => {
      const [name = '', attr = '', bytes = '', tags = ''] = line.trim().split(':');
      const token = tags.split(',').find((tag) => tag.startsWith('nova-')) ?? null;
      return { name, kind: attr.charAt(0), bytes: Number(bytes), token };
    });
  }

  async #retried(argv: string[], signal?: AbortSignal): Promise<ExecuteResult> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#host.run(argv, { timeout_ms: 120_000, ...(signal ? { signal } : {}) });
      } catch (err) {
        if (!(err instanceof ProcessExecutionError)) throw err;
        if (attempt >= this.#tries) return asUnavailable(err);
        this.#log.warn({ err, attempt }, 'an LVM command failed and is tried again');
        await sleep(attempt * attempt * 1000, signal);
      }
    }
  }
}

/** LVM keeps names that start with `snapshot` for itself. */
const lvOf = ({ name }: SnapshotSpec): string => (name.startsWith('snapshot') ? `_${name}` : name);

const sizeWord = (size: number): string => (size === 0 ? '100M' : `${size}G`);

function asUnavailable(err: unknown): never {
  if (!(err instanceof ProcessExecutionError)) throw err;
  throw new BackendUnavailable(errorText(err), { cause: err });
}
