import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { execute } from '../src/common/execute.ts';
import { projectRoot, tempDir } from '../test/rigs/tmp.ts';
import type { Bench } from './bench.ts';
import { startCloud } from './cloud.ts';
import { figure, interleaved } from './figure.ts';
import { startRaw } from './http.ts';
import { seedCloud, seedInstances, seedProject } from './seed.ts';
import { WorkerProcess } from './worker_process.ts';

const GUESTS = 1000;
/** As seedInstances gives them. */
const ADDRESS = '10.0.1.244';

/** What a guest waits for at its boot: an answer about itself, beside node:http with the same bytes. */
export const metadata: Bench = {
  name: 'metadata',
  async *run(scope, { quick }) {
    const api = await startCloud(scope, {
      daemons: ['nova-api'],
      flags: { use_forwarded_for: true },
      async seed(db) {
        await seedCloud(db);
        await seedProject(db, 'full');
        await seedInstances(db, 'full', GUESTS);
      },
    });
    const { origin } = api.ec2('full', 'DescribeInstances');
    const client = WorkerProcess.start(scope, 'http_client');
    const raw = await startRaw(scope);
    for (const path of ['/latest/meta-data/instance-id', '/2009-04-04/meta-data/']) {
      const ask = { origin, path, headers: { 'X-Forwarded-For': ADDRESS } };
      const changing = [api.sql_connection, api.sql_connection];
      const ours = { asks: [ask, await raw(ask)], changing };
      await client.ask('latencies', { ...ours, count: 50 }); // warm
      const [value, limit] = await client.ask<[number, number]>('latencies', { ...ours, count: quick ? 100 : 500 });
      yield figure(`metadata ${path}, p50`, 'ms', { value, limit }, { of: 'value', at_most: 5 });
    }
  },
};

/** A lease event, from dnsmasq's call until the script is over, beside an empty shell. */
export const dhcpbridge: Bench = {
  name: 'dhcpbridge',
  async *run(scope, { quick }) {
    const folder = tempDir(scope, 'dhcpbridge');
    const script = join(projectRoot(), 'bin/nova-dhcpbridge');
    const flagfile = join(folder, 'nova.flags');
    writeFileSync(flagfile, `--networks_path=${folder}\n`);
    const event = [script, 'add', '02:16:3e:00:00:02', '10.0.0.2', 'vm1'];
    const by_dnsmasq = { DNSMASQ_INTERFACE: 'br100', NETWORKS_PATH: folder };
    const by_hand = { DNSMASQ_INTERFACE: 'br100', NETWORKS_PATH: '', FLAGFILE: flagfile };
    const rounds = quick ? 10 : 40;
    const shell = () => took(['/bin/sh', '-c', ':'], {});
    const add = await interleaved(rounds, () => took(event, by_dnsmasq), shell);
    yield figure('dhcpbridge add', 'ms', add, { of: 'value', at_most: 150 });
    const init = await interleaved(rounds, () => took([script, 'init'], by_dnsmasq), shell);
    yield figure('dhcpbridge init', 'ms', init, { of: 'value', at_most: 150 });
    const node = () => took([process.execPath, '-e', ''], {});
    yield figure('dhcpbridge add, by hand with a flagfile', 'ms', await interleaved(rounds, () => took(event, by_hand), node)); // prettier-ignore
  },
};

async function took(argv: readonly string[], env: Record<string, string>): Promise<number> {
  const begin = performance.now();
  await execute(argv, { env });
  return performance.now() - begin;
}
