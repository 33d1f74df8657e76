import { loadClass } from '../common/class_names.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { runDaemon } from '../common/daemon.ts';
import { Service, type Daemon, type Running } from '../common/service.ts';
import { makeNetworkDriver, NETWORK_MANAGERS } from './classes.ts';
import { networkContract } from './rpc.ts';

export async function start(daemon: Daemon): Promise<Running> {
  const binary = 'nova-network';
  const { network_manager } = daemon.flags.read(serviceFlags);
  const NetworkManager = await loadClass(NETWORK_MANAGERS, network_manager, 'network_manager');
  const driver = await makeNetworkDriver({ ...daemon, binary });
  const manager = new NetworkManager({ ...daemon, driver });
  const agree = ['network_manager', 'instance_name_template'] as const;
  return Service.start({ ...daemon, binary, contract: networkContract, manager, agree });
}

export const main = (): Promise<void> => runDaemon('nova-network', start);
