import { runDaemon } from '../common/daemon.ts';
import { Service, type Daemon, type Running } from '../common/service.ts';
import { managerClass, schedulingRules } from './classes.ts';
import { schedulerContract } from './rpc.ts';

export async function start(daemon: Daemon): Promise<Running> {
  const Manager = await managerClass(daemon.flags);
  const manager = new Manager({ ...daemon, ...(await schedulingRules(daemon.flags)) });
  return Service.start({ ...daemon, binary: 'nova-scheduler', contract: schedulerContract, manager });
}

export const main = (): Promise<void> => runDaemon('nova-scheduler', start);
