import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { connectDb } from '../../src/common/db/connect.ts';
import { viewInstances } from '../../src/common/db/instance_views.ts';
import { openBus } from '../../src/common/daemon.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { MemoryBus } from '../../src/common/rpc/memory_bus.ts';
import { IptablesFirewallDriver } from '../../src/compute/drivers/libvirt/firewall.ts';
import { tapName } from '../../src/compute/logic/tap_name.ts';
import { GuestFirewall } from '../../src/compute/manager/guest_firewall.ts';
import { ProviderFirewallApi } from '../../src/compute/provider_firewall_api.ts';
import { SecurityGroupApi } from '../../src/compute/security_group_api.ts';
import { networkClient } from '../../src/network/rpc.ts';
import { aContext, anInstance, aProject } from '../builders.ts';
import { Daemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { startGuest, type Guest } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'bridge', 'iptables', 'ip6tables', 'ebtables', 'ipset', 'dnsmasq', 'busybox', 'ping', 'rabbitmq-server'); // prettier-ignore
const ctx = aContext();
const PING = { protocol: 'icmp', from_port: -1, to_port: -1 };

interface Guest6 extends Guest {
  id: number;
  v6: string;
}

/** A network and compute host with IPv6: a real nova-network, and the rules of nova-compute; `world` is outside. */
async function aCloud(t: Scope) {
  const { hosts } = await startLan(t, ['net1', 'world', 'broker']);
  const [net1, world, broker] = hosts as [Host, Host, Host];
  for (const [host, address] of [
    [net1, 'fd00:99::1'],
    [world, 'fd00:99::2'],
  ] as const)
    // prettier-ignore
    await host.exec(['ip', '-6', 'addr', 'add', `${address}/64`, 'dev', 'eth0', 'nodad']);
  await world.exec(['ip', '-6', 'route', 'add', 'fd00:77::/48', 'via', 'fd00:99::1']);
  const rabbit = await startRabbitmq(t, { host: broker });
  const state_path = tempDir(t, 'state');
  const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
  const own = {
    ...rabbit.flags,
    rabbit_retry_interval: 0,
    state_path,
    sql_connection,
    network_manager: 'nova.network.manager.FlatDHCPManager',
    fixed_range: '10.77.0.0/24',
    ec2_dmz_host: net1.address,
    use_ipv6: true,
  };
  const daemon = new Daemon(tempDir(t, 'daemon'), 'nova-network', { host: net1, flags: own });
  const manage = async (...words: string[]) =>
    (await net1.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`, ...words])).stdout; // prettier-ignore
  await manage('db', 'sync');
  await manage('network', 'create', '10.77.0.0/24', '--fixed_range_v6=fd00:77::/48');
  atEnd(t, () => daemon.stop());
  await daemon.start();

  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await aProject(db);
  const bus = await openBus(Flags.of(rabbit.flags), silentLog);
  atEnd(t, () => bus.close());
  const network = networkClient(bus);
  const flags = Flags.of({ use_ipv6: true, allow_project_net_traffic: false });
  const nowhere = new MemoryBus();
  const driver = new IptablesFirewallDriver({ flags, log: silentLog, prefix: net1.enter });
  const firewall = new GuestFirewall({ db, flags, log: silentLog, bus: nowhere, host: 'net1', firewall: driver });
  const groups = new SecurityGroupApi({ db, flags, bus: nowhere, log: silentLog });
  const provider = new ProviderFirewallApi({ db, bus: nowhere, log: silentLog });
  const { id: group } = await groups.get(ctx, { name: 'default' });

  const launch = async (): Promise<Guest6> => {
    const id = await anInstance(db, { task_state: 'networking', host: 'net1' });
    await db.insertInto('security_group_instance_association').values({ instance_id: id, security_group_id: group, created_at: 'now' }).execute(); // prettier-ignore
    const [nic] = await network.allocateForInstance(ctx, { instance_id: id, project_id: 'apollo', host: 'net1', hostname: 'web' }); // prettier-ignore
    assert.ok(nic?.address_v6);
    const guest = await startGuest(t, net1, nic.mac, 'br100', tapName(id, 0));
    return Object.assign(guest, { id, v6: nic.address_v6 });
  };
  /** What the rules say by now is in force. */
  const settled = () => firewall.refresh();
  return { net1, world, db, firewall, groups, provider, launch, settled };
}

/** The guest's addresses that it may speak from; a tentative one is no source yet. */
const addresses = async (guest: Host): Promise<string> =>
  (await guest.exec(['ip', '-6', '-br', 'addr', 'show', 'dev', 'eth0', '-tentative'])).stdout;

async function hasAddress(guest: Host, address: string): Promise<void> {
  const has = async () => (await addresses(guest)).includes(`${address}/64`);
  await until(`the guest has ${address}`, has, () => addresses(guest));
}

/** Whether one ping of three is answered. */
const pings = async (from: Host, to: string, ...more: string[]): Promise<boolean> =>
  (await from.exec(['ping', '-6', '-c3', '-i0.3', '-W5', ...more, to], { ok: [0, 1, 2] })).exit_code === 0;

/** A guest as a router that nobody asked for, with a prefix of its own. @returns what ends it */
async function advertise(scope: Scope, guest: Guest): Promise<() => Promise<void>> {
  const own = ['fd00:bad::1/64', 'dev', 'eth0'];
  await guest.exec(['ip', '-6', 'addr', 'add', ...own, 'nodad']);
  const argv = ['dnsmasq', '-k', '--conf-file=', '--port=0', '--user=root', '--interface=eth0', '--enable-ra'];
  const more = ['--dhcp-range=fd00:bad::,ra-only,64', '--leasefile-ro', `--pid-file=${join(guest.dir, 'pid')}`, '--log-facility=-', '--ra-param=eth0,4']; // prettier-ignore
  const log = join(guest.dir, 'ra.log');
  const router = new Program({ name: 'dnsmasq', argv: [...argv, ...more], log, enter: guest.enter });
  atEnd(scope, () => router.kill());
  const advertised = async () => (await guest.exec(['cat', log])).stdout.split('RTR-ADVERT').length - 1;
  const before = await guest.exec(['touch', log]).then(advertised);
  await router.start(async () => (await advertised()) > before);
  return async () => {
    await router.kill();
    await guest.exec(['ip', '-6', 'addr', 'del', ...own]);
  };
}

/** Forgets its addresses and asks for routers again. */
async function askAgain(guest: Host): Promise<void> {
  await guest.exec(['ip', 'link', 'set', 'eth0', 'down']);
  await guest.exec(['ip', 'link', 'set', 'eth0', 'up']);
}

test(
  'with --use_ipv6 guests have the address that is told, a way out, and rules, and none passes as another or as a router',
  { skip, timeout: 900_000 },
  async (t) => {
    const { net1, world, db, firewall, groups, provider, launch, settled } = await aCloud(t);
    const [a, b] = [await launch(), await launch()];

    // Before the rules: the address of each is as nova-network and the APIs say, and the way out works.
    for (const guest of [a, b]) await hasAddress(guest, guest.v6);
    const shown = await viewInstances(db, ctx, { use_ipv6: true });
    assert.deepEqual(shown.map((view) => view.addresses[0]?.address_v6), [a.v6, b.v6]); // prettier-ignore
    assert.equal(await pings(a, b.v6), true);
    assert.equal(await pings(a, 'fd00:99::2'), true);
    const rogue = (guest: Guest6) => `fd00:bad::${guest.v6.slice('fd00:77::'.length)}`;
    const silence = await advertise(t, a);
    await hasAddress(b, rogue(b));
    await silence();
    const other = ['fd00:77::bad/64', 'dev', 'eth0'];
    const spoofed = async () => {
      await a.exec(['ip', '-6', 'addr', 'add', ...other, 'nodad']);
      const answered = await pings(a, b.v6, '-I', 'fd00:77::bad');
      await a.exec(['ip', '-6', 'addr', 'del', ...other]);
      return answered;
    };
    assert.equal(await spoofed(), true);
    for (const guest of [a, b]) {
      await askAgain(guest);
      await hasAddress(guest, guest.v6);
      assert.doesNotMatch(await addresses(guest), /fd00:bad:/);
    }

    await firewall.initHost(t.signal);
    assert.equal(await pings(a, b.v6), false);
    assert.equal(await pings(net1, b.v6), false);
    assert.equal(await pings(world, b.v6), false);
    assert.equal(await pings(a, 'fd00:99::2'), true);

    // Ranges, source groups, and what is blocked for all.
    await groups.authorize(ctx, { name: 'default' }, [{ ...PING, source: { cidr: 'fd00:99::/64' } }]);
    await settled();
    assert.equal(await pings(world, b.v6), true);
    assert.equal(await pings(a, b.v6), false);
    await groups.authorize(ctx, { name: 'default' }, [{ ...PING, source: { group: { name: 'default' } } }]);
    await settled();
    assert.equal(await pings(a, b.v6), true);
    await provider.block(ctx, 'fd00:99::/64');
    await settled();
    assert.equal(await pings(world, b.v6), false);
    assert.equal(await pings(a, b.v6), true);

    // As itself or not at all, whatever groups let in; and a guest is no router.
    await groups.authorize(ctx, { name: 'default' }, [{ protocol: '-1', source: { cidr: '::/0' } }]);
    await settled();
    assert.equal(await spoofed(), false);
    await advertise(t, a);
    await askAgain(b);
    await hasAddress(b, b.v6);
    assert.doesNotMatch(await addresses(b), /fd00:bad:/);
    assert.equal(await pings(b, 'fd00:99::2'), true);
  },
);
