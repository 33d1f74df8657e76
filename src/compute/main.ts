import { runDaemon } from '../common/daemon.ts';
import { imageFetcher } from '../common/image/fetch.ts';
import { Service, type Daemon, type Running } from '../common/service.ts';
import { computeNetwork } from '../network/compute_side.ts';
import { managerClass, makeComputeDriver, makeFirewallDriver } from './classes.ts';
import { computeContract } from './rpc.ts';

export async function start(daemon: Daemon): Promise<Running> {
  const { flags, log } = daemon;
  const driver = await makeComputeDriver({ flags, log });
  const network = await computeNetwork({ flags, log });
  const firewall = await makeFirewallDriver({ flags, log });
  const Manager = await managerClass(flags);
  const manager = new Manager({ ...daemon, driver, firewall, network, fetchImage: imageFetcher(daemon) });
  return Service.start({
    ...daemon,
    binary: 'nova-compute',
    contract: computeContract,
    manager,
    agree: ['network_manager', 'instance_name_template'],
  });
}

export const main = (): Promise<void> => runDaemon('nova-compute', start);
