import { runDaemon } from '../common/daemon.ts';
import { defineFlags, string } from '../common/flags.ts';
import { Service, type Daemon, type Running } from '../common/service.ts';
import { managerClass, makeVolumeDriver } from './classes.ts';
import { volumeContract } from './rpc.ts';

export const volumeDriverFlags = defineFlags({
  volume_driver: string('nova.volume.driver.ISCSIDriver', 'What keeps volumes, by its dotted name'),
});

/** @param volume_driver instead of the flag's */
export async function start(
  daemon: Daemon,
  volume_driver = daemon.flags.read(volumeDriverFlags).volume_driver,
): Promise<Running> {
  const driver = await makeVolumeDriver(volume_driver, daemon);
  const Manager = await managerClass(daemon.flags);
  const manager = new Manager({ ...daemon, driver, volume_driver });
  const agree = ['volume_name_template', 'snapshot_name_template'] as const;
  return Service.start({ ...daemon, binary: 'nova-volume', contract: volumeContract, manager, agree });
}

export const main = (): Promise<void> => runDaemon('nova-volume', start);
