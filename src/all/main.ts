import { runDaemon } from '../common/daemon.ts';
import type { Daemon, Running } from '../common/service.ts';
import { start as startApi } from '../api/main.ts';
import { start as startCompute } from '../compute/main.ts';
import { start as startNetwork } from '../network/main.ts';
import { start as startObjectstore } from '../objectstore/main.ts';
import { start as startScheduler } from '../scheduler/main.ts';
import { startVolumes } from './volumes.ts';

/** What others need comes first; stopping goes the other way. */
const ORDER: [string, (daemon: Daemon) => Promise<Running | null>][] = [
  ['nova-objectstore', startObjectstore],
  ['nova-network', startNetwork],
  ['nova-volume', startVolumes],
  ['nova-compute', startCompute],
  ['nova-scheduler', startScheduler],
  ['nova-api', startApi],
];

/** Every daemon in this process, over one database and one bus. */
export async function start(daemon: Daemon): Promise<Running> {
  const running: Running[] = [];
  const stop = async () => {
    for (const service of running.toReversed()) await service.stop();
  };
  try {
    for (const [name, startOne] of ORDER) {
      const one = await startOne({ ...daemon, log: daemon.log.child({ daemon: name }) });
      if (one !== null) running.push(one);
    }
  } catch (err) {
    await stop();
    throw err;
  }
  return { stop };
}

export const main = (): Promise<void> => runDaemon('nova-all', start);
