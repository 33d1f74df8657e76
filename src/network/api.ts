import type { RequestContext } from '../common/context.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { writing, type NovaDb, type Tx } from '../common/db/connect.ts';
import { recordEvent } from '../common/db/events.ts';
import {
  allocateFloatingIp,
  associateFloatingIp,
  disassociateFloatingIp,
  listFloatingIps,
  releaseFloatingIp,
  visibleFloatingIp,
  type AssociateOptions,
  type FloatingIpView,
} from '../common/db/floating_ips.ts';
import { ec2InstanceId, lockInstance, visibleInstance } from '../common/db/instances.ts';
import { castJob } from '../common/db/jobs.ts';
import { addFixedIp, removeFixedIp } from '../common/db/more_fixed_ips.ts';
import { allNetworks } from '../common/db/networks.ts';
import { projectQuota, quotaFlags } from '../common/db/quotas.ts';
import { InstanceBusy, InstanceNotFound, InvalidInput, UnsupportedOperation } from '../common/errors.ts';
import type { Flags, FlagValues } from '../common/flags.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { instanceResource } from '../common/rpc/contract.ts';
import { computeClient } from '../compute/rpc.ts';
import { formatIpv4, guestRange } from './logic/addresses.ts';
import { NO_FLOATING_IPS } from './logic/floating.ts';
import { networkClient } from './rpc.ts';

/** A user who asks for one after the other would otherwise empty a network that others share. */
const ADDRESSES_OF_A_CARD = 8;

/**
 * What both HTTP APIs call. The rows are the fact; a job for the host that answers for an address brings its rules to
 * them, in the same transaction. Source: Nova 2011.3 nova/network/api.py
 */
export class NetworkApi {
  readonly #db: NovaDb;
  /** And with it floating addresses, and leases that outlive what was given back: all managers but FlatManager. */
  readonly #has_dhcp: boolean;
  readonly #quotas: FlagValues<typeof quotaFlags>;
  readonly #network: ReturnType<typeof networkClient>;
  readonly #compute: ReturnType<typeof computeClient>;

  constructor({ db, flags, bus }: { db: NovaDb; flags: Flags; bus: RpcBus }) {
    this.#db = db;
    this.#has_dhcp = flags.read(serviceFlags).network_manager !== 'nova.network.manager.FlatManager';
    this.#quotas = flags.read(quotaFlags);
    this.#network = networkClient(bus);
    this.#compute = computeClient(bus);
  }

  #supported(): void {
    if (!this.#has_dhcp) throw new UnsupportedOperation(NO_FLOATING_IPS);
  }

  /** The project's addresses, or those of all projects. */
  floatingIps(ctx: RequestContext, { all = false }: { all?: boolean } = {}): Promise<FloatingIpView[]> {
    return listFloatingIps(this.#db, all ? { allocated: true } : { project_id: ctx.project_id ?? '' });
  }

  /** By address or number. @throws FloatingIpNotFound */
  floatingIp(ctx: RequestContext, of: string | number): Promise<FloatingIpView> {
    return visibleFloatingIp(this.#db, ctx, of);
  }

  /** @throws FloatingIpLimitExceeded, NoMoreFloatingIps, UnsupportedOperation */
  async allocate(ctx: RequestContext): Promise<FloatingIpView> {
    this.#supported();
    const { project_id } = ctx;
    if (project_id === null) throw new InvalidInput('the request has no project, and floating ips belong to projects');
    return writing(this.#db, async (tx) => {
      const { floating_ips: limit } = await projectQuota(tx, this.#quotas, project_id);
      const { id } = await allocateFloatingIp(tx, this.#db.dialect, { project_id, limit });
      return visibleFloatingIp(tx, ctx, id);
    });
  }

  /** @throws FloatingIpNotFound, FloatingIpInUse */
  async release(ctx: RequestContext, of: string | number): Promise<void> {
    await writing(this.#db, (tx) => releaseFloatingIp(tx, this.#db.dialect, ctx, of));
  }

  /**
   * Leads an address to an instance (by number or uuid). When it returns that is so for good; it is in force a moment later.
   * @throws FloatingIpNotFound, FloatingIpInUse, InstanceNotFound, InstanceBusy, UnsupportedOperation
   */
  async associate(
    ctx: RequestContext,
    of: string | number,
    instance: number | string,
    options: AssociateOptions = {},
  ): Promise<FloatingIpView> {
    this.#supported();
    return writing(this.#db, async (tx) => {
      const { id } = await visibleInstance(tx, ctx, instance);
      const { before, after } = await associateFloatingIp(tx, this.#db.dialect, ctx, of, id, options);
      const names = { floating_address: after.address, fixed_address: after.fixed_address ?? '' };
      if (before.fixed_ip_id !== after.fixed_ip_id) {
        await this.#ended(tx, ctx, before, after.host);
        await recordEvent(tx, ctx, instanceResource(id), 'floating ip associated', null, names);
      }
      if (after.host !== null) await castJob(tx, ctx, this.#network.at(after.host).associateFloatingIp, names);
      return after;
    });
  }

  /**
   * @param instance the one that it must lead to; left out: any, or none
   * @throws FloatingIpNotFound; InstanceNotFound, Conflict when it does not lead to `instance`
   */
  async disassociate(ctx: RequestContext, of: string | number, instance?: number | string): Promise<void> {
    await writing(this.#db, async (tx) => {
      const id = instance === undefined ? undefined : (await visibleInstance(tx, ctx, instance)).id;
      const before = await disassociateFloatingIp(tx, this.#db.dialect, ctx, of, id);
      await this.#ended(tx, ctx, before, null);
    });
  }

  /**
   * Gives an instance a further address on a network that it has a card on (by number or uuid). When it returns it is the
   * instance's; it is in force a moment later. The guest's own part is its user's. @returns dotted IPv4
   * @throws InstanceNotFound, InstanceBusy, InvalidInput, Conflict, NoMoreAddresses
   */
  async addFixedIp(ctx: RequestContext, instance: number | string, of: number | string): Promise<string> {
    return writing(this.#db, async (tx) => {
      const { id, host } = await this.#settled(tx, ctx, instance);
      const network = (await allNetworks(tx)).find((one) => one.id === of || one.uuid === of);
      if (!network) throw new InvalidInput(`there is no network ${of}`);
      const range = { network_id: network.id, cidr: network.cidr, ...guestRange(network), format: formatIpv4 };
      const address = await addFixedIp(tx, this.#db.dialect, range, id, ADDRESSES_OF_A_CARD);
      await recordEvent(tx, ctx, instanceResource(id), 'fixed ip added', null, { address });
      const args = { instance_id: id, network_id: network.id, address };
      await castJob(tx, ctx, this.#compute.at(host).addFixedIpToInstance, args);
      return address;
    });
  }

  /** Takes an address from an instance, with the floating ones that lead to it. @throws the same */
  async removeFixedIp(ctx: RequestContext, instance: number | string, address: string): Promise<void> {
    await writing(this.#db, async (tx) => {
      const { id, host } = await this.#settled(tx, ctx, instance);
      const floating = await listFloatingIps(tx, { instance_id: id, fixed_address: address });
      const { network_id } = await removeFixedIp(tx, id, address, this.#has_dhcp);
      await recordEvent(tx, ctx, instanceResource(id), 'fixed ip removed', null, { address });
      for (const one of floating) await this.#ended(tx, ctx, one, null);
      const args = { instance_id: id, network_id, address };
      await castJob(tx, ctx, this.#compute.at(host).removeFixedIpFromInstance, args);
    });
  }

  /** Its row, held to the end of the transaction. @throws InstanceNotFound; InstanceBusy while something is done to it, or it has no host */
  async #settled(tx: Tx, ctx: RequestContext, instance: number | string): Promise<{ id: number; host: string }> {
    const { id } = await visibleInstance(tx, ctx, instance);
    const row = await lockInstance(tx, this.#db.dialect, id);
    if (!row) throw new InstanceNotFound(`instance ${instance} was deleted just now`);
    const { host, vm_state, task_state } = row;
    if (host === null || task_state !== null || (vm_state !== 'active' && vm_state !== 'stopped'))
      throw new InstanceBusy(
        `addresses of ${ec2InstanceId(id)} are changed when it is active or stopped and nothing is done to it; it is ${vm_state} ${task_state ?? ''}`.trim(),
      );
    return { id, host };
  }

  /** @param told the host that gets a job anyway */
  async #ended(tx: Tx, ctx: RequestContext, before: FloatingIpView, told: string | null): Promise<void> {
    const { address, fixed_address, instance_id, host } = before;
    if (fixed_address === null) return;
    const details = { floating_address: address, fixed_address };
    if (instance_id !== null)
      await recordEvent(tx, ctx, instanceResource(instance_id), 'floating ip disassociated', null, details);
    if (host !== null && host !== told)
      await castJob(tx, ctx, this.#network.at(host).disassociateFloatingIp, { floating_address: address });
  }
}
