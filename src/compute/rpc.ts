import type { RequestContext } from '../common/context.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { TASKS } from '../common/instance_state.ts';
import { call, cast, ofInstance, rpcClient, rpcContract } from '../common/rpc/contract.ts';
import { VOLUME_TASKS } from '../common/volume_state.ts';

/** Every method nova-compute answers. Source: Nova 2011.3 nova/compute/manager.py. */
export interface ComputeRpc {
  /** Networking, disks, guest; from any point of an earlier attempt. */
  runInstance(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
  /** Takes away the guest, its addresses and its claim; wins over whatever runs on the instance. */
  terminateInstance(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
  rebootInstance(ctx: RequestContext, args: { instance_id: number; reboot_type?: 'SOFT' | 'HARD' }): Promise<void>;
  /** @returns the end of the serial console as text */
  getConsoleOutput(ctx: RequestContext, args: { instance_id: number }): Promise<string>;
  /** Gives the running guest the volume of its live attachment, which becomes `attached`; from any point of an earlier attempt. */
  attachVolume(
    ctx: RequestContext,
    args: { instance_id: number; volume_id: number; mountpoint: string },
  ): Promise<void>;
  /**
   * Takes the volume from the guest, and ends the attachment. A guest that does not let go keeps it: the attachment is
   * `attached` again and a fault says why. With `force` it ends all the same, and the guest's disk is dead.
   */
  detachVolume(ctx: RequestContext, args: { instance_id: number; volume_id: number; force?: boolean }): Promise<void>;
  /**
   * Has the guest stand still with all its writes at its volumes, until `key` is thawed or `seconds` are over. The same
   * key again is the same freeze. @throws InstanceNotFound, Conflict when it does not run
   */
  freezeInstance(ctx: RequestContext, args: { instance_id: number; key: string; seconds: number }): Promise<void>;
  /** Asked twice, the second is false. @returns whether the guest stood still all the while */
  thawInstance(ctx: RequestContext, args: { instance_id: number; key: string }): Promise<boolean>;
  /**
   * A card of the instance has one address more, or less, by now, which was written with the job: brings DHCP and this host's
   * rules to that, and tells hosts whose guests let its groups in. The guest's own part is its user's.
   */
  addFixedIpToInstance(
    ctx: RequestContext,
    args: { instance_id: number; network_id: number; address: string },
  ): Promise<void>;
  removeFixedIpFromInstance(
    ctx: RequestContext,
    args: { instance_id: number; network_id: number; address: string },
  ): Promise<void>;
  updateAvailableResource(ctx: RequestContext, args: Record<string, never>): Promise<void>;
  /** Nudges, by fanout: the rules of a group changed, or who is in it. The host reads what holds now and applies it. */
  refreshSecurityGroupRules(ctx: RequestContext, args: { security_group_id: number }): Promise<void>;
  refreshSecurityGroupMembers(ctx: RequestContext, args: { security_group_id: number }): Promise<void>;
  /** The same of the ranges that are blocked for all guests. */
  refreshProviderFwRules(ctx: RequestContext, args: Record<string, never>): Promise<void>;
}

export const computeContract = rpcContract<ComputeRpc>('compute', {
  runInstance: cast('run_instance', { resource: ofInstance, patience_s: TASKS.networking.deadline_s }),
  terminateInstance: cast('terminate_instance', { resource: ofInstance, wins: true, max_attempts: 20 }),
  rebootInstance: cast('reboot_instance', { resource: ofInstance, patience_s: TASKS.rebooting.deadline_s }),
  attachVolume: cast('attach_volume', { resource: ofInstance, patience_s: VOLUME_TASKS.attaching.deadline_s }),
  detachVolume: cast('detach_volume', { resource: ofInstance, patience_s: VOLUME_TASKS.detaching.deadline_s }),
  freezeInstance: call('freeze_instance'),
  thawInstance: call('thaw_instance'),
  getConsoleOutput: call('get_console_output'),
  addFixedIpToInstance: cast('add_fixed_ip_to_instance', { resource: ofInstance }),
  removeFixedIpFromInstance: cast('remove_fixed_ip_from_instance', { resource: ofInstance }),
  updateAvailableResource: call('update_available_resource'),
  refreshSecurityGroupRules: call('refresh_security_group_rules'),
  refreshSecurityGroupMembers: call('refresh_security_group_members'),
  refreshProviderFwRules: call('refresh_provider_fw_rules'),
});
export const computeClient = (bus: RpcBus) => rpcClient(computeContract, bus);
