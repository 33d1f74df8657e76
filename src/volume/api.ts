import type { RequestContext } from '../common/context.ts';
import { checkSameRequest, requestHash } from '../common/client_token.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { nowText, textIn } from '../common/clock.ts';
import { writing, lockProject, type NovaDb, type Tx } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { ec2InstanceId } from '../common/db/instances.ts';
import { castJob } from '../common/db/jobs.ts';
import { projectQuota, quotaFlags } from '../common/db/quotas.ts';
import { checkZone } from '../common/db/services.ts';
import { ec2SnapshotId, lockVisibleSnapshot, snapshotCount } from '../common/db/snapshots.ts';
import { forgetVolumeMetadata, replaceVolumeMetadata, volumeMetadata } from '../common/db/volume_metadata.ts';
import { volumeType } from '../common/db/volume_types.ts';
import { viewVolumes, type VolumeFilter, type VolumeView } from '../common/db/volume_views.ts';
import {
  ec2VolumeId,
  finishVolumeDelete,
  insertVolume,
  lockVisibleVolume,
  moveVolume,
  renameVolume,
  volumeById,
  volumeByToken,
  volumeUsage,
  type Volume,
} from '../common/db/volumes.ts';
import { Conflict, InvalidInput, SnapshotBusy, VolumeBusy, VolumeInUse, VolumeNotFound } from '../common/errors.ts';
import { defineFlags, string, type Flags, type FlagValues } from '../common/flags.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { VOLUME_TASKS } from '../common/volume_state.ts';
import { schedulerClient } from '../scheduler/rpc.ts';
import { AttachmentApi, type AttachSpec, type BlockDevice, type DetachSpec } from './attachment_api.ts';
import { checkedSize, checkMetadata, checkNames, checkQuota } from './logic/spec.ts';
import { volumeClient, volumeResource } from './rpc.ts';
import { SnapshotApi } from './snapshot_api.ts';
import { VolumeTypeApi } from './type_api.ts';

export const volumeApiFlags = defineFlags({
  storage_availability_zone: string('nova', 'Availability zone of a volume whose request names none'),
});

/** One volume, already checked for form by the API that took it. */
export interface CreateVolumeSpec {
  /** GiB; left out: as large as the snapshot. */
  size?: number | null;
  snapshot_id?: number | null;
  availability_zone?: string | null;
  /** A type's id or name. */
  volume_type?: number | string | null;
  display_name?: string | null;
  display_description?: string | null;
  metadata?: Record<string, string>;
  /** The same token with the same spec is the same volume. */
  client_token?: string | null;
}

/** What both HTTP APIs call. Quota, rows, events and casts in one transaction. Source: Nova 2011.3 nova/volume/api.py. */
export class VolumeApi {
  readonly snapshots: SnapshotApi;
  readonly types: VolumeTypeApi;
  readonly #attachments: AttachmentApi;
  readonly #db: NovaDb;
  readonly #flags: FlagValues<typeof volumeApiFlags>;
  readonly #quotas: FlagValues<typeof quotaFlags>;
  readonly #volume: ReturnType<typeof volumeClient>;
  readonly #scheduler: ReturnType<typeof schedulerClient>;

  constructor({ db, flags, bus }: { db: NovaDb; flags: Flags; bus: RpcBus }) {
    this.#db = db;
    this.#flags = flags.read(volumeApiFlags);
    this.#quotas = flags.read(quotaFlags);
    this.#volume = volumeClient(bus);
    this.#scheduler = schedulerClient(bus);
    this.snapshots = new SnapshotApi({ db, bus });
    this.types = new VolumeTypeApi(db);
    this.#attachments = new AttachmentApi({ db, bus, liveness: flags.read(serviceFlags) });
  }

  // ------------------------------------------------------------------ create

  /**
   * @throws InvalidInput, MissingParameter, SnapshotNotFound, SnapshotBusy, VolumeTypeNotFound, VolumeLimitExceeded,
   * IdempotentParameterMismatch
   */
  async create(ctx: RequestContext, spec: CreateVolumeSpec): Promise<VolumeView> {
    const { project_id } = requireOwner(ctx);
    const id = await writing(this.#db, async (tx) => {
      await lockProject(tx, this.#db.dialect, project_id);
      const before = spec.client_token ? await volumeByToken(tx, project_id, spec.client_token) : undefined;
      if (before) checkSameRequest(spec, before);
      return before?.id ?? this.#createIn(tx, ctx, spec);
    });
    return this.get(ctx, id);
  }

  /** The caller holds the project. @returns the volume's id */
  async #createIn(tx: Tx, ctx: RequestContext, spec: CreateVolumeSpec): Promise<number> {
    const { user_id, project_id } = requireOwner(ctx);
    const names = { display_name: spec.display_name ?? '', display_description: spec.display_description ?? '' };
    checkNames(names);
    const snapshot = await this.#snapshotOf(tx, ctx, spec.snapshot_id ?? null);
    const size = checkedSize(spec.size ?? null, snapshot);
    const quota = await projectQuota(tx, this.#quotas, project_id);
    checkMetadata(spec.metadata ?? {}, quota.metadata_items);
    const availability_zone = await this.#zone(tx, ctx, spec.availability_zone ?? null, snapshot);
    const type = spec.volume_type ?? null;
    const volume_type_id = type === null ? null : (await volumeType(tx, type)).id;
    checkQuota(project_id, quota, await volumeUsage(tx, project_id), size);
    const snapshot_id = snapshot?.id ?? null;
    const columns = { ...names, user_id, project_id, snapshot_id, size, availability_zone, volume_type_id };
    const task_deadline = textIn(VOLUME_TASKS.creating.deadline_s);
    const token = { client_token: spec.client_token ?? null, request_hash: requestHash(spec) };
    const id = await insertVolume(tx, { ...columns, ...token, task_deadline }, spec.metadata ?? {});
    await recordEvent(tx, ctx, volumeResource(id), 'asked for', null, {
      size_gb: size,
      ...(snapshot_id === null ? {} : { snapshot: ec2SnapshotId(snapshot_id) }),
      zone: availability_zone,
      from: ctx.remote_address,
    });
    await castJob(tx, ctx, this.#scheduler.createVolume, { volume_id: id });
    return id;
  }

  async #snapshotOf(tx: Tx, ctx: RequestContext, id: number | null) {
    if (id === null) return null;
    const row = await lockVisibleSnapshot(tx, this.#db.dialect, ctx, id);
    const name = ec2SnapshotId(id);
    if (row.status !== 'available')
      throw new SnapshotBusy(`${name} is ${row.status}; a volume is made of an available one`);
    const { availability_zone } = await volumeById(tx, row.volume_id, { deleted: true });
    return { id, name, volume_size: row.volume_size, availability_zone };
  }

  /** Where its storage host is to be; a snapshot's bytes are on one host. Only an admin names a host (`zone:host`). */
  async #zone(
    tx: Tx,
    ctx: RequestContext,
    asked: string | null,
    snapshot: { name: string; availability_zone: string } | null,
  ): Promise<string> {
    const { storage_availability_zone } = this.#flags;
    const text = asked || (snapshot?.availability_zone ?? storage_availability_zone);
    const zone = text.split(':', 1)[0] ?? '';
    if (snapshot !== null && zone !== snapshot.availability_zone)
      throw new InvalidInput(
        `${snapshot.name} is in zone ${snapshot.availability_zone}: a volume made of it cannot be in ${zone}`,
      );
    await checkZone(tx, 'volume', zone, asked ? '' : ' (--storage_availability_zone)');
    return ctx.is_admin ? text : zone;
  }

  // -------------------------------------------------------------------- read

  /** The caller's volumes (an admin's: all), oldest first. */
  list(ctx: RequestContext, filter: VolumeFilter = {}): Promise<VolumeView[]> {
    return viewVolumes(this.#db, ctx, filter);
  }

  /** @throws VolumeNotFound */
  async get(ctx: RequestContext, id: number): Promise<VolumeView> {
    const [view] = await viewVolumes(this.#db, ctx, { ids: [id] });
    return view ?? Promise.reject(new VolumeNotFound(`there is no volume ${ec2VolumeId(id)}`));
  }

  // ------------------------------------------------------------------ update

  /** Another name or description, or other metadata; what is left out stays. @throws VolumeNotFound, InvalidInput */
  async update(
    ctx: RequestContext,
    id: number,
    to: { display_name?: string; display_description?: string; metadata?: Record<string, string> },
  ): Promise<VolumeView> {
    const { metadata, ...names } = to;
    checkNames(names);
    await writing(this.#db, async (tx) => {
      const { project_id } = await lockVisibleVolume(tx, this.#db.dialect, ctx, id);
      await renameVolume(tx, id, names);
      if (metadata) await this.#replaceMetadata(tx, project_id, id, metadata);
    });
    return this.get(ctx, id);
  }

  async #replaceMetadata(tx: Tx, project_id: string, id: number, pairs: Record<string, string>): Promise<void> {
    checkMetadata(pairs, (await projectQuota(tx, this.#quotas, project_id)).metadata_items);
    await replaceVolumeMetadata(tx, id, pairs);
  }

  // ------------------------------------------------------------------ delete

  /** From every status without an instance; asking again is no error. @throws VolumeNotFound, VolumeInUse, VolumeBusy */
  async delete(ctx: RequestContext, id: number): Promise<void> {
    await writing(this.#db, async (tx) => {
      const row = await lockVisibleVolume(tx, this.#db.dialect, ctx, id);
      if (row.status === 'deleting') return;
      await this.#checkDeletable(tx, ctx, row);
      const resource = volumeResource(id);
      if (row.host === null) {
        await finishVolumeDelete(tx, id);
        await recordEvent(tx, ctx, resource, 'deleted before it had a host', null);
        return;
      }
      await moveVolume(tx, id, {
        from: ['creating', 'available', 'error', 'error_deleting'],
        to: { status: 'deleting', terminated_at: nowText() },
        deadline_s: VOLUME_TASKS.deleting.deadline_s,
      });
      await recordEvent(tx, ctx, resource, 'deletion asked for', row.host, { from: ctx.remote_address });
      await castJob(tx, ctx, this.#volume.at(row.host).deleteVolume, { volume_id: id });
    });
  }

  async #checkDeletable(tx: Tx, ctx: RequestContext, row: Volume): Promise<void> {
    const name = ec2VolumeId(row.id);
    const { attachment } = (await viewVolumes(tx, ctx, { ids: [row.id] }))[0] ?? { attachment: null };
    if (attachment)
      throw new VolumeInUse(
        `${name} is ${row.status} at ${attachment.device} of ${ec2InstanceId(attachment.instance_id)}: detach it first`,
      );
    const snapshots = await snapshotCount(tx, row.id);
    if (snapshots > 0) throw new VolumeBusy(`${name} has ${snapshots} snapshots: delete them first`);
  }

  // -------------------------------------------------------- attach and detach

  /**
   * @returns it as it is then: `attaching`. @throws VolumeNotFound, InstanceNotFound, VolumeBusy, VolumeInUse, InstanceBusy,
   * DeviceInUse, InvalidInput
   */
  async attach(ctx: RequestContext, spec: AttachSpec): Promise<VolumeView> {
    await this.#attachments.attach(ctx, spec);
    return this.get(ctx, spec.volume_id);
  }

  /** @returns it as it is then. @throws VolumeNotFound, InstanceNotFound, VolumeNotAttached, VolumeBusy, InvalidInput */
  async detach(ctx: RequestContext, spec: DetachSpec): Promise<VolumeView> {
    await this.#attachments.detach(ctx, spec);
    return this.get(ctx, spec.volume_id);
  }

  /**
   * The volumes of an instance that is being launched, in the transaction that makes its row: made of snapshots where a
   * device names one. nova-compute has them before the guest starts. The caller holds the project.
   */
  async attachAtLaunch(
    tx: Tx,
    ctx: RequestContext,
    instance_id: number,
    devices: readonly BlockDevice[],
  ): Promise<void> {
    for (const device of devices) {
      const { snapshot_id = null, size = null, volume_type = null } = device;
      const volume_id = device.volume_id ?? (await this.#createIn(tx, ctx, { snapshot_id, size, volume_type }));
      const made_for_launch = typeof device.volume_id !== 'number';
      await this.#attachments.attachAtLaunch(tx, ctx, instance_id, { ...device, volume_id, made_for_launch });
    }
  }

  // ---------------------------------------------------------------- metadata

  /** Adds pairs, or with `replace` has these and no others. @returns all pairs then. @throws VolumeNotFound, InvalidInput */
  writeMetadata(
    ctx: RequestContext,
    id: number,
    pairs: Readonly<Record<string, string>>,
    options: { replace?: boolean } = {},
  ): Promise<Record<string, string>> {
    return writing(this.#db, async (tx) => {
      const { project_id } = await lockVisibleVolume(tx, this.#db.dialect, ctx, id);
      const after = options.replace ? { ...pairs } : { ...(await volumeMetadata(tx, id)), ...pairs };
      await this.#replaceMetadata(tx, project_id, id, after);
      return after;
    });
  }

  /** @returns whether there was one. @throws VolumeNotFound */
  deleteMetadata(ctx: RequestContext, id: number, key: string): Promise<boolean> {
    return writing(this.#db, async (tx) => {
      await lockVisibleVolume(tx, this.#db.dialect, ctx, id);
      return (await forgetVolumeMetadata(tx, id, [key])) > 0;
    });
  }
}

function requireOwner(ctx: RequestContext): { user_id: string; project_id: string } {
  if (ctx.user_id === null || ctx.project_id === null) throw new Conflict('a volume needs a user and a project');
  return { user_id: ctx.user_id, project_id: ctx.project_id };
}
