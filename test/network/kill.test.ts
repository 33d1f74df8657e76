import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { startDaemon, type Daemon, type FlagFile } from '../rigs/daemon.ts';
import { at, ec2, Ec2Error, instancesOf, type Credentials } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { startFlow } from './flow.ts';
import { rulesOf, startGuest, stateOf } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'dnsmasq', 'busybox', 'socat', 'ss', 'conntrack', 'rabbitmq-server'); // prettier-ignore

const LAUNCHES = 50;
/** Lanes of work, each with a floating address of its own that it leads to one instance after the other. */
const LANES = 8;
const ASSOCIATIONS = 200;
/** So much is done that many kills fall into it. */
const LEAST_KILLS = 15;

const random = (below: number): number => Math.floor(Math.random() * below);

interface Rig {
  net1: Host;
  world: Host;
  db: NovaDb;
  network: Daemon;
  ann: Credentials;
  image: string;
  networks_path: string;
  /** Of nova-manage. @throws ProcessExecutionError */
  manage(...words: string[]): Promise<string>;
}

/** All daemons on one host, over RabbitMQ, with the fake hypervisor and the real network. */
async function aRig(t: Scope): Promise<Rig> {
  const { hosts, cidr } = await startLan(t, ['net1', 'world']);
  const [net1, world] = hosts as [Host, Host];
  const rabbit = await startRabbitmq(t, { host: net1 });
  const dir = tempDir(t, 'kill');
  const sql_connection = `sqlite:///${join(dir, 'nova.sqlite')}`;
  const flags: FlagFile = {
    ...rabbit.flags,
    rabbit_retry_interval: 0,
    rabbit_retry_backoff: 1,
    rpc_response_timeout: 10,
    state_path: dir,
    sql_connection,
    network_manager: 'nova.network.manager.FlatDHCPManager',
    fixed_range: '10.77.0.0/24',
    ec2_host: net1.address,
    ec2_dmz_host: net1.address,
    connection_type: 'fake',
    fake_driver_spawn_delay_ms: 50,
    quota_instances: -1,
    quota_cores: -1,
    quota_ram: -1,
    quota_floating_ips: -1,
  };
  const network = await startDaemon(t, 'nova-network', { host: net1, flags });
  const manage = async (...words: string[]) =>
    (await net1.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${network.flagfile}`, ...words])).stdout; // prettier-ignore
  await manage('user', 'admin', 'ann', 'ann-access', 'ann-secret');
  await manage('project', 'create', 'apollo', 'ann');
  await manage('network', 'create', '10.77.0.0/24', '1', '256');
  await manage('floating', 'create', cidr.replace('.0/24', '.128/27'));
  writeFileSync(join(dir, 'disk.img'), 'a disk');
  const id = /\((\w{8})\)/.exec(await manage('image', 'image_register', join(dir, 'disk.img'), 'apollo'))?.[1];
  for (const binary of ['nova-compute', 'nova-scheduler', 'nova-api']) await startDaemon(t, binary, { host: net1, flags }); // prettier-ignore
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  const url = `http://${net1.address}:8773/services/Cloud`;
  const ann = { url, access: 'ann-access:apollo', secret: 'ann-secret' };
  return { net1, world, db, network, ann, image: `ami-${String(id)}`, networks_path: join(dir, 'networks'), manage };
}

async function launch({ ann, image }: Rig): Promise<string> {
  const one = { ImageId: image, InstanceType: 'm1.tiny', MinCount: 1, MaxCount: 1 };
  return String(at(instancesOf(await ec2(ann, 'RunInstances', one))[0] ?? '', 'instanceId'));
}

const numberOf = (ec2_id: string): number => parseInt(ec2_id.slice(2), 16);

async function fixedOf({ db }: Rig, ec2_id: string): Promise<{ address: string; mac: string } | undefined> {
  return db
    .selectFrom('fixed_ips as f')
    .innerJoin('virtual_interfaces as v', 'v.id', 'f.virtual_interface_id')
    .select(['f.address', 'v.address as mac'])
    .where('f.instance_id', '=', numberOf(ec2_id))
    .executeTakeFirst();
}

/** An instance with a network of its own, plugged into the bridge as a hypervisor would. */
async function aGuest(t: Scope, rig: Rig) {
  const id = await launch(rig);
  await until(`${id} has an address`, async () => (await fixedOf(rig, id)) !== undefined);
  const { address, mac } = (await fixedOf(rig, id)) as { address: string; mac: string };
  const host = await startGuest(t, rig.net1, mac);
  await until(`${id} takes it`, async () => host.dhcp().then((got) => got.startsWith(`${address}/24 `), () => false)); // prettier-ignore
  return { id, host, address };
}

const allocate = async ({ ann }: Rig): Promise<string> => String((await ec2(ann, 'AllocateAddress'))['publicIp']);

test(
  'nova-network killed all the time: no connection breaks, and the host is what the database says in the end',
  { skip, timeout: 600_000 },
  async (t) => {
    const rig = await aRig(t);
    const { net1, world, network, ann } = rig;
    await net1.exec(['sysctl', '-qe', '-w', 'net.bridge.bridge-nf-call-iptables=1']); // as security groups have it
    const [web, other] = [await aGuest(t, rig), await aGuest(t, rig)];
    const public_ip = await allocate(rig);
    await ec2(ann, 'AssociateAddress', { PublicIp: public_ip, InstanceId: web.id });
    await until('it is bound', async () => (await net1.exec(['ip', 'addr'])).stdout.includes(`${public_ip}/32`));
    const flows = [
      await startFlow(t, world, web.host, public_ip, 7001),
      await startFlow(t, other.host, web.host, web.address, 7002),
    ];

    const running = [web.id, other.id];
    let over = false;
    const lanes = Array.from({ length: LANES }, (_, lane) => leadAround(rig, lane, running));
    const work = Promise.all([...lanes, launchMany(rig, running)]);
    void work.catch(() => undefined).then(() => (over = true));
    const kills = await killAgain(network, () => over);
    await work;

    await settled(rig);
    await hostIsAsDatabase(rig);
    await rig.manage('--host=net1', 'network', 'doctor'); // it fails when it finds a difference
    const state = await stateOf(net1);
    await network.kill();
    await network.start();
    assert.equal(await stateOf(net1), state, 'one more start changes nothing');
    const returned = [await flows[0]?.stop(), await flows[1]?.stop()];
    t.diagnostic(`${kills} kills; numbers that went there and back: ${returned.join(', ')}`);
  },
);

/** Kills and starts it until the work is over. @returns how often */
async function killAgain(network: Daemon, isOver: () => boolean): Promise<number> {
  let kills = 0;
  for (; kills < LEAST_KILLS || !isOver(); kills++) {
    await sleep(random(1200));
    await network.kill();
    await sleep(random(300));
    await network.start();
  }
  return kills;
}

/** One address, led to one running instance after the other, at times to none. */
async function leadAround(rig: Rig, lane: number, running: readonly string[]): Promise<void> {
  const { ann } = rig;
  const address = await allocate(rig);
  for (let round = 0; round < ASSOCIATIONS / LANES; round++) {
    await sleep(random(1000));
    const InstanceId = running[(lane + round) % running.length] as string;
    // An instance that is still being built has no address yet: that is a clear answer, and the next one is taken.
    await ec2(ann, 'AssociateAddress', { PublicIp: address, InstanceId }).catch((err: unknown) => {
      if (!(err instanceof Ec2Error && err.status === 400)) throw err;
    });
    await sleep(random(500));
    const last = round + 1 === ASSOCIATIONS / LANES;
    if (!last || lane % 2 === 0) await ec2(ann, 'DisassociateAddress', { PublicIp: address });
  }
}

/** Every third is ended again. */
async function launchMany(rig: Rig, running: string[]): Promise<void> {
  for (let n = 0; n < LAUNCHES; n++) {
    await sleep(random(700));
    const id = await launch(rig);
    if (n % 3 !== 0) running.push(id);
    else await sleep(random(500)).then(() => ec2(rig.ann, 'TerminateInstances', { 'InstanceId.1': id }));
  }
}

/** Until no task and no job is under way. */
async function settled({ db }: Rig): Promise<void> {
  const tasks = () =>
    db
      .selectFrom('instances')
      .select(['id', 'vm_state', 'task_state'])
      .where('deleted', '=', 0)
      .where('task_state', 'is not', null)
      .execute();
  const jobs = () =>
    db.selectFrom('jobs').select(['topic', 'method', 'resource', 'state', 'error']).where('state', 'in', ['queued', 'running']).execute(); // prettier-ignore
  const left = async () => JSON.stringify([await tasks(), await jobs()]);
  await until('everything is done', async () => (await left()) === '[[],[]]', left);
  const states = await db.selectFrom('instances').select(['id', 'vm_state', 'deleted', 'fault']).execute();
  assert.equal(states.length, LAUNCHES + 2, 'every launch is one instance');
  const wrong = states.filter((row) => row.deleted === 0 && row.vm_state !== 'active');
  assert.deepEqual(wrong, [], 'each of them runs or is gone');
}

/** Addresses, nat rules and the hosts file, each whole, against the rows. */
async function hostIsAsDatabase({ db, net1, networks_path }: Rig): Promise<void> {
  const led = await db
    .selectFrom('floating_ips as f')
    .innerJoin('fixed_ips as x', 'x.id', 'f.fixed_ip_id')
    .select(['f.address', 'x.address as fixed'])
    .execute();
  assert.ok(led.length > 1, 'some lead somewhere');
  const addresses = (await net1.exec(['ip', '-4', 'addr', 'show', 'dev', 'eth0'])).stdout;
  assert.deepEqual(
    [...addresses.matchAll(/inet (\S+)\/32 /g)].map((found) => found[1]).toSorted(),
    led.map(({ address }) => address).toSorted(),
    'bound addresses',
  );

  const nat = (await rulesOf(net1, '-t', 'nat')).split('\n');
  const inward = (chain: string) => nat.flatMap((rule) => new RegExp(`^-A nova-network-${chain} -d (\\S+)/32 -j DNAT --to-destination (\\S+)$`).exec(rule)?.slice(1).join(' ') ?? []).toSorted(); // prettier-ignore
  const wanted = led.map(({ address, fixed }) => `${address} ${fixed}`).toSorted();
  assert.deepEqual(inward('PREROUTING'), wanted, 'rules in PREROUTING');
  assert.deepEqual(inward('OUTPUT'), wanted, 'rules in OUTPUT');
  const out = nat.flatMap((rule) => /^-A nova-network-floating-snat -s (\S+)\/32 .*-j SNAT --to-source (\S+)$/.exec(rule)?.slice(1).reverse().join(' ') ?? []); // prettier-ignore
  const ways_out = new Set(led.map(({ fixed }) => fixed));
  for (const pair of out) assert.ok(wanted.includes(pair), `${pair} leads out`);
  assert.equal(new Set(out.map((pair) => pair.split(' ')[1])).size, ways_out.size, 'each guest has one way out');

  const guests = await db
    .selectFrom('fixed_ips as f')
    .innerJoin('virtual_interfaces as v', 'v.id', 'f.virtual_interface_id')
    .innerJoin('instances as i', 'i.id', 'f.instance_id')
    .select(['v.address as mac', 'i.hostname', 'f.address', 'i.deleted'])
    .execute();
  assert.deepEqual(guests.filter(({ deleted }) => deleted === 1), [], 'no instance that is gone has an address'); // prettier-ignore
  assert.deepEqual(
    readFileSync(join(networks_path, 'nova-br100.conf'), 'utf8').trim().split('\n').toSorted(),
    guests.map(({ mac, hostname, address }) => `${mac},${hostname}.novalocal,${address}`).toSorted(),
    "dnsmasq's hosts file",
  );
  assert.equal(
    (await net1.exec(['pgrep', '-c', '-x', '-P', '1', 'dnsmasq'])).stdout.trim(),
    '1',
    'one dnsmasq, whose own helper has another parent',
  );
}
