import { clock, nowText } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { serviceFlags } from '../../common/core_flags.ts';
import { claimCapacity, computeHosts, type ComputeHostRow } from '../../common/db/compute_nodes.ts';
import { writing, type NovaDb, type Tx } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import { instanceById, moveInstance, type Instance } from '../../common/db/instances.ts';
import { castJob } from '../../common/db/jobs.ts';
import type { Liveness } from '../../common/db/services.ts';
import { endAttachmentsOfInstance } from '../../common/db/volume_attachments.ts';
import { InstanceBusy, NoValidHost, VolumeBusy } from '../../common/errors.ts';
import { defineFlags, float, integer, type Flags, type FlagValues } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { Manager } from '../../common/manager.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import { TASKS } from '../../common/instance_state.ts';
import { computeClient } from '../../compute/rpc.ts';
import { tellStorage } from '../../volume/rpc.ts';
import {
  ifBack,
  noValidHostText,
  parseZone,
  type HostState,
  type Ratios,
  type SchedulingRule,
  type Wanted,
} from '../logic/hosts.ts';
import { volumeChance, type VolumeRule } from '../logic/volume_hosts.ts';
import type { SchedulerRpc } from '../rpc.ts';
import { few } from './few.ts';
import { sweep } from './sweep.ts';
import { VolumePlacement } from './volumes.ts';

export const schedulerFlags = defineFlags({
  max_cores: integer(16, 'simple scheduler: vcpus placed on one host', { min: 1 }),
  max_gigabytes: integer(10000, 'simple scheduler: GiB of volumes and snapshots placed on one host', { min: 1 }),
  // Essex' names and defaults; 2011's chance scheduler did not look at capacity at all.
  cpu_allocation_ratio: float(16, 'Virtual processors placed for each real one', { min: 0 }),
  ram_allocation_ratio: float(1.5, 'Memory placed for each MB there is', { min: 0 }),
  disk_allocation_ratio: float(1, 'Disk placed for each GB there is; disks are sparse', { min: 0 }),
  job_retention_days: integer(7, 'Days that finished jobs stay in the job table', { min: 0 }),
});

/** Picks hosts, and sweeps what got stuck. Source: Nova 2011.2 nova/scheduler/manager.py. */
export class SchedulerManager implements SchedulerRpc, Manager {
  readonly #db: NovaDb;
  readonly #log: Log;
  readonly #rule: SchedulingRule;
  readonly #flags: FlagValues<typeof schedulerFlags>;
  readonly #liveness: Liveness;
  readonly #ratios: Ratios;
  readonly #host: string;
  readonly #bus: RpcBus;
  readonly #compute: ReturnType<typeof computeClient>;
  readonly #volumes: VolumePlacement;

  constructor(deps: {
    db: NovaDb;
    flags: Flags;
    log: Log;
    bus: RpcBus;
    host: string;
    rule: SchedulingRule;
    volume_rule?: VolumeRule;
  }) {
    this.#db = deps.db;
    this.#log = deps.log;
    this.#rule = deps.rule;
    this.#host = deps.host;
    this.#bus = deps.bus;
    this.#flags = deps.flags.read(schedulerFlags);
    this.#liveness = deps.flags.read(serviceFlags);
    this.#compute = computeClient(deps.bus);
    const { cpu_allocation_ratio: cpu, ram_allocation_ratio: ram, disk_allocation_ratio: disk } = this.#flags;
    this.#ratios = { cpu, ram, disk };
    const { max_gigabytes } = this.#flags;
    const rule = deps.volume_rule ?? volumeChance;
    this.#volumes = new VolumePlacement({
      ...deps,
      rule,
      max_gigabytes,
      down_time_s: this.#liveness.service_down_time,
    });
  }

  async initHost(): Promise<void> {}
  async periodicTasks(ctx: RequestContext): Promise<void> {
    await sweep(
      {
        db: this.#db,
        log: this.#log,
        bus: this.#bus,
        host: this.#host,
        liveness: this.#liveness,
        retention_days: this.#flags.job_retention_days,
      },
      ctx,
    );
  }

  async runInstance(ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<void> {
    const instance = await instanceById(this.#db, instance_id, { deleted: true });
    if (instance.deleted !== 0 || instance.host !== null || instance.task_state !== 'scheduling') return;
    const { vcpus, memory_mb, local_gb } = instance;
    const wanted: Wanted = { vcpus, memory_mb, local_gb, ...parseZone(instance.availability_zone) };
    const states = (await computeHosts(this.#db)).map((row) => this.#hostState(row));
    const options = { ratios: this.#ratios, max_cores: this.#flags.max_cores, random: Math.random };
    const { hosts, why, max_vcpus } = this.#rule(states, wanted, options);
    const choice = () => ({ hosts_that_fit: hosts.length, hosts: few(why) });
    try {
      for (const { host } of hosts) {
        if (await this.#place(ctx, instance, host, max_vcpus, choice())) return;
        why[host] = 'its last free capacity was claimed by another launch just now';
      }
      const refusal = new NoValidHost(noValidHostText(wanted, why), { details: { hosts: few(why) } });
      if (this.#rule(ifBack(states), wanted, options).hosts.length > 0) throw refusal; // the job is tried again
      await this.#refuse(ctx, instance.id, refusal);
    } catch (err) {
      if (!(err instanceof InstanceBusy)) throw err;
      this.#log.info({ err, instance_id, request_id: ctx.request_id }, 'the launch was overtaken');
    }
  }

  #hostState(row: ComputeHostRow): HostState {
    const silent_s = (clock.now().getTime() - Date.parse(row.reported_at)) / 1000;
    const { vcpus, vcpus_used, memory_mb, memory_mb_used, local_gb, local_gb_used, fault, fault_since } = row;
    return {
      host: row.host,
      zone: row.availability_zone,
      up: row.incarnation !== '' && silent_s < this.#liveness.service_down_time,
      stopped: row.incarnation === '',
      disabled: row.disabled !== 0,
      silent_s,
      fault: fault === null ? null : { since: fault_since ?? '', reason: fault },
      node:
        vcpus === null || memory_mb === null || local_gb === null
          ? undefined
          : {
              vcpus,
              memory_mb,
              local_gb,
              vcpus_used: vcpus_used ?? 0,
              memory_mb_used: memory_mb_used ?? 0,
              local_gb_used: local_gb_used ?? 0,
            },
    };
  }

  /** Claim, state, event and job in one transaction. @returns false when the capacity went to another. @throws InstanceBusy */
  #place(
    ctx: RequestContext,
    instance: Instance,
    host: string,
    max_vcpus: number | undefined,
    choice: { hosts_that_fit: number; hosts: Record<string, string> },
  ): Promise<boolean> {
    return writing(this.#db, async (tx) => {
      if (!(await claimCapacity(tx, host, instance, this.#ratios, { max_vcpus }))) return false;
      await moveInstance(tx, instance.id, {
        from: ['scheduling'],
        to: { task_state: 'networking', host, scheduled_at: nowText() },
        deadline_s: TASKS.networking.deadline_s,
      });
      await recordEvent(tx, ctx, instanceResource(instance.id), 'scheduled', this.#host, { to: host, ...choice });
      await castJob(tx, ctx, this.#compute.at(host).runInstance, { instance_id: instance.id });
      return true;
    });
  }

  /** @throws InstanceBusy */
  #refuse(ctx: RequestContext, id: number, err: Error): Promise<void> {
    const [event, fault, details] =
      err instanceof NoValidHost
        ? ['no valid host', err.message, err.details]
        : ['scheduling failed', `not scheduled: ${err.message}`, {}];
    return writing(this.#db, async (tx) => {
      await moveInstance(tx, id, { from: ['scheduling'], to: { task_state: null, vm_state: 'error', fault } });
      await recordEvent(tx, ctx, instanceResource(id), event, this.#host, { error: err.message, ...details });
      await giveVolumesBack(tx, ctx, id);
    });
  }

  createVolume(ctx: RequestContext, args: { volume_id: number }): Promise<void> {
    return this.#volumes.createVolume(ctx, args);
  }

  async jobFailed(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void> {
    const refused =
      method === 'create_volume'
        ? this.#volumes.refuse(ctx, Number(args['volume_id']), err)
        : this.#refuse(ctx, Number(args['instance_id']), err);
    await refused.catch((busy: unknown) => {
      if (!(busy instanceof InstanceBusy || busy instanceof VolumeBusy)) throw busy; // overtaken: nothing of it is left here
    });
  }
}

/** A launch that found no host has no use for its volumes; those made for it alone go. */
async function giveVolumesBack(tx: Tx, ctx: RequestContext, instance_id: number): Promise<void> {
  const ended = await endAttachmentsOfInstance(tx, instance_id, 'launch failed');
  await tellStorage(tx, ctx, ended, 'given back: no host for its instance');
}
