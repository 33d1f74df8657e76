import assert from 'node:assert/strict';
import { sleep } from '../../src/common/clock.ts';
import { makeContext } from '../../src/common/context.ts';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { execute } from '../../src/common/execute.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { MemoryBus } from '../../src/common/rpc/memory_bus.ts';
import { IptablesFirewallDriver } from '../../src/compute/drivers/libvirt/firewall.ts';
import { GuestFirewall } from '../../src/compute/manager/guest_firewall.ts';
import { SecurityGroupApi } from '../../src/compute/security_group_api.ts';
import { aNetwork, aProject } from '../../test/builders.ts';
import { aCrowd } from '../../test/network/crowd.ts';
import { answerParent } from './worker.ts';

const HOST = 'node1';
const INSTANCES = 200;
const ctx = makeContext({ user_id: 'ann', project_id: 'apollo', roles: ['netadmin'] });

let api: SecurityGroupApi;
let groups: number[];
let told: Promise<void> = Promise.resolve();
let changes = 0;

/** A compute host, in the network namespace that this process is in. @returns how many lines iptables has for it */
async function open({ rules }: { rules: number }): Promise<number> {
  const db = await connectDb('sqlite://');
  await syncDb(db);
  await aProject(db);
  const network_id = await aNetwork(db, { cidr: '10.77.0.0/24', gateway: '10.77.0.1', broadcast: '10.77.0.255' });
  groups = await aCrowd(db, { network_id, host: HOST, instances: INSTANCES, rules, first: '10.77.0.2' });
  const flags = Flags.of();
  const bus = new MemoryBus();
  const driver = new IptablesFirewallDriver({ flags, log: silentLog });
  const firewall = new GuestFirewall({ db, flags, log: silentLog, bus, host: HOST, firewall: driver });
  await bus.consume('compute', HOST, () => (told = firewall.refresh()));
  api = new SecurityGroupApi({ db, flags, bus, log: silentLog });
  await firewall.initHost(new AbortController().signal);
  return (await execute(['iptables-save', '-t', 'filter'])).stdout.split('\n').filter((line) => line.startsWith('-A')).length; // prettier-ignore
}

/** One rule that is asked for at the API. @returns milliseconds until it is in force, looked for afterwards */
async function change(): Promise<number> {
  const id = groups[changes++ % groups.length] as number;
  const rule = { protocol: 'tcp', from_port: 22, to_port: 22, source: { cidr: `203.0.113.${changes % 250}/32` } };
  const begin = performance.now();
  await api.authorize(ctx, { id }, [rule]);
  await new Promise((resolve) => setImmediate(resolve)); // the bus hands the nudge on
  await told;
  const ms = performance.now() - begin;
  const chain = `nova-compute-sg-${id.toString(16)}`;
  const { stdout } = await execute(['iptables', '-S', chain]);
  assert.match(stdout, new RegExp(`-s ${rule.source.cidr} -p tcp -m tcp --dport 22 -j ACCEPT`));
  await sleep(3 * ms); // who comes right after another waits for the pause between runs: see coalesced.ts
  return ms;
}

answerParent({ open, change });
