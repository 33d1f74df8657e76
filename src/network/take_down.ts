import { coreFlags, serviceFlags } from '../common/core_flags.ts';
import type { NovaDb } from '../common/db/connect.ts';
import { hostIp, releaseHostIps } from '../common/db/fixed_ips.ts';
import { allNetworks, deletedNetworks, type Network } from '../common/db/networks.ts';
import type { Flags } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import { makeFirewallDriver } from '../compute/classes.ts';
import { makeNetworkDriver } from './classes.ts';
import { BRIDGE_RULES } from './compute_side.ts';
import type { BridgeSpec, LeftOver } from './drivers/driver.ts';
import { hostV6, parseCidr } from './logic/addresses.ts';
import { bridgePort, bridgePortFlags } from './manager/bridge_port.ts';

/**
 * Takes away what nova-network and nova-compute made for networks on this host; neither may be running. Doing it again
 * changes nothing. @returns the bridges that stay, since guests are plugged into them
 */
export async function takeDownHost({ db, flags, log }: { db: NovaDb; flags: Flags; log: Log }): Promise<LeftOver[]> {
  const { signal } = new AbortController();
  const { host } = flags.read(coreFlags);
  await (await makeFirewallDriver({ flags, log }))?.remove(signal);
  if (flags.read(serviceFlags).network_manager === 'nova.network.manager.FlatManager') return []; // all the operator's own
  const ports = flags.read(bridgePortFlags);
  const driver = await makeNetworkDriver({ flags, log, binary: 'nova-network' });
  const here = new Set([...(await driver.bridges(signal)).map(({ name }) => name), ...(await driver.dhcpBridges())]);
  const bridges: BridgeSpec[] = [];
  for (const network of [...(await allNetworks(db)), ...(await deletedNetworks(db))]) {
    if ((network.vlan !== null || network.deleted === 1) && !here.has(network.bridge)) continue; // there are many, and few on one host
    const address = await ownAddress(db, network, host);
    const { prefix } = parseCidr(network.cidr);
    const v6 = hostV6(network, address);
    bridges.push({
      bridge: network.bridge,
      ...bridgePort(network, ports),
      gateways: address === null ? [] : [{ address, prefix, broadcast: network.broadcast }],
      gateways_v6: v6 === null ? [] : [{ address: v6, prefix: 64 }],
    });
  }
  const compute = await makeNetworkDriver({ flags, log, binary: BRIDGE_RULES });
  await compute.takeDown([], signal);
  const floating = new Set((await driver.forwards(signal)).map(({ address }) => address));
  const bound = await driver.hostAddresses(signal);
  await driver.unbindAddresses(
    bound.filter(({ address, prefix, marked }) => prefix === 32 && (marked || floating.has(address))),
    signal,
  );
  const left = await driver.takeDown(bridges, signal);
  await releaseHostIps(db, host); // of multi_host networks: it takes others when it comes back
  return [...new Map(left.map((one) => [one.bridge, one])).values()]; // several networks may share one
}

async function ownAddress(db: NovaDb, network: Network, host: string): Promise<string | null> {
  if (network.multi_host === 1) return hostIp(db, network.id, host);
  return network.host === host ? network.gateway : null;
}
