import type { RequestContext } from '../../common/context.ts';
import { writing, type NovaDb } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import {
  failedLaunchesOfHost,
  instanceById,
  moveInstance,
  releaseClaim,
  type Instance,
} from '../../common/db/instances.ts';
import { hasOpenJob } from '../../common/db/jobs.ts';
import { InstanceBusy } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import type { NetworkRpc } from '../../network/rpc.ts';
import type { ComputeDriver } from '../drivers/driver.ts';
import { PowerState } from '../logic/power_state.ts';
import type { GuestFirewall } from './guest_firewall.ts';
import { guestName } from './guest_spec.ts';
import type { GuestVolumes } from './volumes.ts';

interface FailedLaunchesDeps {
  db: NovaDb;
  log: Log;
  host: string;
  driver: ComputeDriver;
  /** --instance_name_template */
  template: string;
  firewall: GuestFirewall;
  volumes: GuestVolumes;
  networkRpc: () => Promise<Pick<NetworkRpc, 'deallocateForInstance'>>;
}

/** Launches of this host that failed for good: each is in error with the reason, and has nothing of the host any more. */
export class FailedLaunches {
  readonly #d: FailedLaunchesDeps;

  constructor(deps: FailedLaunchesDeps) {
    this.#d = deps;
  }

  /** First the reason for its owner, then what it took is given back, and last its claim on this host. */
  async end(ctx: RequestContext, instance_id: number, err: Error): Promise<void> {
    const { db, host, log } = this.#d;
    const resource = instanceResource(instance_id);
    try {
      await writing(db, async (tx) => {
        await moveInstance(tx, instance_id, {
          from: ['networking', 'spawning'],
          to: { task_state: null, vm_state: 'error', fault: err.message, power_state: PowerState.FAILED },
          host,
        });
        await recordEvent(tx, ctx, resource, 'launch failed', host, { error: err.message });
      });
    } catch (busy) {
      if (!(busy instanceof InstanceBusy)) throw busy;
      log.info({ err: busy, instance_id }, 'the failed launch was overtaken');
    }
    const row = await instanceById(db, instance_id, { deleted: true });
    if (row.deleted !== 0 || row.host !== host || row.vm_state !== 'error' || row.task_state !== null) return;
    await this.#giveBack(ctx, row);
  }

  /** Launches in error that a dead process or a hypervisor that was away left as they were. */
  async giveBackRest(ctx: RequestContext): Promise<void> {
    const { db, host, log } = this.#d;
    for (const row of await failedLaunchesOfHost(db, host)) {
      if (await hasOpenJob(db, instanceResource(row.id))) continue; // its own failure does it
      try {
        await this.#giveBack(ctx, row);
        log.info({ instance_id: row.id }, 'gave back what a failed launch took');
      } catch (err) {
        log.warn({ err, instance_id: row.id }, 'a failed launch still has what it took; the next period tries again');
      }
    }
  }

  /** What a launch in error took: guest, addresses, and last its claim on this host. Twice is once. */
  async #giveBack(ctx: RequestContext, { id, uuid, ...claim }: Instance): Promise<void> {
    const { db, host, driver, firewall, volumes, log } = this.#d;
    await driver.destroy(guestName(this.#d.template, id), ctx.signal, uuid);
    await (await this.#d.networkRpc()).deallocateForInstance(ctx, { instance_id: id });
    await firewall.leave(ctx, id);
    try {
      await writing(db, async (tx) => {
        await moveInstance(tx, id, { from: [null], to: { task_state: null, host: null }, host });
        await releaseClaim(tx, claim);
        await volumes.launchFailed(tx, ctx, id);
      });
    } catch (busy) {
      if (!(busy instanceof InstanceBusy)) throw busy;
      log.info({ err: busy, instance_id: id }, 'a deletion gives back what the failed launch took');
    }
  }
}
