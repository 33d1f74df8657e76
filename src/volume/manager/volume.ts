import { nowText } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb, type Tx } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import {
  ec2SnapshotId,
  finishSnapshotDelete,
  moveSnapshot,
  snapshotById,
  type Snapshot,
  type SnapshotMove,
} from '../../common/db/snapshots.ts';
import { attachmentOfVolume } from '../../common/db/volume_attachments.ts';
import { reportRoom } from '../../common/db/volume_nodes.ts';
import {
  finishVolumeDelete,
  lockVolume,
  moveVolume,
  volumeById,
  type Volume,
  type VolumeMove,
} from '../../common/db/volumes.ts';
import { Aborted, SnapshotBusy, VolumeBusy } from '../../common/errors.ts';
import { defineFlags, integer, type Flags, type FlagValues } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { Manager } from '../../common/manager.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import type { VolumeConnection } from '../../common/volume_connection.ts';
import { VOLUME_TASKS } from '../../common/volume_state.ts';
import { computeClient } from '../../compute/rpc.ts';
import { volumeStoreFlags, type VolumeDriver } from '../drivers/driver.ts';
import { snapshotResource, volumeResource, type VolumeRpc } from '../rpc.ts';
import { Exports } from './exports.ts';
import { takeAwayLeftOvers } from './left_overs.ts';
import { StoreNames } from './names.ts';
import { howToStandStill } from './still.ts';

export const volumeManagerFlags = defineFlags({
  iscsi_num_targets: integer(100, 'Volumes that this host exports at once', { min: 1 }),
  snapshot_freeze_limit: integer(60, 'Seconds a guest stands still at most while its volume is copied', { min: 1 }),
});

const NOT_ITS_BYTES = 'bytes of that name are not of what was deleted, and stay';

export interface VolumeManagerDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  bus: RpcBus;
  host: string;
  driver: VolumeDriver;
  /** The driver's dotted name. */
  volume_driver: string;
}

/**
 * Keeps the volumes of one host. Every method goes on from wherever an earlier attempt ended.
 * Source: Nova 2011.3 nova/volume/manager.py.
 */
export class VolumeManager implements VolumeRpc, Manager {
  readonly #d: VolumeManagerDeps;
  readonly #flags: FlagValues<typeof volumeManagerFlags>;
  readonly #overcommit_ratio: number;
  readonly #names: StoreNames;
  readonly #exports: Exports;
  readonly #compute: ReturnType<typeof computeClient>;

  constructor(deps: VolumeManagerDeps) {
    this.#d = deps;
    this.#flags = deps.flags.read(volumeManagerFlags);
    this.#overcommit_ratio = deps.flags.read(volumeStoreFlags).volume_overcommit_ratio;
    this.#names = new StoreNames(deps.flags);
    this.#exports = new Exports({ ...deps, names: this.#names, iscsi_num_targets: this.#flags.iscsi_num_targets });
    this.#compute = computeClient(deps.bus);
  }

  async initHost(signal: AbortSignal): Promise<void> {
    await this.#d.driver.initHost(signal);
    await this.#report();
    await this.#exports.repair({ all: true }, signal);
  }

  async periodicTasks(ctx: RequestContext): Promise<void> {
    await this.#report();
    await this.#exports.repair({ all: false }, ctx.signal);
    await takeAwayLeftOvers({ ...this.#d, names: this.#names }, ctx.signal);
  }

  async #report(): Promise<void> {
    const { db, host, driver, volume_driver } = this.#d;
    const stats = await driver.stats();
    await reportRoom(db, host, { ...stats, overcommit_ratio: this.#overcommit_ratio, driver: volume_driver });
  }

  // ----------------------------------------------------------------- volumes

  async createVolume(ctx: RequestContext, { volume_id }: { volume_id: number }): Promise<void> {
    const { db, host, driver } = this.#d;
    const volume = await this.#mine(volume_id, ['creating']);
    if (!volume) return;
    const started = Date.now();
    const spec = this.#names.volume(volume);
    const { snapshot_id } = volume;
    const provider_location =
      snapshot_id === null
        ? await driver.createVolume(spec, ctx.signal)
        : await driver.createVolumeFromSnapshot(spec, await this.#snapshotSpec(snapshot_id), ctx.signal);
    await writing(db, async (tx) => {
      await lockVolume(tx, db.dialect, volume_id); // else a launch that takes it just now goes unseen
      const taken = (await attachmentOfVolume(tx, volume_id)) !== undefined; // by an instance that boots with it
      await this.#step(tx, volume_id, {
        from: ['creating'],
        to: { status: taken ? 'attaching' : 'available', provider_location, launched_at: nowText(), fault: null },
        ...(taken ? { deadline_s: VOLUME_TASKS.attaching.deadline_s } : {}),
        host,
      });
      await recordEvent(tx, ctx, volumeResource(volume_id), 'available', host, { ms: Date.now() - started });
    });
  }

  #snapshotSpec = async (id: number) => this.#names.snapshot(await snapshotById(this.#d.db, id));

  async deleteVolume(ctx: RequestContext, { volume_id }: { volume_id: number }): Promise<void> {
    const { db, host, driver } = this.#d;
    const volume = await this.#mine(volume_id, ['deleting']);
    if (!volume) return;
    await this.#exports.refresh(volume_id, ctx.signal);
    const spec = this.#names.volume(volume);
    if (!(await driver.deleteVolume(spec, ctx.signal))) this.#d.log.warn({ volume_id, name: spec.name }, NOT_ITS_BYTES);
    await writing(db, async (tx) => {
      if (await finishVolumeDelete(tx, volume_id))
        await recordEvent(tx, ctx, volumeResource(volume_id), 'deleted', host);
    });
  }

  // --------------------------------------------------------------- snapshots

  async createSnapshot(
    ctx: RequestContext,
    { volume_id, snapshot_id }: { volume_id: number; snapshot_id: number },
  ): Promise<void> {
    const { db, host, driver } = this.#d;
    const snapshot = await this.#mySnapshot(snapshot_id, 'creating');
    if (!snapshot) return;
    const over = new AbortController();
    const still = await howToStandStill(
      { db, compute: this.#compute, limit_s: this.#flags.snapshot_freeze_limit, over },
      ctx,
      volume_id,
      ec2SnapshotId(snapshot_id),
    );
    if (still === null) await this.#exports.refresh(volume_id, ctx.signal); // whoever had it may write yet
    const started = Date.now();
    const signal = AbortSignal.any([ctx.signal, over.signal]);
    const provider_location = await driver.createSnapshot(this.#names.snapshot(snapshot), still, signal);
    await writing(db, async (tx) => {
      const to = { status: 'available', progress: '100%', provider_location, fault: null } as const;
      await this.#snapshotStep(tx, snapshot_id, { from: ['creating'], to, host });
      await recordEvent(tx, ctx, snapshotResource(snapshot_id), 'available', host, { ms: Date.now() - started });
    });
  }

  async deleteSnapshot(ctx: RequestContext, { snapshot_id }: { snapshot_id: number }): Promise<void> {
    const { db, host, driver } = this.#d;
    const snapshot = await this.#mySnapshot(snapshot_id, 'deleting');
    if (!snapshot) return;
    const spec = this.#names.snapshot(snapshot);
    if (!(await driver.deleteSnapshot(spec, ctx.signal)))
      this.#d.log.warn({ snapshot_id, name: spec.name }, NOT_ITS_BYTES);
    await writing(db, async (tx) => {
      if (await finishSnapshotDelete(tx, snapshot_id))
        await recordEvent(tx, ctx, snapshotResource(snapshot_id), 'deleted', host);
    });
  }

  // ------------------------------------------------------------- connections

  initializeConnection(
    ctx: RequestContext,
    { volume_id, attachment_id }: { volume_id: number; attachment_id: number },
  ): Promise<VolumeConnection> {
    return this.#exports.connect(ctx, volume_id, attachment_id);
  }
  refreshConnections(ctx: RequestContext, { volume_id }: { volume_id: number }): Promise<void> {
    return this.#exports.refresh(volume_id, ctx.signal);
  }
  checkForExport(_ctx: RequestContext, { volume_id }: { volume_id: number }): Promise<void> {
    return this.#exports.check(volume_id);
  }

  // ----------------------------------------------------------------- helpers

  /** The volume if it is this host's and still in one of these; undefined when the work is done or overtaken. */
  async #mine(id: number, statuses: readonly string[]): Promise<Volume | undefined> {
    const row = await volumeById(this.#d.db, id, { deleted: true });
    if (row.deleted === 0 && row.host === this.#d.host && statuses.includes(row.status)) return row;
    this.#d.log.info({ volume_id: id, host: row.host, status: row.status }, 'nothing left to do');
    return undefined;
  }

  async #mySnapshot(id: number, status: string): Promise<Snapshot | undefined> {
    const row = await snapshotById(this.#d.db, id, { deleted: true });
    if (row.deleted === 0 && row.host === this.#d.host && row.status === status) return row;
    this.#d.log.info({ snapshot_id: id, host: row.host, status: row.status }, 'nothing left to do');
    return undefined;
  }

  /** A move that a deletion overtook is not an error of this job: the deletion cleans up. */
  async #step(tx: Tx, id: number, move: VolumeMove): Promise<void> {
    try {
      await moveVolume(tx, id, move);
    } catch (err) {
      if (err instanceof VolumeBusy) throw new Aborted(err.message, { cause: err });
      throw err;
    }
  }
  async #snapshotStep(tx: Tx, id: number, move: SnapshotMove): Promise<void> {
    try {
      await moveSnapshot(tx, id, move);
    } catch (err) {
      if (err instanceof SnapshotBusy) throw new Aborted(err.message, { cause: err });
      throw err;
    }
  }

  // ---------------------------------------------------------------- failures

  async jobFailed(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void> {
    const { db, host, log } = this.#d;
    const fault = err.message;
    const volume_id = Number(args['volume_id']);
    const snapshot_id = Number(args['snapshot_id']);
    const failed = async (tx: Tx): Promise<string | undefined> => {
      switch (method) {
        case 'create_volume':
          await moveVolume(tx, volume_id, { from: ['creating'], to: { status: 'error', fault }, host });
          return volumeResource(volume_id);
        case 'delete_volume':
          await moveVolume(tx, volume_id, { from: ['deleting'], to: { status: 'error_deleting', fault }, host });
          return volumeResource(volume_id);
        case 'create_snapshot':
          await moveSnapshot(tx, snapshot_id, { from: ['creating'], to: { status: 'error', fault }, host });
          return snapshotResource(snapshot_id);
        case 'delete_snapshot':
          await moveSnapshot(tx, snapshot_id, { from: ['deleting'], to: { status: 'error_deleting', fault }, host });
          return snapshotResource(snapshot_id);
        case 'refresh_connections': // its periodic repair goes on trying
          return volumeResource(volume_id);
        default:
          return undefined;
      }
    };
    try {
      await writing(db, async (tx) => {
        const resource = await failed(tx);
        if (resource !== undefined) await recordEvent(tx, ctx, resource, `${method} failed`, host, { error: fault });
      });
    } catch (busy) {
      if (!(busy instanceof VolumeBusy || busy instanceof SnapshotBusy)) throw busy;
      log.info({ err: busy, method, volume_id, snapshot_id }, 'the failed job was overtaken');
    }
  }
}
