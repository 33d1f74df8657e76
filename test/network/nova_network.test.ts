import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { moveNetwork } from '../../src/common/db/networks.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { openBus } from '../../src/common/daemon.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { networkClient } from '../../src/network/rpc.ts';
import { createNetworks } from '../../src/network/manager/create_networks.ts';
import { aContext, anInstance } from '../builders.ts';
import { startDaemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { seenAs, startEcho, startGuest, stateOf } from './guests.ts';

const skip = needs(
  'root',
  'nsenter',
  'unshare',
  'ip',
  'iptables',
  'dnsmasq',
  'busybox',
  'socat',
  'ss',
  'rabbitmq-server',
);

/** A real nova-network on a host of its own, with a broker on another, and this process as its caller. */
async function aNetworkHost(scope: Scope) {
  const { hosts } = await startLan(scope, ['net1', 'broker']);
  const [net1, broker] = hosts as [Host, Host];
  const before = await stateOf(net1);
  const rabbit = await startRabbitmq(scope, { host: broker });
  const state_path = tempDir(scope, 'state');
  const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(scope, () => db.destroy());
  await syncDb(db);
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.77.0.0/24' });
  const flags = {
    ...rabbit.flags,
    rabbit_retry_interval: 0,
    state_path,
    sql_connection,
    network_manager: 'nova.network.manager.FlatDHCPManager',
    fixed_range: '10.77.0.0/24',
    ec2_dmz_host: net1.address,
    periodic_interval: 1,
  };
  const daemon = await startDaemon(scope, 'nova-network', { host: net1, flags });
  const bus = await openBus(Flags.of(rabbit.flags), silentLog);
  atEnd(scope, () => bus.close());
  return { net1, before, daemon, db, network: networkClient(bus) };
}

async function fixedIpUntil(db: NovaDb, address: string, is: (row: { leased: number } | undefined) => boolean) {
  const row = db.selectFrom('fixed_ips').select('leased').where('address', '=', address);
  await until(`the row of ${address} is as wanted`, async () => is(await row.executeTakeFirst()));
}

test(
  'guests get what nova-network gave their instances, also while it is away, and nothing of it is left',
  { skip },
  async (t) => {
    const { net1, before, daemon, db, network } = await aNetworkHost(t);
    const allocate = async () => {
      const instance_id = await anInstance(db, { task_state: 'networking' });
      const args = { instance_id, project_id: 'apollo', host: 'node1', hostname: 'web' };
      const [nic] = await network.allocateForInstance(aContext(), args);
      assert.ok(nic);
      return { ...nic, instance_id };
    };
    const [first, second] = [await allocate(), await allocate()];

    const guest = await startGuest(t, net1, first.mac);
    assert.equal(await guest.dhcp(), `${first.address}/24 router 10.77.0.1 server 10.77.0.1 domain novalocal name web`);
    await fixedIpUntil(db, first.address, (row) => row?.leased === 1);
    await startEcho(t, net1, 8773);
    assert.equal(await seenAs(guest, '169.254.169.254', 80), first.address);

    await daemon.kill();
    const late = await startGuest(t, net1, second.mac);
    assert.match(await late.dhcp(), new RegExp(`^${second.address}/24 `));
    assert.equal(await seenAs(late, '169.254.169.254', 80), second.address);
    const running = await stateOf(net1);
    await daemon.start();
    await fixedIpUntil(db, second.address, (row) => row?.leased === 1);
    assert.equal(await stateOf(net1), running);

    await network.deallocateForInstance(aContext(), { instance_id: first.instance_id });
    await net1.exec(['dhcp_release', 'br100', first.address, first.mac]); // what the lease's end does, without its two minutes
    await fixedIpUntil(db, first.address, (row) => row === undefined);

    await daemon.stop();
    await db.updateTable('networks').set({ deleted: 1 }).execute(); // whose network it was is of no matter by now
    await guest.stop();
    await late.stop();
    const manage = [process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`];
    await net1.exec([...manage, '--host=net1', 'network', 'take_down']);
    assert.equal(await stateOf(net1), before);
  },
);

test(
  'a guest that knows the gateway by the MAC of its former host reaches it at the new one without asking anew',
  { skip },
  async (t) => {
    const { hosts } = await startLan(t, ['net1', 'net2', 'guest']);
    const [net1, net2, guest] = hosts as [Host, Host, Host];
    const state_path = tempDir(t, 'state');
    const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
    const db = await connectDb(sql_connection);
    atEnd(t, () => db.destroy());
    await syncDb(db);
    await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.77.0.0/24' });
    const start = (host: Host) => {
      const network = { network_manager: 'nova.network.manager.FlatDHCPManager', fixed_range: '10.77.0.0/24', flat_interface: 'eth1' }; // prettier-ignore
      const own = { state_path: join(state_path, host.name), ec2_dmz_host: host.address };
      const flags = { fake_rabbit: true, sql_connection, periodic_interval: 1, ...network, ...own };
      return startDaemon(t, 'nova-network', { host, flags });
    };
    const macOf = async (host: Host) => (await host.exec(['cat', '/sys/class/net/br100/address'])).stdout.trim();
    const known = async () => /lladdr (\S+)/.exec((await guest.exec(['ip', 'neigh', 'show', '10.77.0.1'])).stdout)?.[1];
    const pings = () => guest.exec(['ping', '-c1', '-W5', '10.77.0.1']);
    await start(net1);
    await guest.exec(['ip', 'addr', 'add', '10.77.0.9/24', 'dev', 'eth1']);
    await pings();
    assert.equal(await known(), await macOf(net1));

    await moveNetwork(db, 1, 'net2');
    const gateway = async () => (await net1.exec(['ip', 'addr'])).stdout.includes('10.77.0.1/24');
    await until('net1 has let go of the gateway address', async () => !(await gateway()));
    await start(net2);

    const mac = await macOf(net2);
    await until(
      `the guest has ${mac}`,
      async () => (await known()) === mac,
      async () => `it has ${await known()}`,
    );
    await pings();
  },
);

test('a gateway address that was changed leaves the bridge, and what else is on it stays', { skip }, async (t) => {
  const { hosts } = await startLan(t, ['net1']);
  const [net1] = hosts as [Host];
  const state_path = tempDir(t, 'state');
  const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.77.0.0/24' });
  const network = { network_manager: 'nova.network.manager.FlatDHCPManager', fixed_range: '10.77.0.0/24' };
  const own = { state_path, sql_connection, fake_rabbit: true, periodic_interval: 1, ec2_dmz_host: net1.address };
  const daemon = await startDaemon(t, 'nova-network', { host: net1, flags: { ...network, ...own } });
  const on = async () =>
    (await net1.exec(['ip', '-4', '-br', 'addr', 'show', 'dev', 'br100'])).stdout.split(/\s+/).slice(2, -1);
  await net1.exec(['ip', 'addr', 'add', '10.78.0.50/24', 'dev', 'br100']);
  await net1.exec(['ip', 'addr', 'add', '203.0.113.5/32', 'dev', 'br100']);

  const change = (gateway: string) => db.updateTable('networks').set({ gateway }).execute();
  const has = async (gateway: string) => {
    await until(`it has ${gateway}`, async () => (await on()).includes(`${gateway}/24`));
    assert.deepEqual((await on()).toSorted(), [`${gateway}/24`, '10.78.0.50/24', '203.0.113.5/32']);
  };

  await change('10.77.0.8');
  await has('10.77.0.8');
  const servers = async () => (await net1.exec(['pgrep', '-af', join(state_path, 'networks')], { ok: [0, 1] })).stdout;
  await until('DHCP answers from there', async () => (await servers()).includes('--listen-address=10.77.0.8'));

  await daemon.kill(); // the next one knows by the DHCP server what is to go
  await change('10.77.0.9');
  await daemon.start();
  await has('10.77.0.9');
});
