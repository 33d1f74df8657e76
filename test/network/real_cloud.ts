import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { guestImage } from '../../scripts/guest_image.ts';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { tapName } from '../../src/compute/logic/tap_name.ts';
import { startDaemon, type Daemon, type FlagFile } from '../rigs/daemon.ts';
import { at, ec2, instancesOf, items, type Credentials, type Xml } from '../rigs/ec2_client.ts';
import { startLibvirtd } from '../rigs/libvirtd.ts';
import { startLan, type Host, type Lan } from '../rigs/netns.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';

/**
 * Everything real: six daemons on two test hosts, RabbitMQ, libvirt, QEMU, dnsmasq, iptables; what differs from one network
 * manager to another is one line of the flagfile, and what the operator of FlatManager makes.
 *
 *     node1: nova-network, -api, -scheduler, -objectstore, -compute    node2: nova-compute    world: nothing of Nova's
 *     eth0: management, and floating addresses                         eth1: guests' frames from host to host
 */
export const REAL_CLOUD_NEEDS = [
  'root',
  'nsenter',
  'unshare',
  'ip',
  'rabbitmq-server',
  'libvirtd',
  'qemu-system-x86_64',
  'dnsmasq',
  'dhcp_release',
  'iptables',
  'ebtables',
  'ipset',
  'conntrack',
  'ping',
  'socat',
  'curl',
];

export interface RealGuest {
  /** `i-0000000a`, and its number. */
  ec2_id: string;
  id: number;
  address: string;
  mac: string;
  /** The host that it runs on. */
  node: Host;
  /** The host's end of its card. */
  tap: string;
  /** What its root shell prints. */
  sh(command: string): Promise<string>;
  pings(address: string): Promise<boolean>;
  /** From node1, which serves its network. */
  pingedByGateway(): Promise<boolean>;
}

export interface RealCloud {
  lan: Lan;
  node1: Host;
  node2: Host;
  world: Host;
  nodes: readonly Host[];
  db: NovaDb;
  /** Users ann of project apollo and bob of borealis, both administrators, since only those may name a host. */
  ann: Credentials;
  bob: Credentials;
  manage(...words: string[]): Promise<string>;
  /** From now on there are periodic passes, every second. */
  passPeriodically(): Promise<void>;
  /** A daemon with the cloud's flags. */
  start(binary: string, host: Host): Promise<Daemon>;
  /** `ami-0000000X` */
  image: string;
  /** The daemons, by host and binary: `node1 nova-compute`. */
  daemons: ReadonlyMap<string, Daemon>;
  /** Starts a guest on a host, and returns when it has an address, has read its metadata and its shell listens. */
  launch(who: Credentials, node: Host): Promise<RealGuest>;
  console(who: Credentials, guest: Pick<RealGuest, 'ec2_id'>): Promise<string>;
  /** Ends them and waits until they are gone. */
  terminate(who: Credentials, ...guests: RealGuest[]): Promise<void>;
}

export interface RealCloudOptions {
  network_manager: string;
  /** Over what all have. */
  flags?: FlagFile;
  /** What the operator does before any daemon runs. */
  prepare?: (hosts: { node1: Host; node2: Host }, t: Scope) => Promise<void>;
}

export async function aRealCloud(t: Scope, { network_manager, flags, prepare }: RealCloudOptions): Promise<RealCloud> {
  const tiny = await guestImage();
  const lan = await startLan(t, ['node1', 'node2', 'world']);
  const [node1, node2, world] = lan.hosts as [Host, Host, Host];
  await prepare?.({ node1, node2 }, t);
  const [rabbit] = await Promise.all([startRabbitmq(t, { host: node1 }), ...[node1, node2].map((host) => startLibvirtd(t, { host }))]); // prettier-ignore
  const sql_connection = `sqlite:///${join(tempDir(t, 'db'), 'nova.sqlite')}`;
  const shared: FlagFile = {
    ...rabbit.flags,
    sql_connection,
    s3_host: node1.address,
    ec2_host: node1.address,
    ec2_dmz_host: node1.address,
    osapi_host: node1.address,
    routing_source_ip: node1.address,
    fixed_range: '10.0.0.0/24',
    flat_interface: 'eth1',
    vlan_interface: 'eth1',
    public_interface: 'eth0',
    linuxnet_interface_driver: 'nova.network.linux_net.LinuxOVSInterfaceDriver',
    connection_type: 'libvirt',
    libvirt_type: 'qemu',
    allow_project_net_traffic: false,
    force_dhcp_release: true,
    periodic_interval: 900, // nothing is the work of a periodic pass, until passPeriodically
    ...flags,
    network_manager,
  };
  const manage = async (...words: string[]) => {
    const given = { ...shared, state_path: node1.dir, host: 'node1', my_ip: node1.address };
    const options = Object.entries(given).flatMap(([name, value]) =>
      typeof value === 'boolean' ? [value ? `--${name}` : `--no${name}`] : [`--${name}=${String(value)}`],
    );
    return (await node1.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), ...options, ...words])).stdout;
  };
  await manage('db', 'sync');
  for (const [user, project] of [
    ['ann', 'apollo'],
    ['bob', 'borealis'],
  ] as const) {
    // prettier-ignore
    await manage('user', 'admin', user, `${user}-access`, `${user}-secret`);
    await manage('project', 'create', project, user);
  }
  await manage('network', 'create', '10.0.0.0/24', '2', '128');
  await manage('floating', 'create', lan.cidr.replace('.0/24', '.128/29'));
  await manage('instance_type', 'create', 'm1.nano', '128', '1', '0', '99');
  await manage('image', 'all_register', tiny.rootfs, tiny.kernel, tiny.ramdisk, 'apollo', 'tiny');
  const daemons = new Map<string, Daemon>();
  const start = async (binary: string, host: Host) => {
    const daemon = await startDaemon(t, binary, { host, flags: { ...shared, state_path: host.dir } });
    daemons.set(`${host.name} ${binary}`, daemon);
    return daemon;
  };
  const workers: Daemon[] = [];
  workers.push(await start('nova-network', node1));
  for (const binary of ['nova-objectstore', 'nova-scheduler', 'nova-api']) await start(binary, node1);
  for (const node of [node1, node2]) workers.push(await start('nova-compute', node));
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());

  const user = (name: string, project: string): Credentials => ({
    url: `http://${node1.address}:8773/services/Cloud`,
    access: `${name}-access:${project}`,
    secret: `${name}-secret`,
  });
  const cloud = { lan, node1, node2, world, nodes: [node1, node2], db, manage };
  const asked: Asked = { ...cloud, image: await machineImage(user('ann', 'apollo')) };
  return {
    ...cloud,
    image: asked.image,
    start,
    daemons,
    async passPeriodically() {
      for (const daemon of workers) {
        appendFileSync(daemon.flagfile, '--periodic_interval=1\n'); // the last one holds
        await daemon.restart();
      }
    },
    ann: user('ann', 'apollo'),
    bob: user('bob', 'borealis'),
    launch: (who, node) => launch(asked, who, node),
    console: (who, guest) => consoleOf(who, guest.ec2_id),
    terminate: (who, ...guests) => terminate(who, guests),
  };
}

type Asked = Pick<RealCloud, 'node1' | 'db' | 'manage'> & { image: string };

async function launch(cloud: Asked, who: Credentials, node: Host): Promise<RealGuest> {
  const { node1, db, manage, image } = cloud;
  const wanted = {
    ImageId: image,
    MinCount: 1,
    MaxCount: 1,
    InstanceType: 'm1.nano',
    'Placement.AvailabilityZone': `nova:${node.name}`,
  };
  const ec2_id = String(at(instancesOf(await ec2(who, 'RunInstances', wanted))[0] ?? '', 'instanceId'));
  await until(`${ec2_id} runs`, async () => {
    const state = await stateOf(who, ec2_id);
    assert.notEqual(state, 'error', await manage('explain', ec2_id));
    return state === 'running';
  });
  const id = parseInt(ec2_id.slice(2), 16);
  const { address, mac } = await db
    .selectFrom('fixed_ips as f')
    .innerJoin('virtual_interfaces as v', 'v.id', 'f.virtual_interface_id')
    .select(['f.address', 'v.address as mac'])
    .where('f.instance_id', '=', id)
    .executeTakeFirstOrThrow();
  await until(
    `${ec2_id} has read its metadata`,
    async () => (await consoleOf(who, ec2_id)).includes('TINY: metadata done'),
    () => consoleOf(who, ec2_id),
  );
  const shell = ['socat', '-t', '30', '-', `TCP:${address}:2222`];
  const sh = async (command: string) =>
    (await node1.exec(shell, { input: `${command}\n`, timeout_ms: 120_000 })).stdout;
  const pings = async (to: string) => (await sh(`ping -c 2 -W 5 ${to} && echo answered`)).includes('answered');
  const pingedByGateway = async () =>
    (await node1.exec(['ping', '-c', '2', '-W', '5', address], { ok: [0, 1] })).exit_code === 0;
  return { ec2_id, id, address, mac, node, tap: tapName(id, 0), sh, pings, pingedByGateway };
}

async function terminate(who: Credentials, guests: readonly RealGuest[]): Promise<void> {
  const ids = guests.map(({ ec2_id }, i) => [`InstanceId.${i + 1}`, ec2_id]);
  await ec2(who, 'TerminateInstances', Object.fromEntries(ids) as Record<string, string>);
  for (const { ec2_id } of guests)
    await until(`${ec2_id} is terminated`, async () => ['terminated', undefined].includes(await stateOf(who, ec2_id)));
}

async function stateOf(who: Credentials, ec2_id: string): Promise<string | undefined> {
  const one = instancesOf(await ec2(who, 'DescribeInstances')).find((row) => at(row, 'instanceId') === ec2_id);
  return one === undefined ? undefined : String(at(one, 'instanceState', 'name'));
}

const consoleOf = async (who: Credentials, ec2_id: string): Promise<string> =>
  Buffer.from(
    String((await ec2(who, 'GetConsoleOutput', { InstanceId: ec2_id }))['output'] ?? ''),
    'base64',
  ).toString();

async function machineImage(who: Credentials): Promise<string> {
  const images: Xml[] = items((await ec2(who, 'DescribeImages'))['imagesSet'] ?? '');
  return String(at(images.find((one) => at(one, 'imageType') === 'machine') ?? '', 'imageId'));
}

/** One rule of a project's group `default`, as the ends of EC2's parameter names. */
export interface Ingress {
  IpProtocol: string;
  FromPort: number;
  ToPort: number;
  'IpRanges.1.CidrIp'?: string;
  'Groups.1.GroupName'?: string;
}

export const PING = { IpProtocol: 'icmp', FromPort: -1, ToPort: -1 };
export const tcp = (port: number, cidr: string): Ingress => ({
  IpProtocol: 'tcp',
  FromPort: port,
  ToPort: port,
  'IpRanges.1.CidrIp': cidr,
});

export async function ingress(who: Credentials, verb: 'Authorize' | 'Revoke', rule: Ingress): Promise<void> {
  const named = Object.entries(rule).map(([name, value]) => [`IpPermissions.1.${name}`, value as string | number]);
  const params = Object.fromEntries(named) as Record<string, string | number>;
  await ec2(who, `${verb}SecurityGroupIngress`, { GroupName: 'default', ...params });
}
