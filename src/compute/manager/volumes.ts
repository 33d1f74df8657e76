import { clock } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb, type Tx } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { instanceById, type Instance } from '../../common/db/instances.ts';
import {
  attachmentOfVolume,
  attachmentsOfInstance,
  endAttachment,
  endAttachmentsOfInstance,
  finishAttachment,
  undoDetachment,
  type VolumeAttachment,
} from '../../common/db/volume_attachments.ts';
import { ec2VolumeId, volumeById, type Volume } from '../../common/db/volumes.ts';
import { Aborted, Conflict, InstanceNotFound, NotYet, VolumeBusy } from '../../common/errors.ts';
import { defineFlags, integer, type Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import type { GuestVolume } from '../../common/volume_connection.ts';
import { tellStorage, volumeClient, volumeResource } from '../../volume/rpc.ts';
import type { ComputeDriver } from '../drivers/driver.ts';
import { PowerState } from '../logic/power_state.ts';
import { guestName } from './guest_spec.ts';

export const guestVolumeFlags = defineFlags({
  block_device_creation_timeout: integer(600, 'Seconds a launch waits for the volumes that are being made for it', {
    min: 1,
  }),
});

export interface GuestVolumesDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  bus: RpcBus;
  host: string;
  driver: ComputeDriver;
  /** --instance_name_template */
  template: string;
}
export interface VolumeArgs {
  instance_id: number;
  volume_id: number;
}

/**
 * Volumes at the guests of this host. What a guest is to have is its live attachments; who may reach a volume is asked of
 * its storage host anew each time.
 *
 *   attach    attaching ──initialize_connection, driver──> attached, or the attachment ends and the volume is available
 *   detach    detaching ──driver──> the attachment ends, its export closes; or attached again, with the reason
 */
export class GuestVolumes {
  readonly #d: GuestVolumesDeps;
  readonly #timeout_s: number;
  readonly #storage: ReturnType<typeof volumeClient>;

  constructor(deps: GuestVolumesDeps) {
    this.#d = deps;
    this.#timeout_s = deps.flags.read(guestVolumeFlags).block_device_creation_timeout;
    this.#storage = volumeClient(deps.bus);
  }

  // ------------------------------------------------------------------ attach

  async attach(ctx: RequestContext, { instance_id, volume_id }: VolumeArgs): Promise<void> {
    const { db, driver, log } = this.#d;
    const attachment = await this.#live(instance_id, volume_id);
    if (!attachment || attachment.status === 'detaching') {
      log.info({ instance_id, volume_id, status: attachment?.status }, 'nothing left to attach');
      return;
    }
    const name = this.#name(instance_id);
    const volume = await this.#connect(ctx, attachment);
    try {
      await driver.attachVolume(name, volume, ctx.signal);
    } catch (err) {
      if (err instanceof Aborted || (await this.#runs(name))) throw err;
    }
    try {
      await writing(db, async (tx) => {
        const { status } = attachment;
        await finishAttachment(tx, attachment);
        if (status !== 'attached') await this.#tell(tx, ctx, attachment, 'attached');
      });
    } catch (err) {
      if (!(err instanceof VolumeBusy)) throw err;
      await driver.detachVolume(name, volume.serial, ctx.signal); // it ended meanwhile
      throw new Aborted(err.message, { cause: err });
    }
  }

  /** For good: the guest has nothing of it, and the volume is free again. */
  async attachFailed(ctx: RequestContext, { instance_id, volume_id }: VolumeArgs, err: Error): Promise<void> {
    const attachment = await this.#live(instance_id, volume_id);
    if (!attachment) return;
    const fault = `not attached: ${err.message}`;
    if (attachment.status !== 'attaching') {
      await this.#tell(this.#d.db, ctx, attachment, 'its guest is without it', { error: err.message });
      return;
    }
    await this.#takeAway(ctx, attachment);
    await this.#end(ctx, attachment, 'attaching failed', fault);
  }

  /** What a half-done attach left is no reason to keep the volume: its export closes, and reconciling takes the disk away. */
  async #takeAway(ctx: RequestContext, { instance_id, volume_id }: VolumeAttachment): Promise<void> {
    try {
      await this.#d.driver.detachVolume(this.#name(instance_id), ec2VolumeId(volume_id), ctx.signal);
    } catch (err) {
      this.#d.log.warn({ err, instance_id, volume_id }, 'a disk of an ended attachment is still at its guest');
    }
  }

  // ------------------------------------------------------------------ detach

  /** Also of an attachment that ended by force: then only the guest's disk goes. */
  async detach(ctx: RequestContext, { instance_id, volume_id }: VolumeArgs): Promise<void> {
    const { driver, log } = this.#d;
    const attachment = await this.#live(instance_id, volume_id);
    if (attachment && attachment.status !== 'detaching') {
      log.info({ instance_id, volume_id, status: attachment.status }, 'nothing left to detach');
      return;
    }
    if (!(await this.#isMine(instance_id))) return;
    await driver.detachVolume(this.#name(instance_id), ec2VolumeId(volume_id), ctx.signal);
    if (attachment) await this.#end(ctx, attachment, 'detached', null);
  }

  async detachFailed(ctx: RequestContext, { instance_id, volume_id }: VolumeArgs, err: Error): Promise<void> {
    const attachment = await this.#live(instance_id, volume_id);
    const story = { error: err.message };
    if (attachment?.status !== 'detaching') {
      const event = `volume: a dead disk of ${ec2VolumeId(volume_id)} stays`;
      await recordEvent(this.#d.db, ctx, instanceResource(instance_id), event, this.#d.host, story);
      return;
    }
    await writing(this.#d.db, async (tx) => {
      await undoDetachment(tx, attachment, `not detached: ${err.message}`);
      await this.#tell(tx, ctx, attachment, 'detaching failed', story);
    });
  }

  async #end(ctx: RequestContext, attachment: VolumeAttachment, event: string, fault: string | null): Promise<void> {
    await writing(this.#d.db, async (tx) => {
      const ended = await endAttachment(tx, attachment, { fault });
      if (!ended) return;
      await tellStorage(tx, ctx, [ended], event);
      const story = { volume: ec2VolumeId(attachment.volume_id), ...(fault === null ? {} : { error: fault }) };
      await recordEvent(tx, ctx, instanceResource(attachment.instance_id), `volume ${event}`, this.#d.host, story);
    });
  }

  // ------------------------------------------------------------------ launch

  /**
   * The volumes of a guest that is to be made, when all of them are there.
   * @throws NotYet, for --block_device_creation_timeout since it was scheduled; then Conflict
   */
  async forLaunch(ctx: RequestContext, { id, scheduled_at, created_at }: Instance): Promise<GuestVolume[]> {
    const attachments = await attachmentsOfInstance(this.#d.db, id);
    const volumes = await Promise.all(attachments.map(({ volume_id }) => volumeById(this.#d.db, volume_id)));
    const late = volumes.find(({ status }) => status === 'creating');
    const failed = volumes.find(({ status }) => !['creating', 'attaching', 'in-use'].includes(status));
    if (failed)
      throw new Conflict(`${ec2VolumeId(failed.id)}, which it was to have, is ${failed.status}: ${failed.fault ?? ''}`);
    if (!late) return this.#connectAll(ctx, attachments);
    const waited_s = (clock.now().getTime() - Date.parse(scheduled_at ?? created_at)) / 1000;
    if (waited_s < this.#timeout_s) throw new NotYet(`${ec2VolumeId(late.id)} is still being made`);
    throw new Conflict(
      `${ec2VolumeId(late.id)} was still being made after ${this.#timeout_s} s (--block_device_creation_timeout)`,
    );
  }

  /** The guest runs with them. In the transaction that says so. */
  async launched(tx: Tx, ctx: RequestContext, instance_id: number): Promise<void> {
    for (const attachment of await attachmentsOfInstance(tx, instance_id)) {
      if (attachment.status !== 'attaching') continue;
      await finishAttachment(tx, attachment);
      await this.#tell(tx, ctx, attachment, 'attached');
    }
  }

  /** A launch that failed gives its volumes back; those made for it alone go with it. */
  async launchFailed(tx: Tx, ctx: RequestContext, instance_id: number): Promise<void> {
    const ended = await endAttachmentsOfInstance(tx, instance_id, 'launch failed');
    await tellStorage(tx, ctx, ended, 'given back: the launch failed');
  }

  /** What a guest that starts again is to have. One that is being detached stays away. */
  async forReboot(ctx: RequestContext, instance_id: number): Promise<GuestVolume[]> {
    const attachments = await attachmentsOfInstance(this.#d.db, instance_id);
    return this.#connectAll(
      ctx,
      attachments.filter(({ status }) => status === 'attached'),
    );
  }

  // ------------------------------------------------------------------- parts

  async #connectAll(ctx: RequestContext, attachments: readonly VolumeAttachment[]): Promise<GuestVolume[]> {
    const volumes: GuestVolume[] = [];
    for (const attachment of attachments) volumes.push(await this.#connect(ctx, attachment));
    return volumes;
  }

  async #connect(ctx: RequestContext, { id, volume_id, device, boot }: VolumeAttachment): Promise<GuestVolume> {
    const volume = await volumeById(this.#d.db, volume_id);
    const storage = this.#storage.at(storageHost(volume));
    const connection = await storage.initializeConnection(ctx, { volume_id, attachment_id: id });
    return {
      volume_id,
      serial: ec2VolumeId(volume_id),
      device: device.replace(/^\/dev\//, ''),
      size_gb: volume.size,
      boot: boot === 1,
      connection,
    };
  }

  /** The volume's live attachment, when it is to this instance, which is this host's. */
  async #live(instance_id: number, volume_id: number): Promise<VolumeAttachment | undefined> {
    const attachment = await attachmentOfVolume(this.#d.db, volume_id);
    return attachment?.instance_id === instance_id && (await this.#isMine(instance_id)) ? attachment : undefined;
  }

  async #isMine(instance_id: number): Promise<boolean> {
    const row: Instance = await instanceById(this.#d.db, instance_id, { deleted: true });
    return row.deleted === 0 && row.host === this.#d.host;
  }

  /** One that is off has its volumes when it starts. */
  async #runs(name: string): Promise<boolean> {
    try {
      const { state } = await this.#d.driver.getInfo(name);
      return state !== PowerState.SHUTOFF && state !== PowerState.CRASHED && state !== PowerState.SHUTDOWN;
    } catch (err) {
      if (err instanceof InstanceNotFound) return false;
      throw err;
    }
  }

  #name = (instance_id: number): string => guestName(this.#d.template, instance_id);

  /** The stories of both. */
  async #tell(
    db: NovaDb | Tx,
    ctx: RequestContext,
    { instance_id, volume_id, device }: VolumeAttachment,
    event: string,
    details: Record<string, unknown> = {},
  ): Promise<void> {
    const { host } = this.#d;
    await recordEvent(db, ctx, volumeResource(volume_id), event, host, { instance_id, device, ...details });
    const story = { volume: ec2VolumeId(volume_id), device, ...details };
    await recordEvent(db, ctx, instanceResource(instance_id), `volume ${event}`, host, story);
  }
}

function storageHost({ id, host, status }: Volume): string {
  if (host === null) throw new Conflict(`${ec2VolumeId(id)} is ${status} and on no storage host`);
  return host;
}
