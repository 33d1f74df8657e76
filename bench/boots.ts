import { startPostgres } from '../test/rigs/postgres.ts';
import { startRabbitmq } from '../test/rigs/rabbitmq.ts';
import type { Scope } from '../test/rigs/tmp.ts';
import type { Bench } from './bench.ts';
import { sqliteFile, startCloud, type CloudSpec } from './cloud.ts';
import { figure, interleaved, type Floor } from './figure.ts';
import { seedCloud, seedProject } from './seed.ts';
import type { Open } from './workers/fixed_ips_writer.ts';
import { WorkerProcess } from './worker_process.ts';

type Where = Pick<CloudSpec, 'daemons' | 'flags' | 'sql_connection'>;

const APART = ['nova-network', 'nova-compute', 'nova-scheduler', 'nova-api'];

/** From RunInstances of the EC2 API to `running`, with the fake driver; the limit is what the database alone can do. */
export const boots: readonly Bench[] = [
  bootsOn('all in one', { at_least: 200 }, async () => ({ daemons: ['nova-all'] })),
  bootsOn('rabbitmq, sqlite', { at_least: 80 }, async (scope) => ({
    daemons: APART,
    flags: { fake_rabbit: false, ...(await startRabbitmq(scope)).flags },
  })),
  bootsOn('rabbitmq, postgresql', { at_least: 80 }, async (scope) => ({
    daemons: APART,
    flags: { fake_rabbit: false, ...(await startRabbitmq(scope)).flags },
    sql_connection: await (await startPostgres(scope)).createDatabase(),
  })),
];

function bootsOn(title: string, floor: { at_least: number }, where: (scope: Scope) => Promise<Where>): Bench {
  return {
    name: `boots, ${title}`,
    async *run(scope, { quick }) {
      const cloud = await startCloud(scope, {
        sql_connection: sqliteFile(scope),
        ...(await where(scope)),
        async seed(db) {
          await seedCloud(db);
          await seedProject(db, 'apollo');
        },
      });
      const ask = cloud.ec2('apollo', 'RunInstances', { ImageId: 'ami-00000001', InstanceType: 'm1.tiny' });
      const client = WorkerProcess.start(scope, 'boots_client');
      await client.ask('open', { sql_connection: cloud.sql_connection, ask });
      const bare = await bareTransactions(scope, cloud.sql_connection);

      const count = quick ? 50 : 200;
      const many = () => client.ask<number>('many', { count, in_flight: 16 });
      await many(); // warm
      const rate = await interleaved(quick ? 3 : 5, many, () => bare(16));
      yield figure(`boots, ${title}, 16 in flight`, '/s', rate, { of: 'value', ...floor });
      const p50 = await interleaved(
        quick ? 3 : 5,
        () => client.ask<number>('single', { count: quick ? 10 : 30 }),
        async () => 1000 / (await bare(1)),
      );
      const single: Floor | undefined = title === 'all in one' ? { of: 'value', at_most: 20 } : undefined;
      yield figure(`boots, ${title}, one alone, p50`, 'ms', p50, single);
    },
  };
}

/** @returns what measures the transactions of one row that the driver alone does in a second */
async function bareTransactions(scope: Scope, url: string): Promise<(lanes: number) => Promise<number>> {
  const network = { id: 0, cidr: '' }; // its addresses are not asked for
  const writers = new Map<number, WorkerProcess>();
  for (const lanes of [1, 16]) {
    const writer = WorkerProcess.start(scope, 'fixed_ips_writer');
    await writer.ask('open', { url, network, instance_ids: Array.from({ length: lanes }, () => 0) } satisfies Open);
    writers.set(lanes, writer);
  }
  return async (lanes) => {
    const pairs = 500;
    const begin = performance.now();
    await writers.get(lanes)?.ask('insertAndDelete', { count: pairs });
    return (2 * pairs * 1000) / (performance.now() - begin);
  };
}
