import { needs } from '../test/rigs/needs.ts';
import { startHost } from '../test/rigs/netns.ts';
import type { Scope } from '../test/rigs/tmp.ts';
import type { Bench } from './bench.ts';
import { figure, interleaved } from './figure.ts';
import { WorkerProcess } from './worker_process.ts';

const MANY = 10_000;
const FEW = 100;

/** One more rule of a security group, on a host of 200 guests with 10,000 rules and on one of 200 with 100. */
export const securityRules: Bench = {
  name: 'security rules',
  async *run(scope, { quick }) {
    const missing = needs('root', 'nsenter', 'unshare', 'iptables', 'ebtables', 'ipset');
    if (missing !== false) return void console.error(`security rules: left out, ${missing}`);
    const [many, few] = [await aHost(scope, MANY), await aHost(scope, FEW)];
    for (const host of [many, few]) await host.ask('change'); // the first of a process is slower
    const cost = await interleaved(
      quick ? 5 : 15,
      () => many.ask<number>('change'),
      () => few.ask<number>('change'),
    );
    const title = `security rules, ${MANY} over 200 instances`;
    yield figure(`${title}: a change is in force`, 's', { value: cost.value / 1000 }, { of: 'value', at_most: 1 });
    yield figure(`${title}: cost of a change beside ${FEW}`, 'ms', cost, { of: 'ratio', at_most: 3 });
  },
};

/** A namespace with these rules in force, and the process in it that changes them. */
async function aHost(scope: Scope, rules: number): Promise<WorkerProcess> {
  const host = await startHost(scope, `rules${rules}`);
  const worker = WorkerProcess.start(scope, 'security_rules_host', host.enter);
  const lines = await worker.ask<number>('open', { rules });
  if (lines < rules) throw new Error(`iptables has ${lines} lines where ${rules} rules are wanted`);
  return worker;
}
