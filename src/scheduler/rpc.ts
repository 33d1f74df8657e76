import type { RequestContext } from '../common/context.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { cast, ofInstance, rpcClient, rpcContract } from '../common/rpc/contract.ts';
import { volumeResource } from '../volume/rpc.ts';

/** Every method nova-scheduler answers. Source: Nova 2011.2 nova/scheduler/manager.py. */
export interface SchedulerRpc {
  /** Picks a host, claims its capacity and casts to it; `error` with the reason of each host when none fits. */
  runInstance(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
  /** The same for a volume that has no host yet. */
  createVolume(ctx: RequestContext, args: { volume_id: number }): Promise<void>;
}

export const schedulerContract = rpcContract<SchedulerRpc>('scheduler', {
  runInstance: cast('run_instance', { resource: ofInstance }),
  createVolume: cast('create_volume', {
    resource: ({ volume_id }: { volume_id: number }) => volumeResource(volume_id),
  }),
});
export const schedulerClient = (bus: RpcBus) => rpcClient(schedulerContract, bus);
