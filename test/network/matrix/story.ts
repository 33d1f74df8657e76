import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { execute } from '../../../src/common/execute.ts';
import { ec2, Ec2Error } from '../../rigs/ec2_client.ts';
import { needs } from '../../rigs/needs.ts';
import { Program } from '../../rigs/program.ts';
import { atEnd, type Scope } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';
import { networksAreGivenBack, nothingIsLeft } from './left_overs.ts';
import { aRealCloud, ingress, PING, REAL_CLOUD_NEEDS, tcp, type RealCloud, type RealCloudOptions, type RealGuest } from '../real_cloud.ts'; // prettier-ignore

/**
 * One story, told once for each network manager with real guests: two of project apollo on two hosts and one of borealis
 * get addresses, reach each other as far as rules say, are reached from outside, read their metadata, and leave nothing.
 */
export interface Manager {
  /** What the manager is called after `nova.network.manager.`: the one line of the flagfile that differs. */
  name: string;
  prepare?: RealCloudOptions['prepare'];
  /** How a guest's console tells the address that it took. */
  address: (guest: RealGuest) => RegExp;
  has_floating_ips: boolean;
  /** A network for each project, and nothing from one to another, whatever groups say. */
  apart: boolean;
  needs: readonly string[];
}

/** The test of one manager, in a file of its own, since each has its own ten minutes on a slow machine. */
export const tellStory = (manager: Manager): void =>
  void test(
    `${manager.name}: real guests of two projects, from their launch until nothing is left of them`,
    { skip: needs(...REAL_CLOUD_NEEDS, ...manager.needs), timeout: 600_000 },
    (t) => story(t, manager),
  );

async function story(t: Scope, manager: Manager): Promise<void> {
  const { name, prepare } = manager;
  const network_manager = `nova.network.manager.${name}`;
  const cloud = await aRealCloud(t, { network_manager, ...(prepare ? { prepare } : {}) });
  const { ann, bob, node1, node2 } = cloud;
  for (const who of [ann, bob]) await ingress(who, 'Authorize', tcp(2222, '10.0.0.0/24')); // the test's own way in

  const [a1, a2] = await Promise.all([cloud.launch(ann, node1), cloud.launch(ann, node2)]);
  const b = await cloud.launch(bob, node1);

  const everybody = [[ann, a1], [ann, a2], [bob, b]] as const; // prettier-ignore
  for (const [who, guest] of everybody) {
    const text = await cloud.console(who, guest);
    assert.match(text, manager.address(guest));
    assert.ok(text.includes(`TINY: instance-id ${guest.ec2_id}`), text);
    const metadata = 'timeout 20 wget -q -O - http://169.254.169.254/latest/meta-data/local-ipv4';
    assert.equal(await guest.sh(metadata), guest.address);
  }

  await doctorIsContent(cloud);
  await rulesDecide(cloud, a1, a2, b);
  await projectsMeet(cloud, a1, b, !manager.apart);
  if (manager.apart) await framesAreTagged(t, cloud, a1, a2);
  const floating = manager.has_floating_ips ? await isReachedFromOutside(cloud, a2) : await hasNoFloatingIps(cloud);

  await cloud.terminate(ann, a1, a2);
  await cloud.terminate(bob, b);
  await nothingIsLeft(cloud, [a1, a2, b], floating);
  if (manager.apart) await networksAreGivenBack(cloud);
  await doctorIsContent(cloud);
}

/** Of node1; the command fails while it finds a difference. */
async function doctorIsContent({ manage }: RealCloud): Promise<void> {
  let said = '';
  const content = () =>
    manage('network', 'doctor').then(
      () => true,
      (err: unknown) => ((said = String(err)), false),
    );
  await until('the doctor finds no difference', content, () => said);
}

/** Within a project, over two hosts; nobody waits for a periodic pass, so every host was told. */
async function rulesDecide({ ann }: RealCloud, a1: RealGuest, a2: RealGuest, b: RealGuest): Promise<void> {
  assert.equal(await a1.pings(a2.address), false, 'no rule lets it in');
  const own_group = { ...PING, 'Groups.1.GroupName': 'default' };
  await ingress(ann, 'Authorize', own_group);
  await until('a2 lets its own group in', () => a1.pings(a2.address));
  await until('so does a1, on the other host', () => a2.pings(a1.address));
  assert.equal(await b.pings(a1.address), false, 'b is in a group of the same name in another project');
  await ingress(ann, 'Revoke', own_group);
  await until('the rule is gone from a2', async () => !(await a1.pings(a2.address)));
}

/** With groups that let everybody in: on one network they do, and on two they do not. */
async function projectsMeet({ ann, bob }: RealCloud, a: RealGuest, b: RealGuest, meet: boolean): Promise<void> {
  const from_anywhere = { ...PING, 'IpRanges.1.CidrIp': '0.0.0.0/0' };
  for (const who of [ann, bob]) await ingress(who, 'Authorize', from_anywhere);
  for (const guest of [a, b]) await until('its group lets the gateway in', () => guest.pingedByGateway());
  assert.equal(await a.pings(b.address), meet, `from ${a.address} to ${b.address}`);
  assert.equal(await b.pings(a.address), meet, `from ${b.address} to ${a.address}`);
}

/** Between the hosts, where anybody may look. */
async function framesAreTagged(t: Scope, { lan, db }: RealCloud, a1: RealGuest, a2: RealGuest): Promise<void> {
  const { vlan } = await db.selectFrom('networks').select('vlan').where('project_id', '=', 'apollo').executeTakeFirstOrThrow(); // prettier-ignore
  const log = join(lan.switch.dir, 'trunk.log');
  const argv = ['tcpdump', '-n', '-e', '-l', '-i', 'node1-eth1'];
  const capture = new Program({ name: 'tcpdump', argv, log, enter: lan.switch.enter });
  atEnd(t, () => capture.kill());
  const seen = () => readFileSync(log, 'utf8');
  await capture.start(async () => seen().includes('listening on'));
  assert.equal(await a1.pings(a2.address), true);
  const tagged = new RegExp(`802.1Q .* vlan ${vlan}, .* ${a1.address} > ${a2.address}: ICMP echo request`);
  await until('the echo request is seen on the trunk', () => tagged.test(seen()), seen);
  const bare = seen()
    .split('\n')
    .filter((line) => / 10\.0\.0\.\d/.test(line) && !/802\.1Q/.test(line));
  assert.deepEqual(bare, [], 'no frame of a guest goes without a tag');
  await capture.kill();
}

/** @returns the address, given back to the pool */
async function isReachedFromOutside({ ann, world, node1 }: RealCloud, guest: RealGuest): Promise<string> {
  const address = String((await ec2(ann, 'AllocateAddress'))['publicIp']);
  await ec2(ann, 'AssociateAddress', { PublicIp: address, InstanceId: guest.ec2_id });
  await until(`${address} is on node1`, async () =>
    (await node1.exec(['ip', 'addr'])).stdout.includes(`${address}/32`),
  );
  const get = ['curl', '-s', '-m', '5', `http://${address}/instance-id`];
  const asked = async (from: { exec: typeof execute }) => (await from.exec(get, { ok: [0, 7, 28] })).stdout.trim();
  assert.equal(await asked(world), '', 'no rule lets the world in');
  await ingress(ann, 'Authorize', tcp(80, `${world.address}/32`));
  await until('the rule lets it in', async () => (await asked(world)) === guest.ec2_id);
  assert.equal(await asked({ exec: execute }), '', 'this process is another part of the world, and no rule names it');
  assert.match(await guest.sh(`ping -c 2 -W 5 ${world.address}`), / 0% packet loss/);
  await ingress(ann, 'Revoke', tcp(80, `${world.address}/32`));
  await until('it is shut again', async () => (await asked(world)) === '');
  return address;
}

async function hasNoFloatingIps({ ann }: RealCloud): Promise<string> {
  const clear = (err: unknown) =>
    err instanceof Ec2Error && err.status >= 400 && err.status < 500 && /FlatManager has no floating ips/.test(err.message); // prettier-ignore
  await assert.rejects(ec2(ann, 'AllocateAddress'), clear);
  return 'no floating address';
}
