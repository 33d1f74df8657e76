import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { allNetworks } from '../../src/common/db/networks.ts';
import { openBus } from '../../src/common/daemon.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import type { NetworkInfo } from '../../src/common/network_info.ts';
import { createVlanNetworks } from '../../src/network/manager/create_networks.ts';
import { networkClient } from '../../src/network/rpc.ts';
import { aContext, anInstance, aProject } from '../builders.ts';
import { startDaemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { OPENVSWITCH, startOpenVswitch } from '../rigs/openvswitch.ts';
import { Program } from '../rigs/program.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { seenAs, startEcho, startGuest, stateOf, type Guest } from './guests.ts';

const skip = needs(
  'root',
  'nsenter',
  'unshare',
  'ip',
  'iptables',
  'dnsmasq',
  'dhcp_release',
  'busybox',
  'ping',
  'socat',
  'ss',
  'tcpdump',
  'rabbitmq-server',
  ...OPENVSWITCH,
);

/** What nova-compute does on its host, in a process of its own: as after a restart, it knows what the database says. */
const COMPUTE_SIDE = `
  const [dist, flags_json, verb, json] = process.argv.slice(1);
  const { computeNetwork } = await import(dist + '/network/compute_side.js');
  const { guestBridges } = await import(dist + '/common/db/project_networks.js');
  const { connectDb } = await import(dist + '/common/db/connect.js');
  const { Flags } = await import(dist + '/common/flags.js');
  const { silentLog } = await import(dist + '/common/log.js');
  const given = JSON.parse(flags_json);
  const network = await computeNetwork({ flags: Flags.of(given), log: silentLog });
  const { signal } = new AbortController();
  if (verb === 'setup') await network.setupComputeNetwork(JSON.parse(json), signal);
  else {
    const db = await connectDb(given.sql_connection);
    await network.leaveNetworks(() => guestBridges(db, given.host), signal);
    await db.destroy();
  }`;

interface Card extends NetworkInfo {
  instance_id: number;
}

/**
 * nova-network on net1, the compute side on net1 and node1, and Open vSwitch on both; projects apollo and borealis, and
 * networks of 16 addresses from 10.77.0.0/24 on.
 */
async function aVlanCloud(t: Scope) {
  const lan = await startLan(t, ['net1', 'node1', 'world']);
  const [net1, node1, world] = lan.hosts as [Host, Host, Host];
  for (const host of [net1, node1]) await startOpenVswitch(t, { host });
  const rabbit = await startRabbitmq(t, { host: net1 });
  const before = await Promise.all([stateOf(net1), stateOf(node1)]);
  const sql_connection = `sqlite:///${join(tempDir(t, 'state'), 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  await aProject(db, 'apollo');
  await aProject(db, 'borealis', 'bob');
  const asked = { fixed_range: '10.77.0.0/24', num_networks: 2, network_size: 16 };
  await createVlanNetworks({ db, flags: Flags.of() }, asked);
  const flags = {
    ...rabbit.flags,
    sql_connection,
    network_manager: 'nova.network.manager.VlanManager',
    linuxnet_interface_driver: 'nova.network.linux_net.LinuxOVSInterfaceDriver',
    fixed_range: '10.77.0.0/24',
    ec2_dmz_host: net1.address,
    force_dhcp_release: true,
    periodic_interval: 1,
  };
  const daemon = await startDaemon(t, 'nova-network', { host: net1, flags });
  const bus = await openBus(Flags.of(rabbit.flags), silentLog);
  atEnd(t, () => bus.close());
  const network = networkClient(bus);

  const compute = async (host: Host, verb: 'setup' | 'leave', nics: readonly NetworkInfo[] = []) => {
    const given = JSON.stringify({ ...flags, host: host.name });
    const words = [new URL('../../src', import.meta.url).href, given, verb, JSON.stringify(nics)];
    await host.exec([process.execPath, '--input-type=module', '-e', COMPUTE_SIDE, '--', ...words]);
  };
  const launch = async (project_id: string, host: Host, { vpn = false } = {}): Promise<Card> => {
    const instance_id = await anInstance(db, { project_id, host: host.name, task_state: 'networking' });
    const args = { instance_id, project_id, host: host.name, hostname: 'web', vpn };
    const [nic] = await network.allocateForInstance(aContext({ project_id }), args);
    assert.ok(nic);
    await compute(host, 'setup', [nic]);
    return { ...nic, instance_id };
  };
  const boot = (host: Host, { mac, bridge, instance_id }: Card) =>
    startGuest(t, host, mac, bridge, `tap-i${instance_id}`);
  const terminate = async ({ instance_id }: Card) => {
    await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', instance_id).execute();
    await network.deallocateForInstance(aContext(), { instance_id });
  };
  return { lan, net1, node1, world, before, db, daemon, launch, boot, compute, terminate };
}

/** Every frame on a host's way to the others, as tcpdump tells it. */
async function capture(t: Scope, hub: Host, port: string): Promise<() => string> {
  const log = join(hub.dir, 'trunk.log');
  const program = new Program({
    name: 'tcpdump',
    argv: ['tcpdump', '-Z', 'root', '-l', '-e', '-n', '-i', port],
    log,
    enter: hub.enter,
  });
  atEnd(t, () => program.kill());
  await program.start(async () => readFileSync(log, 'utf8').includes('listening on'));
  return () => readFileSync(log, 'utf8');
}

const pings = async (from: Host, to: string): Promise<boolean> =>
  (await from.exec(['ping', '-c', '2', '-i', '0.2', '-W', '5', to], { ok: [0, 1, 2] })).exit_code === 0;
const linksOf = async (host: Host) => (await host.exec(['ip', '-br', 'link'])).stdout;
const ports = async (host: Host) =>
  (await host.exec(['ovs-vsctl', 'list-ports', 'br-int'])).stdout.trim().split('\n').sort();

test(
  'projects on the same two hosts have a VLAN each, tagged on the wire between them, and do not reach each other',
  { skip, timeout: 600_000 },
  async (t) => {
    const { lan, net1, node1, world, before, db, daemon, launch, boot, compute, terminate } = await aVlanCloud(t);
    const on_trunk = await capture(t, lan.switch, 'node1-eth1');
    const a = [await launch('apollo', net1), await launch('apollo', node1)] as const;
    const b = [await launch('borealis', net1), await launch('borealis', node1)] as const;
    const vpn = await launch('apollo', node1, { vpn: true });
    assert.deepEqual([...a, ...b, vpn].map(({ vlan, bridge, address }) => [vlan, bridge, address]), [
      [100, 'br100', '10.77.0.3'],
      [100, 'br100', '10.77.0.4'],
      [101, 'br101', '10.77.0.19'],
      [101, 'br101', '10.77.0.20'],
      [100, 'br100', '10.77.0.2'],
    ]); // prettier-ignore
    assert.deepEqual(await ports(node1), ['eth1', 'vlan100', 'vlan101']);

    const guests: Guest[] = [];
    for (const [host, card] of [
      [net1, a[0]],
      [node1, a[1]],
      [net1, b[0]],
      [node1, b[1]],
      [node1, vpn],
    ] as const) {
      const guest = await boot(host, card);
      assert.match(await guest.dhcp(), new RegExp(`^${card.address}/28 router ${card.gateway} `));
      guests.push(guest);
    }
    const [a1, a2, b1, b2, gate] = guests as [Guest, Guest, Guest, Guest, Guest];

    assert.ok(await pings(a1, a[1].address), 'over the trunk');
    assert.ok(await pings(b2, b[0].address));
    for (const [from, to] of [
      [b1, a[0].address],
      [b1, a[1].address],
      [b2, a[0].address],
      [a2, b[1].address],
    ] as const)
      assert.equal(await pings(from, to), false, `${to} by way of the gateway`);
    await b2.exec(['ip', 'route', 'add', `${a[1].address}/32`, 'dev', 'eth0']);
    assert.equal(await pings(b2, a[1].address), false, 'as if it were a neighbour');
    assert.ok(await pings(b2, world.address), 'the way out');

    // all are called web: the name is the last one's
    const asks = async (host: Host, name: string, server: string | null) =>
      (await host.exec(['timeout', '5', 'busybox', 'nslookup', name, server ?? ''], { ok: [0, 1, 124, 143] })).stdout;
    assert.match(await asks(a2, vpn.address, a[0].gateway), /web\.novalocal/, 'of its own network');
    assert.match(await asks(net1, vpn.address, a[0].gateway), /web\.novalocal/, 'the host itself');
    assert.doesNotMatch(await asks(b2, vpn.address, a[0].gateway), /novalocal/, 'another project’s names');

    const frames = on_trunk();
    assert.match(frames, /vlan 100, .* 10\.77\.0\.3 > 10\.77\.0\.4: ICMP echo request/);
    assert.match(frames, /vlan 101, .* 10\.77\.0\.20 > 10\.77\.0\.19: ICMP echo request/);
    const strays = frames.split('\n').filter((line) => line.includes('10.77.0.') && !/vlan 10[01], /.test(line));
    assert.deepEqual(strays, []);

    await startEcho(t, net1, 8773);
    assert.equal(await seenAs(a2, '169.254.169.254', 80), a[1].address);

    await answersUdp(t, gate, 1194);
    const knock = ['socat', '-t', '3', '-', `UDP:${net1.address}:1000`];
    const through = async () => (await world.exec(knock, { input: 'hello\n' })).stdout.trim();
    await until('the VPN instance is reached at the port of its network', async () => (await through()) === world.address); // prettier-ignore

    for (const guest of [a1, a2, gate]) await guest.stop();
    for (const card of [a[0], a[1], vpn]) await terminate(card);
    await until('the network of apollo is free', async () => (await allNetworks(db))[0]?.project_id === null);
    await until('nova-network has taken its bridge away', async () => !(await linksOf(net1)).includes('br100'));
    for (const host of [net1, node1]) await compute(host, 'leave');
    assert.ok(await pings(b1, b[1].address), 'borealis notices nothing');
    for (const host of [net1, node1]) {
      assert.doesNotMatch(await stateOf(host), /br100|vlan100|10\.77\.0\.[1-4]\b/);
      assert.deepEqual(await ports(host), ['eth1', 'vlan101']);
    }

    await b1.stop();
    await b2.stop();
    await daemon.stop();
    const manage = [process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`];
    for (const host of [net1, node1]) await host.exec([...manage, `--host=${host.name}`, 'network', 'take_down']);
    assert.deepEqual(await Promise.all([stateOf(net1), stateOf(node1)]), before);
    assert.deepEqual([await ports(net1), await ports(node1)], [['eth1'], ['eth1']]);
  },
);

/** A server that tells each who sends it a datagram the address it was seen with. */
async function answersUdp(t: Scope, host: Host, port: number): Promise<void> {
  const server = new Program({
    name: 'socat',
    argv: ['socat', `UDP4-RECVFROM:${port},fork`, 'SYSTEM:echo $SOCAT_PEERADDR'],
    log: join(host.dir, 'udp.log'),
    enter: host.enter,
  });
  atEnd(t, () => server.kill());
  await server.start(async () => (await host.exec(['ss', '-lun'])).stdout.includes(`:${port} `));
}
