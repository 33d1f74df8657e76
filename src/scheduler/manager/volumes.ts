import { clock, nowText } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { castJob } from '../../common/db/jobs.ts';
import { ec2SnapshotId, snapshotById } from '../../common/db/snapshots.ts';
import { lockRoom, volumeHosts, type VolumeHostRow } from '../../common/db/volume_nodes.ts';
import { moveVolume, volumeById, type Volume } from '../../common/db/volumes.ts';
import { NoValidHost, VolumeBusy } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { VOLUME_TASKS } from '../../common/volume_state.ts';
import { volumeClient, volumeResource } from '../../volume/rpc.ts';
import { ifBack, parseZone } from '../logic/hosts.ts';
import {
  noValidVolumeHostText,
  type VolumeHostState,
  type VolumeRule,
  type WantedVolume,
} from '../logic/volume_hosts.ts';
import { few } from './few.ts';

interface Deps {
  db: NovaDb;
  log: Log;
  bus: RpcBus;
  host: string;
  rule: VolumeRule;
  max_gigabytes: number;
  down_time_s: number;
}

/** Places volumes: a host with room in their zone, or the host that has their snapshot. Source: Nova 2011.3 nova/scheduler/driver.py. */
export class VolumePlacement {
  readonly #d: Deps;
  constructor(deps: Deps) {
    this.#d = deps;
  }

  async createVolume(ctx: RequestContext, { volume_id }: { volume_id: number }): Promise<void> {
    const { db, log, rule, max_gigabytes } = this.#d;
    const volume = await volumeById(db, volume_id, { deleted: true });
    if (volume.deleted !== 0 || volume.host !== null || volume.status !== 'creating') return;
    const wanted = await this.#wanted(volume);
    const states = (await volumeHosts(db)).map((row) => this.#hostState(row));
    const options = { max_gigabytes, random: Math.random };
    const { hosts, why, max_gb = Infinity } = rule(states, wanted, options);
    const choice = () => ({ hosts_that_fit: hosts.length, hosts: few(why) });
    try {
      for (const host of hosts) {
        if (await this.#place(ctx, volume, host, max_gb, choice())) return;
        why[host.host] = 'its last free room was promised to another volume just now';
      }
      const refusal = new NoValidHost(noValidVolumeHostText(wanted, why), { details: { hosts: few(why) } });
      if (rule(ifBack(states), wanted, options).hosts.length > 0) throw refusal; // the job is tried again
      await this.refuse(ctx, volume_id, refusal);
    } catch (err) {
      if (!(err instanceof VolumeBusy)) throw err;
      log.info({ err, volume_id, request_id: ctx.request_id }, 'the volume was overtaken');
    }
  }

  async #wanted(volume: Volume): Promise<WantedVolume> {
    const { zone, host } = parseZone(volume.availability_zone);
    if (volume.snapshot_id === null) return { size_gb: volume.size, zone, host };
    const snapshot = await snapshotById(this.#d.db, volume.snapshot_id, { deleted: true });
    const because = `${ec2SnapshotId(snapshot.id)} is on ${snapshot.host}`;
    return { size_gb: volume.size, zone, host: snapshot.host, because };
  }

  #hostState(row: VolumeHostRow): VolumeHostState {
    const silent_s = (clock.now().getTime() - Date.parse(row.reported_at)) / 1000;
    const { total_gb, overcommit_ratio } = row;
    return {
      host: row.host,
      zone: row.availability_zone,
      up: row.incarnation !== '' && silent_s < this.#d.down_time_s,
      stopped: row.incarnation === '',
      disabled: row.disabled !== 0,
      silent_s,
      limit_gb: total_gb === null ? undefined : Math.floor(total_gb * (overcommit_ratio ?? 1)),
      promised_gb: row.promised_gb,
    };
  }

  /** Room, state, event and job in one transaction. @returns false when the room went to another. @throws VolumeBusy */
  #place(
    ctx: RequestContext,
    { id, size }: Volume,
    { host, zone }: VolumeHostState,
    max_gb: number,
    choice: Record<string, unknown>,
  ): Promise<boolean> {
    const { db, bus } = this.#d;
    return writing(db, async (tx) => {
      const room = await lockRoom(tx, host);
      if (!room || room.promised_gb + size > Math.min(room.limit_gb, max_gb)) return false;
      await moveVolume(tx, id, {
        from: ['creating'],
        to: { status: 'creating', host, availability_zone: zone, scheduled_at: nowText() },
        deadline_s: VOLUME_TASKS.creating.deadline_s,
        host: null,
      });
      await recordEvent(tx, ctx, volumeResource(id), 'scheduled', this.#d.host, { to: host, ...choice });
      await castJob(tx, ctx, volumeClient(bus).at(host).createVolume, { volume_id: id });
      return true;
    });
  }

  /** @throws VolumeBusy */
  refuse(ctx: RequestContext, volume_id: number, err: Error): Promise<void> {
    const [event, fault, details] =
      err instanceof NoValidHost
        ? ['no valid host', err.message, err.details]
        : ['scheduling failed', `not scheduled: ${err.message}`, {}];
    return writing(this.#d.db, async (tx) => {
      await moveVolume(tx, volume_id, { from: ['creating'], to: { status: 'error', fault }, host: null });
      await recordEvent(tx, ctx, volumeResource(volume_id), event, this.#d.host, { error: fault, ...details });
    });
  }
}
