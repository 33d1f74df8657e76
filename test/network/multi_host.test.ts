import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { connectDb } from '../../src/common/db/connect.ts';
import { Flags } from '../../src/common/flags.ts';
import { MemoryBus } from '../../src/common/rpc/memory_bus.ts';
import { hostV6 } from '../../src/network/logic/addresses.ts';
import { NetworkApi } from '../../src/network/api.ts';
import { aContext } from '../builders.ts';
import { startDaemon, type Daemon, type FlagFile } from '../rigs/daemon.ts';
import { at, ec2, instancesOf } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { seenAs, startEcho, startGuest, type Guest } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'dnsmasq', 'busybox', 'socat', 'ss', 'pgrep', 'ping', 'rabbitmq-server'); // prettier-ignore

/** A compute host with its own part of the network. */
interface Node {
  host: Host;
  daemons: Daemon[];
  /** Its folder for dnsmasq's files. */
  networks: string;
}

interface Launched extends Guest {
  id: string;
  fixed: string;
  mac: string;
}

/**
 * flagfiles/multi_host with a multi_host network: a controller with broker, API and scheduler, and two hosts with nova-network,
 * nova-compute (its guests are namespaces here) and the metadata service; `world` is outside.
 */
async function aCloud(t: Scope) {
  const { hosts, cidr } = await startLan(t, ['controller', 'node1', 'node2', 'world']);
  const [controller, node1, node2, world] = hosts as [Host, Host, Host, Host];
  const rabbit = await startRabbitmq(t, { host: controller });
  const state = tempDir(t, 'state');
  const sql_connection = `sqlite:///${join(state, 'nova.sqlite')}`;
  const flags: FlagFile = {
    flagfile: join(projectRoot(), 'flagfiles/multi_host/common.flags'),
    ...rabbit.flags,
    rabbit_userid: 'guest',
    rabbit_password: 'guest',
    rabbit_retry_interval: 0,
    sql_connection,
    fixed_range: '10.77.0.0/24',
    flat_network_dhcp_start: '10.77.0.2',
    ec2_host: controller.address,
    s3_host: controller.address,
    connection_type: 'fake',
    use_ipv6: true,
    periodic_interval: 2,
    fixed_ip_disassociate_timeout: 4,
  };
  const on = (host: Host, binary: string, more: FlagFile = {}) =>
    startDaemon(t, binary, {
      host,
      flags: { ...flags, state_path: host.dir, routing_source_ip: host.address, ...more },
    });
  const given = Object.entries({ ...flags, state_path: state }).map(([name, value]) => `--${name}=${String(value)}`);
  const manage = async (...words: string[]) =>
    (await controller.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), ...given, ...words])).stdout;
  await manage('db', 'sync');
  await manage('user', 'admin', 'ann', 'ann-access', 'ann-secret');
  await manage('project', 'create', 'apollo', 'ann');
  await manage('network', 'create', '10.77.0.0/24', '--multi_host=T', '--fixed_range_v6=fd00:77::/48');
  await manage('floating', 'create', cidr.replace('.0/24', '.128/29'));
  writeFileSync(join(state, 'disk.img'), 'a disk');
  const image = `ami-${/\((\w{8})\)/.exec(await manage('image', 'image_register', join(state, 'disk.img'), 'apollo'))?.[1]}`;

  await on(controller, 'nova-scheduler');
  await on(controller, 'nova-api', { enabled_apis: 'ec2' });
  const nodes: Node[] = [];
  const compute = { flagfile: join(state, 'compute.flags') };
  const text = readFileSync(join(projectRoot(), 'flagfiles/multi_host/compute.flags'), 'utf8');
  writeFileSync(compute.flagfile, text.replace('--flagfile=', `--flagfile=${projectRoot()}/`));
  for (const host of [node1, node2]) {
    const daemons = [
      await on(host, 'nova-network', compute),
      await on(host, 'nova-api', compute),
      await on(host, 'nova-compute', compute),
    ];
    nodes.push({ host, daemons, networks: join(host.dir, 'networks') });
  }
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  const ann = {
    url: `http://${controller.address}:8773/services/Cloud`,
    access: 'ann-access:apollo',
    secret: 'ann-secret',
  };
  const ask = (action: string, params: Record<string, string> = {}) => ec2(ann, action, params);

  /** An instance on a host, and a namespace in its place. */
  const launch = async (host: Host): Promise<Launched> => {
    const zone = { 'Placement.AvailabilityZone': `nova:${host.name}` };
    const run = await ask('RunInstances', {
      ImageId: image,
      MinCount: '1',
      MaxCount: '1',
      InstanceType: 'm1.tiny',
      ...zone,
    });
    const id = String(at(instancesOf(run)[0] ?? '', 'instanceId'));
    await until(`${id} runs`, async () => (await state_of(id)) === 'running');
    const card = await db
      .selectFrom('fixed_ips as ip')
      .innerJoin('virtual_interfaces as vif', 'vif.id', 'ip.virtual_interface_id')
      .select(['ip.address', 'vif.address as mac'])
      .where('ip.instance_id', '=', parseInt(id.slice(2), 16))
      .executeTakeFirstOrThrow();
    const guest = await startGuest(t, host, card.mac);
    return Object.assign(guest, { id, fixed: card.address, mac: card.mac });
  };
  const shown = async (id: string) =>
    instancesOf(await ask('DescribeInstances')).find((one) => at(one, 'instanceId') === id);
  const state_of = async (id: string) => String(at((await shown(id)) ?? '', 'instanceState', 'name'));
  /** Takes an address, leads it to a guest, and waits until it is answered from outside. */
  const float = async (guest: Launched, address?: string): Promise<string> => {
    const ip = address ?? String((await ask('AllocateAddress'))['publicIp']);
    await ask('AssociateAddress', { InstanceId: guest.id, PublicIp: ip });
    await until(
      `${ip} leads to ${guest.fixed}`,
      async () => (await seenAs(world, ip, 7000).catch(() => '')) === world.address,
    );
    return ip;
  };
  return { nodes: nodes as [Node, Node], world, db, ask, shown, launch, float };
}

/** A DHCP client that stays, as a guest's does. */
async function aDhcpClient(t: Scope, guest: Guest) {
  const script = join(guest.dir, 'client');
  writeFileSync(script, '#!/bin/sh\necho "$1 $ip router $router server $serverid"\n[ "$1" != bound ] || { ip addr add "$ip/$mask" dev eth0; ip route replace default via "$router"; }\n', { mode: 0o755 }); // prettier-ignore
  const log = join(guest.dir, 'udhcpc.log');
  const argv = ['busybox', 'udhcpc', '-f', '-i', 'eth0', '-t', '10', '-T', '1', '-s', script];
  const client = new Program({ name: 'udhcpc', argv, log, enter: guest.enter });
  atEnd(t, () => client.kill());
  const lines = (word: string) => readFileSync(log, 'utf8').split('\n').filter((line) => line.startsWith(`${word} `)); // prettier-ignore
  await client.start(async () => lines('bound').length > 0);
  return {
    bound: lines('bound')[0] ?? '',
    /** Asks its server for a longer lease. @returns what it got */
    async renew(): Promise<string> {
      const before = lines('renew').length;
      await guest.exec(['sh', '-c', 'kill -USR1 $(pgrep -x busybox)']);
      await until('the lease is renewed', () => lines('renew').length > before);
      return lines('renew').at(-1) ?? '';
    },
  };
}

/** A guest's own question to 169.254.169.254. */
async function metadata(guest: Guest, key: string): Promise<string> {
  const input = `GET /latest/meta-data/${key} HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n`;
  const argv = ['socat', '-t', '20', '-', 'TCP:169.254.169.254:80,connect-timeout=20'];
  const [head = '', body = ''] = (await guest.exec(argv, { input })).stdout.split('\r\n\r\n');
  assert.match(head, /^HTTP\/1\.1 200 /);
  return body;
}

const hostsFile = (node: Node): string => readFileSync(join(node.networks, 'nova-br100.conf'), 'utf8');
const bridgeAddress = async ({ host }: Node): Promise<string> =>
  /inet ([\d.]+)\/24/.exec((await host.exec(['ip', '-4', 'addr', 'show', 'dev', 'br100'])).stdout)?.[1] ?? '';

test(
  'of a multi_host network each host serves its own guests, and goes on when the other is gone',
  { skip, timeout: 600_000 },
  async (t) => {
    const { nodes, world, db, ask, shown, launch, float } = await aCloud(t);
    const [node1, node2] = nodes;
    const [first, second] = [await launch(node1.host), await launch(node2.host)];

    // Each host is the gateway of its guests with an address of its own, and knows no others.
    const [gateway1, gateway2] = [await bridgeAddress(node1), await bridgeAddress(node2)];
    assert.notEqual(gateway1, gateway2);
    const [client1, client2] = [await aDhcpClient(t, first), await aDhcpClient(t, second)];
    assert.equal(client1.bound, `bound ${first.fixed} router ${gateway1} server ${gateway1}`);
    assert.equal(client2.bound, `bound ${second.fixed} router ${gateway2} server ${gateway2}`);
    assert.match(hostsFile(node1), new RegExp(`^${first.mac},[^\n]*\n$`));
    assert.match(hostsFile(node2), new RegExp(`^${second.mac},[^\n]*\n$`));
    for (const guest of [first, second]) {
      await startEcho(t, guest, 7000);
      assert.equal(await metadata(guest, 'instance-id'), guest.id);
    }

    // Each host has an IPv6 address of its own as well, and advertises the network's block.
    const v6 = String(at((await shown(second.id)) ?? '', 'ipv6Address'));
    assert.match(v6, /^fd00:77::/);
    const usable = async () => (await second.exec(['ip', '-6', '-br', 'addr', 'show', 'dev', 'eth0', '-tentative'])).stdout; // prettier-ignore
    await until('the guest has its IPv6 address', async () => (await usable()).includes(`${v6}/64`));
    const reachesHost = async () => (await second.exec(['ping', '-6', '-c3', '-i0.3', '-W5', hostV6({ cidr_v6: 'fd00:77::/64', gateway_v6: null, multi_host: 1 }, gateway2) ?? ''], { ok: [0, 1, 2] })).exit_code === 0; // prettier-ignore
    assert.ok(await reachesHost());

    // A floating address is bound where its guest is; guests of the two hosts reach each other by both kinds.
    const [public1, public2] = [await float(first), await float(second)];
    const bound = async ({ host }: Node) => (await host.exec(['ip', '-4', 'addr', 'show', 'dev', 'eth0'])).stdout;
    assert.ok((await bound(node1)).includes(`${public1}/32`) && !(await bound(node1)).includes(public2));
    assert.ok((await bound(node2)).includes(`${public2}/32`) && !(await bound(node2)).includes(public1));
    await startEcho(t, world, 7000);
    assert.equal(await seenAs(first, world.address, 7000), public1);
    assert.equal(await seenAs(first, second.fixed, 7000), first.fixed);
    assert.equal(await seenAs(first, public2, 7000), public1);

    // All of node1's processes die at once; when they are back its guest goes on.
    const dnsmasq = readFileSync(join(node1.networks, 'nova-br100.pid'), 'utf8').trim();
    await Promise.all([...node1.daemons.map((one) => one.kill()), node1.host.exec(['kill', '-KILL', dnsmasq])]);
    assert.equal(await client2.renew(), `renew ${second.fixed} router ${gateway2} server ${gateway2}`);
    for (const one of node1.daemons) await one.start();
    assert.equal(await client1.renew(), `renew ${first.fixed} router ${gateway1} server ${gateway1}`);
    assert.equal(await metadata(first, 'instance-id'), first.id);

    // node1 is gone, with its kernel.
    await node1.host.stop();
    assert.equal(await client2.renew(), `renew ${second.fixed} router ${gateway2} server ${gateway2}`);
    assert.equal(await metadata(second, 'local-ipv4'), second.fixed);
    assert.ok(await reachesHost());
    assert.equal(await seenAs(world, public2, 7000), world.address);
    assert.equal(await seenAs(second, world.address, 7000), public2);

    // Launches go on, and an address of the dead host's guest leads to a living one.
    const third = await launch(node2.host);
    assert.equal((await aDhcpClient(t, third)).bound, `bound ${third.fixed} router ${gateway2} server ${gateway2}`);
    await startEcho(t, third, 7000);
    assert.equal(await float(third, public1), public1);

    // A further address of its card, and then that one alone: DHCP gives the oldest that the card has.
    const api = new NetworkApi({ db, flags: Flags.of({ network_manager: 'nova.network.manager.FlatDHCPManager' }), bus: new MemoryBus() }); // prettier-ignore
    const ctx = aContext();
    const number = parseInt(third.id.slice(2), 16);
    const more = await api.addFixedIp(ctx, number, 1);
    await api.removeFixedIp(ctx, number, third.fixed);
    await until('the DHCP server knows', () => new RegExp(`^${third.mac},[^\n]*,${more}$`, 'm').test(hostsFile(node2))); // prettier-ignore
    assert.ok(!hostsFile(node2).includes(`,${third.fixed}\n`));
    // dnsmasq reads the file when it is told to, which is somewhat later than the file is there.
    await until('DHCP gives the address that is left', async () => {
      await third.exec(['ip', '-4', 'addr', 'flush', 'dev', 'eth0']);
      return (await third.dhcp()).startsWith(`${more}/24 `);
    });
    assert.equal(await metadata(third, 'instance-id'), third.id);
    await until('the floating one is off', async () => !(await bound(node2)).includes(`${public1}/32`));

    // Nobody ends the lease of a guest that is gone; its address is free again all the same.
    await ask('TerminateInstances', { 'InstanceId.1': third.id });
    await third.stop();
    await until('its addresses are free', async () => {
      const rows = await db.selectFrom('fixed_ips').select('id').where('address', 'in', [third.fixed, more]).execute();
      return rows.length === 0;
    });
    assert.ok(!hostsFile(node2).includes(third.mac));
  },
);
