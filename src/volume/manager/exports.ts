import type { RequestContext } from '../../common/context.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { ec2InstanceId } from '../../common/db/instance_names.ts';
import { claimTarget, releaseTarget, targetOfVolume, targetsOfHost } from '../../common/db/iscsi_targets.ts';
import {
  attachmentOfVolume,
  attachmentsOfStorageHost,
  type VolumeAttachment,
} from '../../common/db/volume_attachments.ts';
import { ec2VolumeId, volumeById, type Volume } from '../../common/db/volumes.ts';
import { BackendUnavailable, Conflict, VolumeNotFound } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { VolumeConnection } from '../../common/volume_connection.ts';
import type { VolumeDriver } from '../drivers/driver.ts';
import type { StoreNames } from './names.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  host: string;
  driver: VolumeDriver;
  names: StoreNames;
  iscsi_num_targets: number;
}

/** While a volume is in one of these, whoever it is attached to may reach it. */
const REACHABLE = ['attaching', 'in-use', 'detaching'];

/**
 * Who may reach the volumes of this host, computed from the database each time: the newest live attachment, by its own
 * secret, and nobody else. A volume without one has no export and no target number. Work on one volume's export is done
 * one after the other, in whatever order requests and repairs come: each reads what holds when its turn is there.
 */
export class Exports {
  readonly #d: Deps;
  /** Volume to the end of the work asked for last. */
  readonly #turns = new Map<number, Promise<unknown>>();
  constructor(deps: Deps) {
    this.#d = deps;
  }

  async #inTurn<T>(volume_id: number, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(volume_id) ?? Promise.resolve();
    const mine = before.then(work, work);
    const over = mine.catch(() => undefined); // that failure is told to who asked
    this.#turns.set(volume_id, over);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(volume_id) === over) this.#turns.delete(volume_id);
    }
  }

  /** Opens the export to this attachment. @throws VolumeNotFound, Conflict, NoMoreTargets, BackendUnavailable */
  connect(ctx: RequestContext, volume_id: number, attachment_id: number): Promise<VolumeConnection> {
    return this.#inTurn(volume_id, async () => {
      const volume = await this.#mine(volume_id);
      const attachment = await attachmentOfVolume(this.#d.db, volume_id);
      const name = ec2VolumeId(volume_id);
      if (attachment?.id !== attachment_id || attachment.epoch !== volume.epoch)
        throw new Conflict(
          `this attachment of ${name} is over${attachment ? `: it is ${attachment.status} at ${ec2InstanceId(attachment.instance_id)}` : ''}`,
        );
      if (!REACHABLE.includes(volume.status)) throw new Conflict(`${name} is ${volume.status}: nobody may reach it`);
      return this.#open(volume, attachment, ctx.signal);
    });
  }

  async #open(volume: Volume, attachment: VolumeAttachment, signal: AbortSignal): Promise<VolumeConnection> {
    const { db, host, driver, names, iscsi_num_targets } = this.#d;
    const target_num = await claimTarget(db, host, volume.id, iscsi_num_targets);
    const access = { username: attachment.auth_username, password: attachment.auth_password };
    const connection = await driver.ensureExport({ volume: names.volume(volume), target_num, access }, signal);
    if (connection === null)
      throw new BackendUnavailable(`the driver gave no way to reach ${ec2VolumeId(volume.id)}, which is attached`);
    return connection;
  }

  /** Brings the export of a volume to what holds now. @throws BackendUnavailable, NoMoreTargets */
  refresh(volume_id: number, signal: AbortSignal): Promise<void> {
    return this.#inTurn(volume_id, async () => {
      const { db, host, driver, names } = this.#d;
      const volume = await volumeById(db, volume_id, { deleted: true });
      if (volume.host !== host) return;
      const attachment = volume.deleted === 0 ? await attachmentOfVolume(db, volume_id) : undefined;
      if (attachment && attachment.epoch === volume.epoch && REACHABLE.includes(volume.status)) {
        await this.#open(volume, attachment, signal);
        return;
      }
      await driver.removeExport(names.volume(volume), (await targetOfVolume(db, volume_id)) ?? null, signal);
      await releaseTarget(db, volume_id);
    });
  }

  /** @throws VolumeNotFound, Conflict, BackendUnavailable */
  async check(volume_id: number): Promise<void> {
    const { driver, names } = this.#d;
    const volume = await this.#mine(volume_id);
    const { name } = names.volume(volume);
    const { exports } = await driver.inventory();
    if (exports.includes(name)) return;
    if (!REACHABLE.includes(volume.status))
      throw new Conflict(`${ec2VolumeId(volume_id)} is ${volume.status}, so it is not exported`);
    throw new BackendUnavailable(
      `${ec2VolumeId(volume_id)} is ${volume.status}, but not exported; it will be put back`,
    );
  }

  /**
   * Puts back what ought to be exported and takes away what ought not. `all`: also those that are there are made as they
   * ought to be. One that fails is told of and does not hold the others up.
   */
  async repair(options: { all: boolean }, signal: AbortSignal): Promise<void> {
    const { db, driver, host, names } = this.#d;
    const there = new Set((await driver.inventory()).exports.map((name) => names.volumeId(name)));
    const wanted = new Set((await attachmentsOfStorageHost(db, host)).map(({ volume_id }) => volume_id));
    for (const volume_id of wanted)
      if (options.all || !there.has(volume_id)) await this.#try(volume_id, 'export not put back', signal);
    const targets = (await targetsOfHost(db, host)).map(({ volume_id }) => volume_id);
    for (const volume_id of new Set([...there, ...targets]))
      if (volume_id !== undefined && !wanted.has(volume_id))
        await this.#try(volume_id, 'export without an attachment not taken away', signal);
  }

  async #try(volume_id: number, failure: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    try {
      await this.refresh(volume_id, signal);
    } catch (err) {
      if (err instanceof VolumeNotFound) return; // another cloud's, at the same store
      this.#d.log.warn({ err, volume_id }, failure);
    }
  }

  /** @throws VolumeNotFound */
  async #mine(volume_id: number): Promise<Volume> {
    const volume = await volumeById(this.#d.db, volume_id);
    if (volume.host === this.#d.host) return volume;
    throw new VolumeNotFound(`${ec2VolumeId(volume_id)} is not on host ${this.#d.host}, but on ${volume.host}`);
  }
}
