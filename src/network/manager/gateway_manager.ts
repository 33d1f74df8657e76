import type { RequestContext } from '../../common/context.ts';
import { listFloatingIps, type FloatingIpView } from '../../common/db/floating_ips.ts';
import { instanceById } from '../../common/db/instances.ts';
import { networkById, setNetworkHost, type Network } from '../../common/db/networks.ts';
import { addressesOfInstance } from '../../common/db/virtual_interfaces.ts';
import { errorText, RpcUnavailable } from '../../common/errors.ts';
import { boolean, defineFlags } from '../../common/flags.ts';
import type { Manager } from '../../common/manager.ts';
import type { NetworkInfo } from '../../common/network_info.ts';
import { leaseFlags } from '../drivers/driver.ts';
import type { DhcpEvent } from '../logic/dhcp_hosts.ts';
import type { VpnForward } from '../logic/project_rules.ts';
import { networkClient, type NetworkRpc } from '../rpc.ts';
import { AddressBook, quarantineFlags } from './address_book.ts';
import type { BringOptions, HostKeeper, NetworkManagerDeps } from './deps.ts';
import { FloatingPool } from './floating_pool.ts';
import { Gateway, isAboutTheEvent } from './gateway.ts';

export const gatewayManagerFlags = defineFlags({
  auto_assign_floating_ip: boolean(false, 'Give each new instance a floating ip, which goes with it'),
});

/** In what managers that are their networks' gateway differ. */
export interface NetworkChoice {
  /** Networks of which an instance of this project gets one address, in the order in which they are tried. @throws NetworkNotFound, NoMoreNetworks */
  networksFor(project_id: string): Promise<[Network, ...Network[]]>;
  /** Whether networks belong to projects, which are kept apart. */
  by_project: boolean;
  /** Whether DHCP tells guests the DNS servers of the network's row. */
  dhcp_dns: boolean;
  /** Whether a network is one of this manager's, and in use. */
  serves(network: Network): boolean;
  /** Networks that may have been served once and are nobody's now. */
  unused(): Promise<Network[]>;
  /** The port of this host that leads to the network's VPN instance, or null. */
  vpnForward(network: Network): VpnForward | null;
  /** Networks that no host has yet, and what flags say of those of this host. */
  takeOn(): Promise<void>;
}

/**
 * This host as gateway, DHCP server, metadata address and way out of its networks: all that FlatDHCPManager and
 * VlanManager have in common. Source: Nova 2011.2 nova/network/manager.py; multi_host from 2011.3.
 */
export class GatewayManager implements NetworkRpc, Manager, HostKeeper {
  readonly #d: NetworkManagerDeps;
  readonly #choice: NetworkChoice;
  readonly #auto_assign_floating_ip: boolean;
  readonly #book: AddressBook;
  readonly #gateway: Gateway;
  readonly #pool: FloatingPool;
  readonly #others: ReturnType<typeof networkClient>;

  constructor(deps: NetworkManagerDeps, choice: NetworkChoice) {
    this.#d = deps;
    this.#choice = choice;
    this.#auto_assign_floating_ip = deps.flags.read(gatewayManagerFlags).auto_assign_floating_ip;
    this.#gateway = new Gateway(deps, {
      ...choice,
      onDhcpEvent: (event) => this.#dhcpEvent(event),
    });
    this.#book = new AddressBook({
      ...deps,
      quarantine: true,
      dhcpServer: (network, card) => this.#gateway.dhcpServerOf(network, card.host),
    });
    this.#pool = new FloatingPool(deps);
    this.#others = networkClient(deps.bus);
  }

  async initHost(signal: AbortSignal): Promise<void> {
    this.#checkLeaseTime();
    await this.#choice.takeOn();
    await this.#gateway.initHost(signal);
  }

  /** An address is given again while dnsmasq still holds the lease of who had it, and refuses it to the new one. */
  #checkLeaseTime(): void {
    const { fixed_ip_disassociate_timeout } = this.#d.flags.read(quarantineFlags);
    const { dhcp_lease_time } = this.#d.flags.read(leaseFlags);
    if (dhcp_lease_time > fixed_ip_disassociate_timeout)
      this.#d.log.warn(
        { dhcp_lease_time, fixed_ip_disassociate_timeout },
        'addresses are given again before their leases end: --fixed_ip_disassociate_timeout is less than --dhcp_lease_time',
      );
  }

  async periodicTasks(): Promise<void> {
    await this.#book.tidy(); // first: a project's network is free when its last address is
    await this.#choice.takeOn();
    await this.#gateway.periodicTasks();
  }

  async bringNetworks(_ctx: RequestContext, { take_on = true }: { take_on?: boolean }): Promise<void> {
    if (take_on) await this.#choice.takeOn();
    await this.#gateway.periodicTasks();
  }

  bringHost(options: BringOptions, signal: AbortSignal): Promise<string | null> {
    return this.#gateway.bring(options, signal);
  }

  /** The host whose DHCP server the instance will ask. */
  async #hostFor(network: Network, instance_host: string): Promise<string> {
    if (network.multi_host === 1) return instance_host;
    return network.host ?? setNetworkHost(this.#d.db, network.id, this.#d.host);
  }

  async allocateForInstance(
    ctx: RequestContext,
    args: { instance_id: number; project_id: string; host: string; hostname: string; vpn?: boolean },
  ): Promise<NetworkInfo[]> {
    const networks = await this.#choice.networksFor(args.project_id);
    const network = await this.#book.allocate(networks, args.instance_id, {
      host: args.host,
      vpn: args.vpn === true && this.#choice.by_project,
    });
    const host = await this.#hostFor(network, args.host);
    if (host !== this.#d.host) return this.#askHost(host, network, ctx, args);
    if (this.#auto_assign_floating_ip && (await this.#pool.autoAssign(ctx, args.instance_id)))
      await this.#gateway.bringFloating();
    await this.#gateway.ready(network);
    return this.#book.info(args.instance_id);
  }

  async #askHost(
    host: string,
    network: Network,
    ctx: RequestContext,
    args: Parameters<NetworkRpc['allocateForInstance']>[1],
  ): Promise<NetworkInfo[]> {
    try {
      return await this.#others.at(host).allocateForInstance(ctx, args);
    } catch (err) {
      if (!(err instanceof RpcUnavailable)) throw err;
      throw new RpcUnavailable(
        `network ${network.cidr} is served by host ${host}, whose nova-network does not answer: start it there` +
          (network.multi_host === 1
            ? ''
            : `, or give the network to this host: nova-manage network modify ${network.cidr} --host=${this.#d.host}`),
        { cause: err },
      );
    }
  }

  async deallocateForInstance(ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<void> {
    const cards = await addressesOfInstance(this.#d.db, instance_id);
    const floating = await listFloatingIps(this.#d.db, { instance_id });
    await this.#book.release(instance_id);
    await this.#endFloating(ctx, floating);
    for (const card of cards) {
      const network = await networkById(this.#d.db, card.network_id);
      if ((card.host ?? network.host) === this.#d.host) await this.#gateway.forgetLeases(network, [card]);
    }
  }

  getInstanceNwInfo(_ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<NetworkInfo[]> {
    return this.#book.info(instance_id);
  }

  async allocateFixedIp(
    ctx: RequestContext,
    { instance_id, vpn = false }: { instance_id: number; vpn?: boolean },
  ): Promise<string> {
    const { db, host } = this.#d;
    const { project_id, hostname } = await instanceById(db, instance_id);
    const [card] = await this.allocateForInstance(ctx, { instance_id, project_id, host, hostname, vpn });
    return (card as NetworkInfo).address;
  }

  async deallocateFixedIp(ctx: RequestContext, { address }: { address: string }): Promise<void> {
    const floating = await listFloatingIps(this.#d.db, { fixed_address: address });
    await this.#book.releaseAddress(address);
    await this.#endFloating(ctx, floating);
  }

  async addFixedIpToInstance(
    ctx: RequestContext,
    args: { instance_id: number; host: string; network_id: number },
  ): Promise<void> {
    const network = await networkById(this.#d.db, args.network_id);
    const host = await this.#hostFor(network, args.host);
    if (host !== this.#d.host) await this.#others.at(host).addFixedIpToInstance(ctx, args);
    else await this.#gateway.ready(network);
  }

  removeFixedIpFromInstance(
    ctx: RequestContext,
    args: { instance_id: number; host: string; network_id: number },
  ): Promise<void> {
    return this.addFixedIpToInstance(ctx, args); // hosts file and database are compared whole
  }

  /** Their fixed ips were given back: here that is in force when this returns, other hosts have a job for it. */
  async #endFloating(ctx: RequestContext, ended: readonly FloatingIpView[]): Promise<void> {
    const { host, log } = this.#d;
    const left = new Set(ended.map((one) => one.host).filter((one) => one !== null));
    if (left.has(host))
      await this.#gateway.bringFloating().then(
        () => left.delete(host),
        (err: unknown) => log.warn({ err }, 'rules of floating ips not applied, a job tries again'),
      );
    await this.#pool.tell(ctx, [...left], ended);
  }

  allocateFloatingIp(_ctx: RequestContext, { project_id }: { project_id: string }): Promise<string> {
    return this.#pool.allocate(project_id);
  }

  deallocateFloatingIp(ctx: RequestContext, { floating_address }: { floating_address: string }): Promise<void> {
    return this.#pool.release(ctx, floating_address);
  }

  associateFloatingIp(): Promise<void> {
    return this.#gateway.bringFloating();
  }

  disassociateFloatingIp(): Promise<void> {
    return this.#gateway.bringFloating();
  }

  async jobFailed(ctx: RequestContext, method: string, args: Record<string, unknown>, err: Error): Promise<void> {
    await this.#pool.jobFailed(ctx, method, String(args['floating_address']), err);
  }

  async leaseFixedIp(_ctx: RequestContext, { address, mac }: { address: string; mac?: string }): Promise<void> {
    await this.#book.lease(address, mac, true);
  }

  async releaseFixedIp(_ctx: RequestContext, { address, mac }: { address: string; mac?: string }): Promise<void> {
    await this.#book.lease(address, mac, false);
  }

  async #dhcpEvent({ event, address, mac }: DhcpEvent): Promise<void> {
    try {
      await this.#book.lease(address, mac, event !== 'del');
    } catch (err) {
      if (!isAboutTheEvent(err)) throw err;
      this.#d.log.info({ event, address, mac, why: errorText(err) }, 'lease event not applied');
    }
  }

  async setNetworkHost(_ctx: RequestContext, { network_id }: { network_id: number }): Promise<string> {
    const host = await setNetworkHost(this.#d.db, network_id, this.#d.host);
    if (host === this.#d.host) await this.#gateway.ready(await networkById(this.#d.db, network_id));
    return host;
  }

  async getNetworkHost(ctx: RequestContext): Promise<string> {
    const [network] = await this.#choice.networksFor(ctx.project_id ?? '');
    return network.host ?? this.setNetworkHost(ctx, { network_id: network.id });
  }
}
