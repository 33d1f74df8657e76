import { InvalidInput, NetworkExists } from '../../common/errors.ts';
import { formatIpv4, guestRange, guestRangeSize, parseCidr } from './addresses.ts';
import { planNetworks, type ExistingBlocks, type NetworkRequest, type PlannedNetwork } from './plan_networks.ts';

/** What `nova-manage network create` asks of VlanManager. */
export interface VlanNetworkRequest extends Omit<
  NetworkRequest,
  'bridge' | 'dhcp_start' | 'usual_dhcp_start' | 'label'
> {
  /** Of the first network; the others have the next ones. */
  vlan_start: number;
  /** UDP port at which the first network's VPN instance is reached from outside; the others have the next ones. */
  vpn_start: number;
  /** Addresses kept at the top of each network for VPN clients. */
  cnt_vpn_clients: number;
  /** Null: `vlan100`, by each network's VLAN. */
  label: string | null;
  /** Whose they are; null: of whoever needs one first. */
  project_id: string | null;
}

export interface PlannedVlanNetwork extends PlannedNetwork {
  vlan: number;
  vpn_public_port: number;
  vpn_private_address: string;
  project_id: string | null;
  /** Addresses kept for VPN clients, as numbers. */
  reserved: number[];
}

/** What is compared of the networks that there are. */
export interface ExistingNetwork extends ExistingBlocks {
  bridge: string;
  vlan: number | null;
  vpn_public_port: number | null;
}

/** Nova's limit on vlan_start + num_networks; 4095 and 0 mean something else in 802.1q. */
const TOP = 4094;

/**
 * Cuts `fixed_range` into networks of a VLAN each. In a network come first the gateway, the VPN instance and then guests.
 * @throws InvalidInput, NetworkExists. Source: Nova 2011.2 nova/network/manager.py, VlanManager.create_networks.
 */
export function planVlanNetworks(
  request: VlanNetworkRequest,
  existing: readonly ExistingNetwork[],
): PlannedVlanNetwork[] {
  const { num_networks, vlan_start, vpn_start, cnt_vpn_clients, label, project_id, ...rest } = request;
  checkNumbers(request);
  const cut = planNetworks(
    { ...rest, num_networks, label: label ?? '', bridge: `br${vlan_start}`, dhcp_start: null, usual_dhcp_start: null },
    existing,
  );
  return cut.map((network, i) => {
    const vlan = vlan_start + i;
    const vpn_public_port = vpn_start + i;
    const bridge = `br${vlan}`;
    checkFree({ vlan, bridge, vpn_public_port }, existing);
    const { base, size } = parseCidr(network.cidr);
    const vpn_private_address = formatIpv4(base + 2);
    if (network.gateway === vpn_private_address)
      throw new InvalidInput(`gateway ${network.gateway} is the address of the VPN instance of ${network.cidr}`);
    const planned = {
      ...network,
      dhcp_start: formatIpv4(base + 3),
      label: label === null ? `vlan${vlan}` : network.label,
    };
    if (guestRangeSize(guestRange(planned, cnt_vpn_clients)) === 0)
      throw new InvalidInput(
        `${network.cidr}: no address is left for guests; gateway, VPN, ${cnt_vpn_clients} VPN clients and the two ends take all ${size}`,
      );
    const reserved = Array.from({ length: cnt_vpn_clients }, (_, n) => base + size - 1 - cnt_vpn_clients + n);
    return { ...planned, project_id, bridge, vlan, vpn_public_port, vpn_private_address, reserved };
  });
}

function checkNumbers({ num_networks, vlan_start, vpn_start }: VlanNetworkRequest): void {
  if (vlan_start < 1) throw new InvalidInput(`vlan ${vlan_start}: a VLAN is a number from 1 to ${TOP}`);
  if (vlan_start + num_networks > TOP)
    throw new InvalidInput(
      `vlan ${vlan_start} and ${num_networks} networks: their sum is above ${TOP}, since VLANs end there; ask for fewer, or begin lower`,
    );
  if (vpn_start < 1 || vpn_start + num_networks - 1 > 65535)
    throw new InvalidInput(`vpn ${vpn_start} and ${num_networks} networks: ports are numbers from 1 to 65535`);
}

function checkFree(
  { vlan, bridge, vpn_public_port }: { vlan: number; bridge: string; vpn_public_port: number },
  existing: readonly ExistingNetwork[],
): void {
  const same = existing.find((other) => other.vlan === vlan || other.bridge === bridge);
  if (same) {
    const what = same.vlan === vlan ? `VLAN ${vlan}` : `bridge ${bridge}`;
    const next = Math.max(...existing.map((other) => other.vlan ?? 0), vlan) + 1;
    throw new NetworkExists(
      `${what} is that of network ${same.cidr} already; nothing was made. From --vlan=${next} on they are free`,
    );
  }
  const port = existing.find((other) => other.vpn_public_port === vpn_public_port);
  if (port) {
    const next = Math.max(...existing.map((other) => other.vpn_public_port ?? 0)) + 1;
    throw new NetworkExists(
      `VPN port ${vpn_public_port} is that of network ${port.cidr} already; nothing was made. From --vpn=${next} on they are free`,
    );
  }
}
