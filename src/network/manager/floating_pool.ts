import type { RequestContext } from '../../common/context.ts';
import { writing } from '../../common/db/connect.ts';
import { recordEvent } from '../../common/db/events.ts';
import {
  allocateFloatingIp,
  autoAssignFloatingIp,
  listFloatingIps,
  releaseFloatingIp,
  type FloatingIpView,
} from '../../common/db/floating_ips.ts';
import { castJob } from '../../common/db/jobs.ts';
import { projectQuota, quotaFlags } from '../../common/db/quotas.ts';
import type { FlagValues } from '../../common/flags.ts';
import { instanceResource } from '../../common/rpc/contract.ts';
import { networkClient } from '../rpc.ts';
import type { NetworkManagerDeps } from './deps.ts';

/** Which project has which floating address: rows only, the same on every host. */
export class FloatingPool {
  readonly #d: NetworkManagerDeps;
  readonly #quotas: FlagValues<typeof quotaFlags>;
  readonly #network: ReturnType<typeof networkClient>;

  constructor(deps: NetworkManagerDeps) {
    this.#d = deps;
    this.#quotas = deps.flags.read(quotaFlags);
    this.#network = networkClient(deps.bus);
  }

  async allocate(project_id: string): Promise<string> {
    const { db } = this.#d;
    return writing(db, async (tx) => {
      const { floating_ips: limit } = await projectQuota(tx, this.#quotas, project_id);
      return (await allocateFloatingIp(tx, db.dialect, { project_id, limit })).address;
    });
  }

  async release(ctx: RequestContext, address: string): Promise<void> {
    await writing(this.#d.db, (tx) => releaseFloatingIp(tx, this.#d.db.dialect, ctx, address));
  }

  /** @returns whether the instance has an address now that it had not before */
  async autoAssign(ctx: RequestContext, instance_id: number): Promise<boolean> {
    const { db, log } = this.#d;
    const address = await writing(db, async (tx) => {
      const limit = async (project_id: string) => (await projectQuota(tx, this.#quotas, project_id)).floating_ips;
      const given = await autoAssignFloatingIp(tx, db.dialect, instance_id, limit);
      if (given !== null)
        await recordEvent(tx, ctx, instanceResource(instance_id), 'floating ip assigned', this.#d.host, {
          floating_address: given,
        });
      return given;
    });
    if (address !== null) log.info({ instance_id, address }, 'floating ip assigned');
    return address !== null;
  }

  /** Leaves each host a job that ends what it did for these. */
  async tell(ctx: RequestContext, hosts: readonly string[], ended: readonly FloatingIpView[]): Promise<void> {
    if (hosts.length === 0) return;
    await writing(this.#d.db, async (tx) => {
      for (const host of hosts) {
        const floating_address = ended.find((one) => one.host === host)?.address ?? '';
        await castJob(tx, ctx, this.#network.at(host).disassociateFloatingIp, { floating_address }); // one brings all
      }
    });
  }

  /** Its instance's story says why it is not reached. */
  async jobFailed(ctx: RequestContext, method: string, address: string, err: Error): Promise<void> {
    if (method !== 'associate_floating_ip') return;
    const { db, host } = this.#d;
    const led = (await listFloatingIps(db, { allocated: true })).find((one) => one.address === address);
    if (led === undefined || led.instance_id === null) return;
    const details = { floating_address: address, error: err.message };
    await recordEvent(db, ctx, instanceResource(led.instance_id), 'floating ip not in force', host, details);
  }
}
