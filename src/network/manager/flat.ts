import type { RequestContext } from '../../common/context.ts';
import { allNetworks, configureNetwork, networksOnBridge, setNetworkHost } from '../../common/db/networks.ts';
import { UnsupportedOperation } from '../../common/errors.ts';
import { boolean, defineFlags, string, type FlagValues } from '../../common/flags.ts';
import type { Manager } from '../../common/manager.ts';
import type { NetworkInfo } from '../../common/network_info.ts';
import type { NetworkRpc } from '../rpc.ts';
import { NO_FLOATING_IPS } from '../logic/floating.ts';
import { AddressBook } from './address_book.ts';
import type { HostKeeper, NetworkManagerDeps } from './deps.ts';

export const flatFlags = defineFlags({
  flat_network_bridge: string('br100', 'Bridge that guests of flat networks are plugged into'),
  flat_injected: boolean(true, 'Write addresses into guest images, since no DHCP server gives them'),
});

const noFloatingIps = async (): Promise<never> => {
  throw new UnsupportedOperation(NO_FLOATING_IPS);
};

/**
 * One bridge that the operator made, one pool of addresses, no DHCP, no rules.
 * Source: Nova 2011.2 nova/network/manager.py, FlatManager.
 */
export class FlatManager implements NetworkRpc, Manager, HostKeeper {
  readonly #d: NetworkManagerDeps;
  readonly #flags: FlagValues<typeof flatFlags>;
  readonly #book: AddressBook;

  constructor(deps: NetworkManagerDeps) {
    this.#d = deps;
    this.#flags = deps.flags.read(flatFlags);
    this.#book = new AddressBook({ ...deps, quarantine: false, dhcpServer: async () => null });
  }

  #networks = () => networksOnBridge(this.#d.db, this.#flags.flat_network_bridge);

  async initHost(): Promise<void> {
    await this.#takeOn();
  }

  async periodicTasks(): Promise<void> {
    await this.#takeOn();
    await this.#book.tidy();
  }

  /** All of it is the operator's. */
  async bringHost(): Promise<null> {
    return null;
  }

  /** Networks that no host has yet, and whether addresses are injected into guests of those of this host. */
  async #takeOn(): Promise<void> {
    const { db, host } = this.#d;
    const injected = this.#flags.flat_injected ? 1 : 0;
    for (const network of await allNetworks(db)) {
      if (network.vlan !== null || network.bridge !== this.#flags.flat_network_bridge) continue;
      const owner = network.host ?? (await setNetworkHost(db, network.id, host));
      if (owner === host && network.injected !== injected) await configureNetwork(db, network.id, { injected });
    }
  }

  async allocateForInstance(_ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<NetworkInfo[]> {
    await this.#book.allocate(await this.#networks(), instance_id, { host: null });
    return this.#book.info(instance_id);
  }

  async deallocateForInstance(_ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<void> {
    await this.#book.release(instance_id);
  }

  getInstanceNwInfo(_ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<NetworkInfo[]> {
    return this.#book.info(instance_id);
  }

  async allocateFixedIp(ctx: RequestContext, { instance_id }: { instance_id: number }): Promise<string> {
    const [card] = await this.allocateForInstance(ctx, { instance_id });
    return (card as NetworkInfo).address;
  }

  async deallocateFixedIp(_ctx: RequestContext, { address }: { address: string }): Promise<void> {
    await this.#book.releaseAddress(address);
  }

  async bringNetworks(_ctx: RequestContext, { take_on = true }: { take_on?: boolean }): Promise<void> {
    if (take_on) await this.#takeOn();
  }

  /** Nobody answers DHCP here. */
  async addFixedIpToInstance(): Promise<void> {}
  async removeFixedIpFromInstance(): Promise<void> {}

  async leaseFixedIp(_ctx: RequestContext, { address, mac }: { address: string; mac?: string }): Promise<void> {
    await this.#book.lease(address, mac, true);
  }

  async releaseFixedIp(_ctx: RequestContext, { address, mac }: { address: string; mac?: string }): Promise<void> {
    await this.#book.lease(address, mac, false);
  }

  allocateFloatingIp = noFloatingIps;
  deallocateFloatingIp = noFloatingIps;
  associateFloatingIp = noFloatingIps;
  disassociateFloatingIp = noFloatingIps;

  setNetworkHost(_ctx: RequestContext, { network_id }: { network_id: number }): Promise<string> {
    return setNetworkHost(this.#d.db, network_id, this.#d.host);
  }

  async getNetworkHost(): Promise<string> {
    const [network] = await this.#networks();
    return network.host ?? setNetworkHost(this.#d.db, network.id, this.#d.host);
  }
}
