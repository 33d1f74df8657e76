import { serviceFlags } from '../common/core_flags.ts';
import { ClassNotFound } from '../common/errors.ts';
import type { Flags, FlagValues } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import { Turns } from '../common/linux/host.ts';
import type { ComputeNetwork, GuestBridges, NetworkPlace } from '../common/network_info.ts';
import { loadClass } from '../common/class_names.ts';
import { makeNetworkDriver, NETWORK_MANAGERS } from './classes.ts';
import type { NetworkDriver } from './drivers/driver.ts';
import { computeFirewall } from './logic/firewall.ts';
import { bridgePort, bridgePortFlags } from './manager/bridge_port.ts';
import { gatewayFlags } from './manager/gateway.ts';

/** Begins the names of the chains that let bridged traffic pass; `nova-compute-` are those of the guests' firewall. */
export const BRIDGE_RULES = 'nova-bridge';

/**
 * The part of the network manager that runs in nova-compute: the bridges that guests are plugged into.
 * @param driver for its rules; default: what the flags choose
 * @throws ClassNotFound, as nova-network with the same flags
 */
export async function computeNetwork(
  { flags, log }: { flags: Flags; log: Log },
  driver?: NetworkDriver,
): Promise<ComputeNetwork> {
  const { network_manager } = flags.read(serviceFlags);
  await loadClass(NETWORK_MANAGERS, network_manager, 'network_manager');
  switch (network_manager) {
    case 'nova.network.manager.FlatManager':
      return { setupComputeNetwork: async () => undefined, leaveNetworks: async () => undefined }; // the operator's own
    case 'nova.network.manager.FlatDHCPManager':
    case 'nova.network.manager.VlanManager':
      return new BridgedComputeNetwork(
        flags,
        driver ?? (await makeNetworkDriver({ flags, log, binary: BRIDGE_RULES })),
      );
    default:
      throw new ClassNotFound(`--network_manager=${network_manager} has no part in nova-compute`);
  }
}

/** Source: Nova 2011.2 nova/network/manager.py, setup_compute_network of FlatDHCPManager and VlanManager. */
class BridgedComputeNetwork implements ComputeNetwork {
  readonly #driver: NetworkDriver;
  readonly #ports: FlagValues<typeof bridgePortFlags>;
  readonly #use_ipv6: boolean;
  readonly #turns = new Turns();
  /** Bridges whose traffic is let through; null before the first look at what a former nova-compute wrote. */
  #bridges: ReadonlySet<string> | null = null;

  constructor(flags: Flags, driver: NetworkDriver) {
    this.#driver = driver;
    this.#ports = flags.read(bridgePortFlags);
    this.#use_ipv6 = flags.read(gatewayFlags).use_ipv6;
  }

  setupComputeNetwork(nics: readonly NetworkPlace[], signal: AbortSignal): Promise<void> {
    return this.#turns.take(async () => {
      const places = new Map(nics.map((nic) => [nic.bridge, nic]));
      for (const place of places.values()) await this.#driver.ensureBridge(this.#spec(place), signal);
      const bridges = new Set(await this.#known(signal));
      for (const bridge of places.keys()) bridges.add(bridge);
      await this.#letThrough(bridges, signal);
    });
  }

  leaveNetworks(look: () => Promise<GuestBridges>, signal: AbortSignal): Promise<void> {
    return this.#turns.take(async () => {
      const there = await this.#driver.bridges(signal);
      const own = new Set(there.filter((bridge) => bridge.own).map(({ name }) => name));
      const { used, left } = await look();
      const bridges = new Set([...(await this.#known(signal)), ...used]); // somebody may have taken the rules away
      for (const network of left) {
        const kept =
          own.has(network.bridge) && !network.served_here
            ? await this.#driver.removeNetwork(this.#spec(network), signal)
            : null;
        if (kept === null) bridges.delete(network.bridge);
      }
      await this.#letThrough(bridges, signal);
    });
  }

  /** Bridges that are let through, also by what a former nova-compute wrote. */
  async #known(signal: AbortSignal): Promise<ReadonlySet<string>> {
    return (this.#bridges ??= new Set(await this.#driver.bridgesLetThrough(signal)));
  }

  #spec = (network: NetworkPlace) => ({
    bridge: network.bridge,
    ...bridgePort(network, this.#ports),
    gateways: [],
    gateways_v6: [],
  });

  async #letThrough(bridges: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    if (bridges.size === 0 && (await this.#known(signal)).size === 0) return; // nothing of ours is there
    await this.#driver.applyFirewall(computeFirewall([...bridges], this.#use_ipv6), signal);
    this.#bridges = bridges;
  }
}
