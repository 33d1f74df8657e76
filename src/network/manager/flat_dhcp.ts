import { allNetworks, networksOnBridge, setNetworkHost, type Network } from '../../common/db/networks.ts';
import type { NetworkManagerDeps } from './deps.ts';
import { flatFlags } from './flat.ts';
import { GatewayManager, type NetworkChoice } from './gateway_manager.ts';

/**
 * One bridge that all projects share, made and served by nova-network.
 * Source: Nova 2011.2 nova/network/manager.py, FlatDHCPManager; multi_host from 2011.3.
 */
export class FlatDhcpManager extends GatewayManager {
  constructor(deps: NetworkManagerDeps) {
    super(deps, sharedBridge(deps));
  }
}

function sharedBridge({ db, host, flags }: NetworkManagerDeps): NetworkChoice {
  const { flat_network_bridge: bridge } = flags.read(flatFlags);
  const isFlat = (network: Network): boolean => network.vlan === null;

  const takeOn = async (): Promise<void> => {
    for (const network of await allNetworks(db))
      if (isFlat(network) && network.bridge === bridge && network.multi_host === 0 && network.host === null)
        await setNetworkHost(db, network.id, host);
  };
  return {
    networksFor: () => networksOnBridge(db, bridge),
    by_project: false,
    dhcp_dns: false, // each row has --flat_network_dns; guests ask dnsmasq, which knows their names
    serves: isFlat,
    unused: async () => [],
    vpnForward: () => null,
    takeOn,
  };
}
