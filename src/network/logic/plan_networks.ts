import { Address4, Address6 } from 'ip-address';
import { InvalidInput, NetworkExists } from '../../common/errors.ts';
import {
  broadcastOf,
  formatCidr,
  formatIpv4,
  guestRange,
  guestRangeSize,
  holds,
  netmaskOf,
  notForHosts,
  overlaps,
  parseCidr,
  parseIpv4,
  type Cidr,
} from './addresses.ts';

/** What `nova-manage network create` asks for. */
export interface NetworkRequest {
  /** The block that is cut, e.g. `10.0.0.0/8`. */
  fixed_range: string;
  num_networks: number;
  /** Addresses of each network, a power of two; network, gateway and broadcast are counted. */
  network_size: number;
  /** Several networks are called `label_1`, `label_2`, ... */
  label: string;
  /** One for all of them, since they are flat. */
  bridge: string;
  /** Interface of every host that goes into it, or carries its VLAN; null: the one that each host's flags name. */
  bridge_interface: string | null;
  /** Only for a single network; the first address otherwise. */
  gateway: string | null;
  dns1: string | null;
  dns2: string | null;
  /** First address for guests; only for a single network, in which it lies. */
  dhcp_start: string | null;
  /** The same for whoever says none, where it lies in a single network. */
  usual_dhcp_start: string | null;
  /** A block of /64s, or null without IPv6. */
  fixed_range_v6: string | null;
  /** Only for a single network; the first address of its /64 otherwise. */
  gateway_v6: string | null;
  multi_host: boolean;
  /** Only for a single network; drawn otherwise. */
  uuid: string | null;
}

/** A network row to be. Dotted IPv4, or null. */
export interface PlannedNetwork {
  label: string;
  cidr: string;
  netmask: string;
  gateway: string;
  broadcast: string;
  dhcp_start: string;
  bridge: string;
  bridge_interface: string | null;
  dns1: string | null;
  dns2: string | null;
  cidr_v6: string | null;
  gateway_v6: string | null;
  netmask_v6: number | null;
  multi_host: boolean;
  uuid?: string;
}

/** What is compared of the networks that there are. */
export interface ExistingBlocks {
  cidr: string;
  cidr_v6: string | null;
  uuid: string;
}

/** The smallest block with room for a gateway and one guest between network and broadcast. */
const SMALLEST = 4;

/**
 * Cuts `fixed_range` into networks, lowest first. A block that is there already is refused, not skipped: Nova skipped it
 * without a word, and the operator believed that it had been made.
 * @param existing the networks that there are
 * @throws InvalidInput, NetworkExists
 * Source: Nova 2011.2 nova/network/manager.py, FlatManager.create_networks, with VlanManager's checks.
 */
export function planNetworks(request: NetworkRequest, existing: readonly ExistingBlocks[]): PlannedNetwork[] {
  const range = parseCidr(request.fixed_range);
  const { num_networks, network_size } = request;
  checkSizes(request, range);
  checkNames(request, existing);
  const prefix = 32 - Math.log2(network_size);
  const single = num_networks === 1;
  const v6 =
    request.fixed_range_v6 === null ? [] : planV6(request.fixed_range_v6, num_networks, request.gateway_v6, existing);
  const there = existing.map(({ cidr }) => ({ cidr, block: parseCidr(cidr) }));

  return Array.from({ length: num_networks }, (_, i) => {
    const block: Cidr = { base: range.base + i * network_size, prefix, size: network_size };
    const cidr = formatCidr(block);
    const other = there.find((one) => overlaps(one.block, block));
    if (other)
      throw new NetworkExists(
        `${cidr} overlaps the network ${other.cidr} that exists already; nothing was made. nova-manage network list shows what is taken`,
      );
    const never = notForHosts(block);
    if (never !== undefined)
      throw new InvalidInput(`${cidr} cannot be a network for guests: ${never} is not for hosts; nothing was made`);
    const gateway = single && request.gateway !== null ? gatewayIn(block, request.gateway) : formatIpv4(block.base + 1);
    if (request.dhcp_start !== null) checkDhcpStart(block, request.dhcp_start);
    const network = {
      label: single ? request.label : `${request.label}_${i + 1}`,
      cidr,
      netmask: netmaskOf(block),
      gateway,
      broadcast: broadcastOf(block),
      dhcp_start: request.dhcp_start ?? dhcpStart(block, gateway, single ? request.usual_dhcp_start : null),
      bridge: request.bridge,
      bridge_interface: request.bridge_interface,
      dns1: request.dns1,
      dns2: request.dns2,
      cidr_v6: v6[i]?.cidr ?? null,
      gateway_v6: v6[i]?.gateway ?? null,
      netmask_v6: v6[i] ? 64 : null,
      multi_host: request.multi_host,
      ...(request.uuid === null ? {} : { uuid: request.uuid.toLowerCase() }),
    };
    if (guestRangeSize(guestRange(network)) === 0) {
      throw new InvalidInput(`${cidr} from ${network.dhcp_start}: no address is left for guests`);
    }
    return network;
  });
}

function checkSizes(request: NetworkRequest, range: Cidr): void {
  const { fixed_range, num_networks, network_size, gateway, dhcp_start } = request;
  if (num_networks > 1 && gateway !== null) {
    throw new InvalidInput(`gateway ${gateway} can be that of one network only, and ${num_networks} are asked for`);
  }
  if (num_networks > 1 && dhcp_start !== null) {
    throw new InvalidInput(
      `dhcp_start ${dhcp_start} can be that of one network only, and ${num_networks} are asked for`,
    );
  }
  if (!Number.isInteger(num_networks) || num_networks < 1) {
    throw new InvalidInput(`num_networks ${num_networks}: at least 1 network must be asked for`);
  }
  if (!Number.isInteger(network_size) || !Number.isInteger(Math.log2(network_size))) {
    throw new InvalidInput(`network_size ${network_size} is not a power of two`);
  }
  if (network_size < SMALLEST) {
    throw new InvalidInput(
      `network_size ${network_size} is too small: network, gateway and broadcast take 3, so ${SMALLEST} is the least`,
    );
  }
  if (num_networks * network_size > range.size) {
    throw new InvalidInput(
      `${fixed_range} has ${range.size} addresses, too few for ${num_networks} x ${network_size} = ${num_networks * network_size}`,
    );
  }
}

function gatewayIn(block: Cidr, gateway: string): string {
  const address = parseIpv4(gateway);
  if (!holds(block, address)) throw new InvalidInput(`gateway ${gateway} is not in ${formatCidr(block)}`);
  if (address === block.base || address === block.base + block.size - 1) {
    throw new InvalidInput(`gateway ${gateway} is the network or broadcast address of ${formatCidr(block)}`);
  }
  return gateway;
}

function checkDhcpStart(block: Cidr, dhcp_start: string): void {
  const address = parseIpv4(dhcp_start);
  if (!holds(block, address) || address === block.base)
    throw new InvalidInput(`dhcp_start ${dhcp_start} is no address for guests of ${formatCidr(block)}`);
}

/** The third address (network, gateway, then guests), or the wanted one where it lies in the block. */
function dhcpStart(block: Cidr, gateway: string, wanted: string | null): string {
  if (wanted !== null && holds(block, parseIpv4(wanted)) && parseIpv4(wanted) > block.base) return wanted;
  return gateway === formatIpv4(block.base + 1) ? formatIpv4(block.base + 2) : formatIpv4(block.base + 1);
}

/** The kernel's limit, and nothing that a path or another option could be made of. */
const INTERFACE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;

function checkNames(request: NetworkRequest, existing: readonly ExistingBlocks[]): void {
  const { bridge, bridge_interface, dns1, dns2, uuid, num_networks } = request;
  for (const [what, name] of Object.entries({ bridge, bridge_interface }))
    if (name !== null && !INTERFACE.test(name))
      throw new InvalidInput(`${what} '${name}': not an interface name (1 to 15 letters, digits, or _ . -)`);
  for (const dns of [dns1, dns2])
    if (dns !== null && !Address4.isValid(dns) && !Address6.isValid(dns))
      throw new InvalidInput(`${dns}: not the address of a DNS server`);
  if (uuid === null) return;
  if (num_networks > 1) throw new InvalidInput(`uuid ${uuid} can be that of one network only`);
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid)) throw new InvalidInput(`${uuid}: not a uuid`);
  const other = existing.find((one) => one.uuid === uuid.toLowerCase());
  if (other) throw new NetworkExists(`uuid ${uuid} is that of network ${other.cidr} already; nothing was made`);
}

/** The lowest /64s of the range that no network has. */
function planV6(
  fixed_range_v6: string,
  count: number,
  gateway_v6: string | null,
  existing: readonly ExistingBlocks[],
): { cidr: string; gateway: string }[] {
  if (!Address6.isValid(fixed_range_v6))
    throw new InvalidInput(`${fixed_range_v6}: not an IPv6 block such as fd00::/48`);
  if (gateway_v6 !== null && count > 1)
    throw new InvalidInput(`gateway_v6 ${gateway_v6} can be that of one network only, and ${count} are asked for`);
  const range = new Address6(fixed_range_v6);
  const blocks = range.subnetMask > 64 ? 0n : 2n ** BigInt(64 - range.subnetMask);
  const first = range.startAddress().bigInt();
  const number = (cidr: string) => new Address6(cidr).startAddress().bigInt() >> 64n;
  const taken = new Set(existing.flatMap(({ cidr_v6 }) => (cidr_v6 === null ? [] : [number(cidr_v6)])));
  const text = (address: bigint) => Address6.fromBigInt(address).correctForm();
  const planned: { cidr: string; gateway: string }[] = [];
  for (let i = 0n; i < blocks && planned.length < count; i++) {
    const base = first + (i << 64n);
    if (taken.has(base >> 64n)) continue;
    const gateway = gateway_v6 === null ? text(base + 1n) : gatewayV6In(base, gateway_v6);
    planned.push({ cidr: `${text(base)}/64`, gateway });
  }
  if (planned.length < count)
    throw new InvalidInput(
      `${fixed_range_v6} has too few /64 blocks for ${count} networks: ${blocks} in all, ${taken.size} in use by networks`,
    );
  return planned;
}

function gatewayV6In(base: bigint, gateway: string): string {
  const address = Address6.isValid(gateway) ? new Address6(gateway) : null;
  if (!address || gateway.includes('/') || address.bigInt() >> 64n !== base >> 64n || address.bigInt() === base)
    throw new InvalidInput(`gateway_v6 ${gateway} is no address of ${Address6.fromBigInt(base).correctForm()}/64`);
  return address.correctForm();
}
