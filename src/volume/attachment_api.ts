import type { RequestContext } from '../common/context.ts';
import { writing, type NovaDb, type Tx } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import { ec2InstanceId, instanceById, lockInstance, visibleInstance, type Instance } from '../common/db/instances.ts';
import { castJob } from '../common/db/jobs.ts';
import { hostsUp, type Liveness } from '../common/db/services.ts';
import { snapshotCount } from '../common/db/snapshots.ts';
import {
  attachmentOfVolume,
  attachmentsOfInstance,
  beginAttachment,
  beginDetachment,
  endAttachment,
  type VolumeAttachment,
} from '../common/db/volume_attachments.ts';
import { ec2VolumeId, lockVisibleVolume, volumeById, type Volume } from '../common/db/volumes.ts';
import {
  InstanceBusy,
  InstanceNotFound,
  InvalidInput,
  VolumeBusy,
  VolumeInUse,
  VolumeNotAttached,
  VolumeNotFound,
} from '../common/errors.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { instanceResource } from '../common/rpc/contract.ts';
import { computeClient } from '../compute/rpc.ts';
import { chooseDevice, lettersOf } from './logic/device.ts';
import { tellStorage, volumeResource } from './rpc.ts';

export interface AttachSpec {
  volume_id: number;
  /** Number or uuid. */
  instance: number | string;
  /** `/dev/vdb`; left out: the next free one. */
  device?: string | null;
  delete_on_termination?: boolean;
}
export interface DetachSpec {
  volume_id: number;
  /** Number or uuid; where it is attached, when left out. */
  instance?: number | string | null;
  /** Only from this one. */
  device?: string | null;
  /** The attachment ends now, whatever guest and host say. */
  force?: boolean;
}
/** One volume of an instance to be: one that is there, or one made of a snapshot, or empty. */
export interface BlockDevice {
  /** `/dev/vda` where it boots from it. */
  device: string | null;
  volume_id?: number | null;
  snapshot_id?: number | null;
  /** GiB. */
  size?: number | null;
  volume_type?: string | null;
  delete_on_termination: boolean;
  boot: boolean;
}

/** Attaching and detaching, for VolumeApi. Locks are taken in the order instance, volume. */
export class AttachmentApi {
  readonly #db: NovaDb;
  readonly #compute: ReturnType<typeof computeClient>;
  readonly #liveness: Liveness;

  constructor(deps: { db: NovaDb; bus: RpcBus; liveness: Liveness }) {
    this.#db = deps.db;
    this.#compute = computeClient(deps.bus);
    this.#liveness = deps.liveness;
  }

  // ------------------------------------------------------------------ attach

  attach(ctx: RequestContext, spec: AttachSpec): Promise<void> {
    if (spec.device) lettersOf(spec.device); // before anything is looked up: its form is wrong in any case
    return writing(this.#db, async (tx) => {
      const found = await visibleInstance(tx, ctx, spec.instance);
      const instance = await lockInstance(tx, this.#db.dialect, found.id);
      if (!instance) throw new InstanceNotFound(`${ec2InstanceId(found.id)} was deleted just now`);
      const volume = await lockVisibleVolume(tx, this.#db.dialect, ctx, spec.volume_id);
      await this.#checkFree(tx, ctx, volume, instance);
      const host = readyHost(instance);
      const device = await deviceOf(tx, instance, spec.device || null);
      await beginAttachment(tx, {
        volume_id: volume.id,
        instance_id: instance.id,
        device,
        delete_on_termination: spec.delete_on_termination ?? false,
      });
      await this.#tell(tx, ctx, volume.id, instance.id, 'attaching asked for', { device });
      const args = { instance_id: instance.id, volume_id: volume.id, mountpoint: device };
      await castJob(tx, ctx, this.#compute.at(host).attachVolume, args);
    });
  }

  async attachAtLaunch(
    tx: Tx,
    ctx: RequestContext,
    instance_id: number,
    spec: BlockDevice & { volume_id: number; made_for_launch: boolean },
  ): Promise<void> {
    const instance = await instanceById(tx, instance_id);
    const volume = await lockVisibleVolume(tx, this.#db.dialect, ctx, spec.volume_id);
    await this.#checkFree(tx, ctx, volume, instance, { creating: true });
    const device = spec.boot ? (spec.device ?? '/dev/vda') : await deviceOf(tx, instance, spec.device);
    const { delete_on_termination, boot, made_for_launch } = spec;
    const attachment = { volume_id: volume.id, instance_id, device, delete_on_termination, boot, made_for_launch };
    await beginAttachment(tx, attachment, { creating: true });
    await this.#tell(tx, ctx, volume.id, instance_id, 'to be attached at launch', { device, boot });
  }

  async #checkFree(
    tx: Tx,
    ctx: RequestContext,
    volume: Volume,
    instance: Instance,
    options: { creating?: boolean } = {},
  ): Promise<void> {
    const name = ec2VolumeId(volume.id);
    if (volume.project_id !== instance.project_id)
      throw ctx.is_admin
        ? new InvalidInput(
            `${name} is of project ${volume.project_id}, ${ec2InstanceId(instance.id)} of ${instance.project_id}`,
          )
        : new VolumeNotFound(`there is no volume ${name}`);
    const attachment = await attachmentOfVolume(tx, volume.id);
    if (attachment)
      throw new VolumeInUse(
        `${name} is ${attachment.status} at ${attachment.device} of ${ec2InstanceId(attachment.instance_id)}: detach it there first`,
      );
    if (volume.status !== 'available' && !(options.creating && volume.status === 'creating'))
      throw new VolumeBusy(`${name} is ${volume.status}; only an available volume can be attached`);
    // Its bytes are copied as they are at one moment, and nobody who writes meanwhile would be told to stand still.
    if ((await snapshotCount(tx, volume.id, 'creating')) > 0)
      throw new VolumeBusy(`a snapshot of ${name} is being taken; attach it when that is done`);
  }

  // ------------------------------------------------------------------ detach

  detach(ctx: RequestContext, spec: DetachSpec): Promise<void> {
    return writing(this.#db, async (tx) => {
      const volume = await lockVisibleVolume(tx, this.#db.dialect, ctx, spec.volume_id);
      const attachment = await attachmentOfVolume(tx, volume.id);
      const name = ec2VolumeId(volume.id);
      if (!attachment) throw new VolumeNotAttached(`${name} is ${volume.status}: it is attached to no instance`);
      const instance = await instanceById(tx, attachment.instance_id, { deleted: true });
      await this.#checkAskedFor(tx, ctx, spec, attachment, instance);
      if (attachment.boot === 1)
        throw new VolumeBusy(`${ec2InstanceId(instance.id)} boots from ${name}: terminate the instance instead`);
      if (spec.force || instance.host === null || !(await hostsUp(tx, 'compute', this.#liveness)).has(instance.host))
        return this.#detachNow(tx, ctx, attachment, instance, spec.force ? 'detached by force' : 'detached: host down');
      if (attachment.status === 'detaching') return; // as asked
      if (volume.status !== 'in-use')
        throw new VolumeBusy(`${name} is ${volume.status}; detach it when it is in-use, or with force`);
      await beginDetachment(tx, attachment);
      await this.#tell(tx, ctx, volume.id, instance.id, 'detaching asked for', { device: attachment.device });
      const args = { instance_id: instance.id, volume_id: volume.id };
      await castJob(tx, ctx, this.#compute.at(instance.host).detachVolume, args);
    });
  }

  async #checkAskedFor(
    tx: Tx,
    ctx: RequestContext,
    spec: DetachSpec,
    attachment: VolumeAttachment,
    instance: Instance,
  ): Promise<void> {
    const where = `${ec2VolumeId(spec.volume_id)} is attached at ${attachment.device} of ${ec2InstanceId(instance.id)}`;
    const asked = spec.instance ?? null;
    if (asked !== null && (await visibleInstance(tx, ctx, asked)).id !== instance.id)
      throw new InvalidInput(`${where}, not to ${typeof asked === 'number' ? ec2InstanceId(asked) : asked}`);
    if (spec.device && spec.device !== attachment.device) throw new InvalidInput(`${where}, not at ${spec.device}`);
  }

  /**
   * The attachment is over before its host hears of it: that host's secret is void, and the storage host closes its
   * sessions. nova-compute takes the dead disk from the guest when it can.
   */
  async #detachNow(
    tx: Tx,
    ctx: RequestContext,
    attachment: VolumeAttachment,
    instance: Instance,
    event: string,
  ): Promise<void> {
    const ended = await endAttachment(tx, attachment);
    if (!ended) return;
    await tellStorage(tx, ctx, [ended], event);
    const args = { instance_id: instance.id, volume_id: attachment.volume_id, force: true };
    if (instance.host !== null && instance.deleted === 0)
      await castJob(tx, ctx, this.#compute.at(instance.host).detachVolume, args);
    const story = { volume: ec2VolumeId(attachment.volume_id), device: attachment.device };
    await recordEvent(tx, ctx, instanceResource(instance.id), `volume ${event}`, instance.host, story);
  }

  /** The stories of both. */
  async #tell(
    tx: Tx,
    ctx: RequestContext,
    volume_id: number,
    instance_id: number,
    event: string,
    details: Record<string, unknown>,
  ): Promise<void> {
    const { host } = await volumeById(tx, volume_id);
    await recordEvent(tx, ctx, volumeResource(volume_id), event, host, { to: ec2InstanceId(instance_id), ...details });
    const story = { volume: ec2VolumeId(volume_id), ...details };
    await recordEvent(tx, ctx, instanceResource(instance_id), `volume: ${event}`, null, story);
  }
}

/** @throws InstanceBusy */
function readyHost(instance: Instance): string {
  const name = ec2InstanceId(instance.id);
  const { vm_state, task_state, host } = instance;
  if (task_state !== null) throw new InstanceBusy(`${name} is busy ${task_state}; attach when that is done`);
  if ((vm_state !== 'active' && vm_state !== 'stopped') || host === null)
    throw new InstanceBusy(`${name} is ${vm_state}; a volume is attached to an active or stopped instance`);
  return host;
}

const deviceOf = async (tx: Tx, instance: Instance, asked: string | null): Promise<string> =>
  chooseDevice(asked, {
    instance: ec2InstanceId(instance.id),
    attached: (await attachmentsOfInstance(tx, instance.id)).map(({ device }) => device),
    ephemeral: instance.local_gb > 0,
  });
