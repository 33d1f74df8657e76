import type { RequestContext } from '../common/context.ts';
import { writing, type NovaDb } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { castJob } from '../common/db/jobs.ts';
import {
  ec2SnapshotId,
  insertSnapshot,
  listSnapshots,
  lockVisibleSnapshot,
  moveSnapshot,
  volumesBeingMadeOf,
  type Snapshot,
} from '../common/db/snapshots.ts';
import { lockRoom } from '../common/db/volume_nodes.ts';
import { ec2VolumeId, lockVisibleVolume } from '../common/db/volumes.ts';
import { InsufficientVolumeCapacity, SnapshotBusy, SnapshotNotFound, VolumeBusy } from '../common/errors.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { SNAPSHOT_TASKS } from '../common/volume_state.ts';
import { checkNames } from './logic/spec.ts';
import { snapshotResource, volumeClient, volumeResource } from './rpc.ts';

export interface CreateSnapshotSpec {
  volume_id: number;
  /** Also while the volume is in use. EC2 always does. */
  force?: boolean;
  display_name?: string | null;
  display_description?: string | null;
}

/** Source: Nova 2011.3 nova/volume/api.py. */
export class SnapshotApi {
  readonly #db: NovaDb;
  readonly #volume: ReturnType<typeof volumeClient>;

  constructor({ db, bus }: { db: NovaDb; bus: RpcBus }) {
    this.#db = db;
    this.#volume = volumeClient(bus);
  }

  /** @throws VolumeNotFound, VolumeBusy, InsufficientVolumeCapacity, InvalidInput */
  async create(ctx: RequestContext, spec: CreateSnapshotSpec): Promise<Snapshot> {
    const names = { display_name: spec.display_name ?? '', display_description: spec.display_description ?? '' };
    checkNames(names);
    const id = await writing(this.#db, async (tx) => {
      const volume = await lockVisibleVolume(tx, this.#db.dialect, ctx, spec.volume_id);
      const { host, size, status, project_id, user_id } = volume;
      const name = ec2VolumeId(volume.id);
      if (host === null || !(status === 'available' || (spec.force && status === 'in-use')))
        throw new VolumeBusy(
          `${name} is ${status}; a snapshot is taken of an available volume${status === 'in-use' ? ', or with force of one in use' : ' or one in use'}`,
        );
      const room = await lockRoom(tx, host);
      if (room && room.promised_gb + size > room.limit_gb)
        throw new InsufficientVolumeCapacity(
          `${size} GiB for a snapshot of ${name}: its storage host has ${Math.max(0, room.limit_gb - room.promised_gb)} free of ${room.limit_gb}. Delete volumes or snapshots`,
        );
      const columns = { ...names, project_id, user_id, host, volume_id: volume.id, volume_size: size };
      const snapshot_id = await insertSnapshot(tx, columns);
      await recordEvent(tx, ctx, snapshotResource(snapshot_id), 'asked for', host, { volume: name, size_gb: size });
      await recordEvent(tx, ctx, volumeResource(volume.id), 'snapshot asked for', host, {
        snapshot: ec2SnapshotId(snapshot_id),
      });
      await castJob(tx, ctx, this.#volume.at(host).createSnapshot, { volume_id: volume.id, snapshot_id });
      return snapshot_id;
    });
    return this.get(ctx, id);
  }

  /** The caller's (an admin's: all), oldest first. */
  list(ctx: RequestContext, filter: { ids?: readonly number[]; volume_id?: number } = {}): Promise<Snapshot[]> {
    return listSnapshots(this.#db, ctx, filter);
  }

  /** @throws SnapshotNotFound */
  async get(ctx: RequestContext, id: number): Promise<Snapshot> {
    const [row] = await listSnapshots(this.#db, ctx, { ids: [id] });
    return row ?? Promise.reject(new SnapshotNotFound(`there is no snapshot ${ec2SnapshotId(id)}`));
  }

  /** From every status; asking again is no error. @throws SnapshotNotFound, SnapshotBusy while a volume is made of it */
  async delete(ctx: RequestContext, id: number): Promise<void> {
    await writing(this.#db, async (tx) => {
      const row = await lockVisibleSnapshot(tx, this.#db.dialect, ctx, id);
      if (row.status === 'deleting') return;
      const made = await volumesBeingMadeOf(tx, id);
      if (made > 0) throw new SnapshotBusy(`${made} volumes are being made of ${ec2SnapshotId(id)}; try again later`);
      await moveSnapshot(tx, id, {
        from: ['creating', 'available', 'error', 'error_deleting'],
        to: { status: 'deleting' },
        deadline_s: SNAPSHOT_TASKS.deleting.deadline_s,
      });
      await recordEvent(tx, ctx, snapshotResource(id), 'deletion asked for', row.host, { from: ctx.remote_address });
      await castJob(tx, ctx, this.#volume.at(row.host).deleteSnapshot, { snapshot_id: id });
    });
  }
}
