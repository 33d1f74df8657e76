import { allNetworks, configureNetwork, freeNetworks, setNetworkHost, type Network } from '../../common/db/networks.ts';
import { claimNetwork, giveBackNetworks } from '../../common/db/project_networks.ts';
import { defineFlags, string } from '../../common/flags.ts';
import type { VpnForward } from '../logic/project_rules.ts';
import type { NetworkManagerDeps } from './deps.ts';
import { GatewayManager, type NetworkChoice } from './gateway_manager.ts';

export const vlanFlags = defineFlags({
  vpn_ip: string('$my_ip', "Public address of this host at which projects' VPN instances are reached"),
});

/**
 * A VLAN, bridge, network and DHCP server for each project, claimed when it launches its first instance.
 * Source: Nova 2011.2 nova/network/manager.py, VlanManager; multi_host from 2011.3.
 */
export class VlanManager extends GatewayManager {
  constructor(deps: NetworkManagerDeps) {
    super(deps, projectNetworks(deps));
  }
}

function projectNetworks({ db, host, flags, log }: NetworkManagerDeps): NetworkChoice {
  const { vpn_ip } = flags.read(vlanFlags);
  const serves = ({ vlan, project_id }: Network): boolean => vlan !== null && project_id !== null;

  const takeOn = async (): Promise<void> => {
    for (const { cidr, project_id } of await giveBackNetworks(db))
      log.info({ cidr, project_id }, 'network is free again');
    for (const network of await allNetworks(db)) {
      if (!serves(network) || network.multi_host === 1) continue;
      const owner = network.host ?? (await setNetworkHost(db, network.id, host));
      if (owner === host && network.vpn_public_address === null)
        await configureNetwork(db, network.id, { vpn_public_address: vpn_ip });
    }
  };
  return {
    networksFor: (project_id) => claimNetwork(db, project_id),
    by_project: true,
    dhcp_dns: true,
    serves,
    unused: () => freeNetworks(db),
    vpnForward: (network) => vpnForward(network, vpn_ip),
    takeOn,
  };
}

/** Only at this host's own address: one that an operator named (nova-manage vpn change) is his to forward. */
function vpnForward(network: Network, vpn_ip: string): VpnForward | null {
  const { vpn_public_port: port, vpn_private_address: private_address, multi_host } = network;
  const address = network.vpn_public_address ?? (multi_host === 1 ? null : vpn_ip); // written at the next period
  if (address !== vpn_ip || address.startsWith('127.') || port === null || private_address === null) return null;
  return { address, port, private_address };
}
