import type { NovaDb } from '../../common/db/connect.ts';
import { insertNetworks } from '../../common/db/networks.ts';
import { boolean, defineFlags, integer, string, type Flags } from '../../common/flags.ts';
import { formatIpv4, parseCidr, parseIpv4 } from '../logic/addresses.ts';
import { planNetworks, type NetworkRequest, type PlannedNetwork } from '../logic/plan_networks.ts';
import { planVlanNetworks, type PlannedVlanNetwork, type VlanNetworkRequest } from '../logic/plan_vlan_networks.ts';
import { flatFlags } from './flat.ts';

export const createNetworksFlags = defineFlags({
  num_networks: integer(1, 'Networks to create', { min: 1 }),
  network_size: integer(256, 'Addresses of each network that is created, a power of two', { min: 4 }),
  fixed_range_v6: string('fd00::/48', 'IPv6 range that networks are cut from'),
  flat_network_dns: string('8.8.4.4', 'DNS server of flat networks'),
  flat_network_dhcp_start: string('10.0.0.2', 'First address for guests of a flat network, where it lies in it'),
  multi_host: boolean(false, 'New networks are served on every host that runs guests of theirs'),
  use_ipv6: boolean(false, 'Give networks and guests IPv6 as well'),
});

export const createVlanNetworksFlags = defineFlags({
  vlan_start: integer(100, 'VLAN of the first network that is created', { min: 1, max: 4093 }),
  vpn_start: integer(1000, "Port at which the first network's VPN instance is reached", { min: 1, max: 65535 }),
  cnt_vpn_clients: integer(0, "Addresses at the top of each project's network that are kept for VPN clients", {
    min: 0,
  }),
});

interface Deps {
  db: NovaDb;
  flags: Flags;
}
/** What `nova-manage network create` was given; the rest is by flags. */
export type CreateNetworks = Pick<NetworkRequest, 'fixed_range'> & Partial<NetworkRequest>;
export type CreateVlanNetworks = Pick<VlanNetworkRequest, 'fixed_range'> & Partial<VlanNetworkRequest>;

/**
 * Makes the networks of flat managers, all or none. Without a size each is as large as the range allows, and at most
 * --network_size. @throws InvalidInput, NetworkExists
 */
export async function createNetworks({ db, flags }: Deps, request: CreateNetworks): Promise<PlannedNetwork[]> {
  const { flat_network_bridge, flat_injected } = flags.read(flatFlags);
  const { flat_network_dns, flat_network_dhcp_start } = flags.read(createNetworksFlags);
  const whole: NetworkRequest = {
    label: 'public',
    bridge: flat_network_bridge,
    dns1: flat_network_dns,
    dhcp_start: null,
    usual_dhcp_start: flat_network_dhcp_start,
    ...commonPart(flags, request),
  };
  let planned: PlannedNetwork[] = [];
  await insertNetworks(db, (existing) => {
    planned = planNetworks(whole, existing);
    return planned.map((network) => ({ ...row(network, []), injected: flat_injected ? 1 : 0 }));
  });
  return planned;
}

/** The same for VlanManager. @throws InvalidInput, NetworkExists */
export async function createVlanNetworks(
  { db, flags }: Deps,
  request: CreateVlanNetworks,
): Promise<PlannedVlanNetwork[]> {
  const whole: VlanNetworkRequest = {
    ...flags.read(createVlanNetworksFlags),
    label: null,
    dns1: null,
    project_id: null,
    ...commonPart(flags, request),
  };
  let planned: PlannedVlanNetwork[] = [];
  await insertNetworks(db, (existing) => {
    planned = planVlanNetworks(whole, existing);
    return planned.map(({ reserved, ...network }) => row(network, reserved));
  });
  return planned;
}

type Common = Pick<NetworkRequest, 'fixed_range'> & Partial<Pick<NetworkRequest, 'num_networks' | 'fixed_range_v6'>>;

function commonPart<R extends Common>(flags: Flags, request: R) {
  const sizes = flags.read(createNetworksFlags);
  const num_networks = request.num_networks ?? sizes.num_networks;
  const room = 2 ** Math.floor(Math.log2(Math.max(1, parseCidr(request.fixed_range).size / num_networks)));
  return {
    num_networks,
    network_size: Math.min(sizes.network_size, room),
    gateway: null,
    bridge_interface: null,
    gateway_v6: null,
    dns2: null,
    uuid: null,
    multi_host: sizes.multi_host,
    ...request,
    fixed_range_v6: sizes.use_ipv6 ? (request.fixed_range_v6 ?? sizes.fixed_range_v6) : null,
  };
}

/** @param reserved numbers of addresses that are not for guests, beside the gateway */
function row<N extends PlannedNetwork>({ multi_host, ...network }: N, reserved: readonly number[]) {
  const { base, size } = parseCidr(network.cidr);
  return {
    ...network,
    block: { first: base, last: base + size - 1 },
    multi_host: multi_host ? 1 : 0,
    reserved: [parseIpv4(network.gateway), ...reserved].map((number) => ({
      address: formatIpv4(number),
      address_number: number,
    })),
  };
}
