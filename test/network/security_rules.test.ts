import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBus } from '../../src/common/daemon.ts';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { MemoryBus } from '../../src/common/rpc/memory_bus.ts';
import { SecurityGroupApi } from '../../src/compute/security_group_api.ts';
import { aContext, aNetwork, aProject } from '../builders.ts';
import { startDaemon, type FlagFile } from '../rigs/daemon.ts';
import { startLibvirtd } from '../rigs/libvirtd.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, tempDir } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { aCrowd } from './crowd.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'ebtables', 'ipset', 'rabbitmq-server', 'libvirtd', 'qemu-system-x86_64'); // prettier-ignore
const ctx = aContext();
const NEVER = 100_000;

test(
  'a change among 10,000 rules is in force on every host by its message alone, and by the periodic pass when that is lost',
  { skip, timeout: 600_000 },
  async (t) => {
    const { hosts } = await startLan(t, ['node1', 'node2']);
    const [node1, node2] = hosts as [Host, Host];
    const rabbit = await startRabbitmq(t, { host: node1 });
    const sql_connection = `sqlite:///${join(tempDir(t, 'db'), 'nova.sqlite')}`;
    const db = await connectDb(sql_connection);
    atEnd(t, () => db.destroy());
    await syncDb(db);
    await aProject(db);
    const network_id = await aNetwork(db, { cidr: '10.77.0.0/23', gateway: '10.77.0.1', broadcast: '10.77.1.255' });
    const [group = 0] = await aCrowd(db, { network_id, host: 'node1', instances: 200, rules: 10_000, first: '10.77.0.2' }); // prettier-ignore
    const [instance = 0] = await aCrowd(db, { network_id, host: 'node2', instances: 1, rules: 0, first: '10.77.1.9' });
    // The guest of node2 is in the first group of node1, too.
    await db.updateTable('security_group_instance_association').set({ security_group_id: group }).where('security_group_id', '=', instance).execute(); // prettier-ignore
    const flags: FlagFile = {
      ...rabbit.flags,
      sql_connection,
      network_manager: 'nova.network.manager.FlatDHCPManager',
      connection_type: 'libvirt',
      libvirt_type: 'qemu',
    };
    const computes = [];
    for (const host of [node1, node2]) {
      await startLibvirtd(t, { host });
      const options = { host, flags: { ...flags, periodic_interval: NEVER, job_poll_interval: NEVER } };
      computes.push(await startDaemon(t, 'nova-compute', options));
    }
    assert.ok((await linesOf(node1, 'nova-compute-sg-')) > 10_000);
    const bus = await openBus(Flags.of(rabbit.flags), silentLog);
    atEnd(t, () => bus.close());
    const api = new SecurityGroupApi({ db, flags: Flags.of(), bus, log: silentLog });
    const rule = (cidr: string) => ({ protocol: 'tcp', from_port: 22, to_port: 22, source: { cidr } });

    await api.authorize(ctx, { id: group }, [rule('203.0.113.1/32')]);
    for (const host of hosts)
      await until(`${host.name} was told`, async () => (await linesOf(host, '203.0.113.1/32')) === 1);
    await api.revoke(ctx, { id: group }, [rule('203.0.113.1/32')]);
    for (const host of hosts)
      await until(`${host.name} was told again`, async () => (await linesOf(host, '203.0.113.1/32')) === 0);

    // Nobody hears of the next one: what a broker that went away took with it.
    await computes[1]?.stop();
    await startDaemon(t, 'nova-compute', { host: node2, flags: { ...flags, periodic_interval: 1 } });
    const deaf = new SecurityGroupApi({ db, flags: Flags.of(), bus: new MemoryBus(), log: silentLog });
    await deaf.authorize(ctx, { id: group }, [rule('203.0.113.2/32')]);
    await until('node2 has found it', async () => (await linesOf(node2, '203.0.113.2/32')) === 1);
    assert.equal(await linesOf(node1, '203.0.113.2/32'), 0, 'node1, which has no periodic pass here, was not told');
  },
);

/** Rules of a host that have this in them. */
async function linesOf(host: Host, text: string): Promise<number> {
  const { stdout } = await host.exec(['iptables-save', '-t', 'filter']);
  return stdout.split('\n').filter((line) => line.startsWith('-A') && line.includes(text)).length;
}
