import type { RequestContext } from '../common/context.ts';
import type { NetworkInfo } from '../common/network_info.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { call, cast, rpcClient, rpcContract } from '../common/rpc/contract.ts';

/** Every method nova-network answers. Source: Nova 2011.3 nova/network/manager.py; the `fixed_ip` four are also 2011.2's. */
export interface NetworkRpc {
  /**
   * Gives the instance an address on each network it belongs to; asking again gives the same ones. When it returns, DHCP
   * knows the instance. @throws NoMoreAddresses, NetworkNotFound
   */
  allocateForInstance(
    ctx: RequestContext,
    args: { instance_id: number; project_id: string; host: string; hostname: string; vpn?: boolean },
  ): Promise<NetworkInfo[]>;
  /** Gives them back (quarantined where DHCP may still lease them); none is success. */
  deallocateForInstance(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
  getInstanceNwInfo(ctx: RequestContext, args: { instance_id: number }): Promise<NetworkInfo[]>;
  /** @returns dotted IPv4. @throws NoMoreAddresses */
  allocateFixedIp(ctx: RequestContext, args: { instance_id: number; vpn?: boolean }): Promise<string>;
  deallocateFixedIp(ctx: RequestContext, args: { address: string }): Promise<void>;
  /**
   * A card of the instance has one address more or less by now, which was written with the job that asks: brings the DHCP
   * server of its network to that. @throws NetworkNotFound, RpcUnavailable
   */
  addFixedIpToInstance(
    ctx: RequestContext,
    args: { instance_id: number; host: string; network_id: number },
  ): Promise<void>;
  removeFixedIpFromInstance(
    ctx: RequestContext,
    args: { instance_id: number; host: string; network_id: number },
  ): Promise<void>;
  leaseFixedIp(ctx: RequestContext, args: { address: string; mac?: string }): Promise<void>;
  releaseFixedIp(ctx: RequestContext, args: { address: string; mac?: string }): Promise<void>;
  /** Takes a free address for a project. @returns dotted IPv4. @throws FloatingIpLimitExceeded, NoMoreFloatingIps, UnsupportedOperation */
  allocateFloatingIp(ctx: RequestContext, args: { project_id: string }): Promise<string>;
  /** @throws FloatingIpNotFound; FloatingIpInUse while it leads to an instance */
  deallocateFloatingIp(ctx: RequestContext, args: { floating_address: string }): Promise<void>;
  /**
   * Brings this host's addresses and rules to what the database says by now. The association was written with the job, so
   * a late one cannot bring back what changed meanwhile. @throws BackendUnavailable, UnsupportedOperation
   */
  associateFloatingIp(ctx: RequestContext, args: { floating_address: string; fixed_address: string }): Promise<void>;
  /** The same. */
  disassociateFloatingIp(ctx: RequestContext, args: { floating_address: string }): Promise<void>;
  /**
   * Brings this host to what the rows say of networks: those of others are taken off, its own set up.
   * @param args `take_on`: whether it becomes the host of networks that have none; left out: yes
   */
  bringNetworks(ctx: RequestContext, args: { take_on?: boolean }): Promise<void>;
  /** The first host to ask keeps the network. @returns the host that has it */
  setNetworkHost(ctx: RequestContext, args: { network_id: number }): Promise<string>;
  getNetworkHost(ctx: RequestContext, args: Record<string, never>): Promise<string>;
}

const ofFloatingIp = (args: { floating_address: string }): string => `floating_ip:${args.floating_address}`;

export const networkContract = rpcContract<NetworkRpc>('network', {
  allocateForInstance: call('allocate_for_instance'),
  deallocateForInstance: call('deallocate_for_instance'),
  getInstanceNwInfo: call('get_instance_nw_info'),
  allocateFixedIp: call('allocate_fixed_ip'),
  deallocateFixedIp: call('deallocate_fixed_ip'),
  addFixedIpToInstance: call('add_fixed_ip_to_instance'),
  removeFixedIpFromInstance: call('remove_fixed_ip_from_instance'),
  leaseFixedIp: call('lease_fixed_ip'),
  releaseFixedIp: call('release_fixed_ip'),
  allocateFloatingIp: call('allocate_floating_ip'),
  deallocateFloatingIp: call('deallocate_floating_ip'),
  associateFloatingIp: cast('associate_floating_ip', { resource: ofFloatingIp }),
  disassociateFloatingIp: cast('disassociate_floating_ip', { resource: ofFloatingIp }),
  bringNetworks: cast('bring_networks'),
  setNetworkHost: call('set_network_host'),
  getNetworkHost: call('get_network_host'),
});
export const networkClient = (bus: RpcBus) => rpcClient(networkContract, bus);
