import type { Network } from '../../common/db/networks.ts';
import { defineFlags, string } from '../../common/flags.ts';
import type { BridgeSpec } from '../drivers/driver.ts';

export const bridgePortFlags = defineFlags({
  flat_interface: string(null, 'Interface that goes into the bridge of flat networks with DHCP'),
  vlan_interface: string('eth0', 'Interface that carries the VLANs of projects, where the network names none itself'),
});

/** What joins the guests of a network on this host to those on others. */
export function bridgePort(
  { vlan, bridge_interface }: Pick<Network, 'vlan' | 'bridge_interface'>,
  { flat_interface, vlan_interface }: { flat_interface: string | null; vlan_interface: string },
): Pick<BridgeSpec, 'interface' | 'vlan'> {
  if (vlan === null) return { interface: bridge_interface ?? flat_interface, vlan: null };
  return { interface: `vlan${vlan}`, vlan: { id: vlan, parent: bridge_interface ?? vlan_interface } };
}
