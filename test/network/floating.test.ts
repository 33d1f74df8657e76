import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { openBus } from '../../src/common/daemon.ts';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { publishCasts } from '../../src/common/service.ts';
import { NetworkApi } from '../../src/network/api.ts';
import { createNetworks } from '../../src/network/manager/create_networks.ts';
import { networkClient } from '../../src/network/rpc.ts';
import { aContext, anInstance, aProject } from '../builders.ts';
import { startDaemon } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startLan, type Host } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { rulesOf, seenAs, startEcho, startGuest, stateOf, type Guest } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'dnsmasq', 'busybox', 'socat', 'ss', 'conntrack', 'rabbitmq-server'); // prettier-ignore
const ctx = aContext();

/** A nova-network on a host of its own, floating addresses of the switch, and this process as the API. */
async function aCloud(t: Scope) {
  const { hosts, cidr } = await startLan(t, ['net1', 'world', 'broker']);
  const [net1, world, broker] = hosts as [Host, Host, Host];
  const before = await stateOf(net1);
  const rabbit = await startRabbitmq(t, { host: broker });
  const state_path = tempDir(t, 'state');
  const sql_connection = `sqlite:///${join(state_path, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  await aProject(db);
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.77.0.0/24' });
  const flags = {
    ...rabbit.flags,
    rabbit_retry_interval: 0,
    state_path,
    sql_connection,
    network_manager: 'nova.network.manager.FlatDHCPManager',
    fixed_range: '10.77.0.0/24',
    ec2_dmz_host: net1.address,
    periodic_interval: 2,
  };
  const daemon = await startDaemon(t, 'nova-network', { host: net1, flags });
  const bus = await openBus(Flags.of(rabbit.flags), silentLog);
  atEnd(t, () => bus.close());
  publishCasts(db, bus, silentLog);
  const api = new NetworkApi({ db, flags: Flags.of({ network_manager: flags.network_manager }), bus });
  const manage = async (...words: string[]) =>
    (await net1.exec([process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${daemon.flagfile}`, '--host=net1', ...words])).stdout; // prettier-ignore
  await manage('floating', 'create', cidr.replace('.0/24', '.128/29'));

  const network = networkClient(bus);
  const launch = async (): Promise<Guest & { instance_id: number; fixed: string }> => {
    const instance_id = await anInstance(db, { task_state: 'networking' });
    const args = { instance_id, project_id: 'apollo', host: 'node1', hostname: 'web' };
    const [nic] = await network.allocateForInstance(ctx, args);
    assert.ok(nic);
    const guest = await startGuest(t, net1, nic.mac);
    assert.match(await guest.dhcp(), new RegExp(`^${nic.address}/24 `));
    await startEcho(t, guest, 7000);
    return Object.assign(guest, { instance_id, fixed: nic.address });
  };
  return { net1, world, before, daemon, db, network, api, manage, launch };
}

/** Whether the host has anything of an address: bound, in a rule, or in a connection. */
async function traces(host: Host, address: string): Promise<string> {
  const parts = [
    (await host.exec(['ip', 'addr'])).stdout,
    await rulesOf(host),
    (await host.exec(['conntrack', '-L'])).stdout,
  ];
  return parts.join('\n').split('\n').filter((line) => line.includes(`${address} `) || line.includes(`${address}/`)).join('\n'); // prettier-ignore
}

/** A connection that stays open: what is said comes back. */
async function aConversation(t: Scope, from: Host, to: Host, address: string) {
  const server = new Program({ name: 'socat', argv: ['socat', 'TCP-LISTEN:7001,reuseaddr,fork', 'EXEC:cat'], log: join(to.dir, 'cat.log'), enter: to.enter }); // prettier-ignore
  atEnd(t, () => server.kill());
  await server.start(async () => (await to.exec(['ss', '-ltn'])).stdout.includes(':7001 '));
  const argv = [...from.enter, 'socat', '-', `TCP:${address}:7001,connect-timeout=5`];
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['pipe', 'pipe', 'ignore'] });
  atEnd(t, async () => void child.kill('SIGKILL'));
  const lines = createInterface(child.stdout);
  return async (text: string, patience_ms = 60_000): Promise<string> => {
    const answer = once(lines, 'line', { signal: AbortSignal.timeout(patience_ms) });
    child.stdin.write(`${text}\n`);
    return String((await answer)[0]);
  };
}

test(
  'a floating address leads to its instance from everywhere, through restarts, and leaves nothing',
  { skip },
  async (t) => {
    const { net1, world, before, daemon, network, api, manage, launch } = await aCloud(t);
    const [web, other] = [await launch(), await launch()];
    const [one, two] = [await api.allocate(ctx), await api.allocate(ctx)];
    const wrong = ['lladdr', '02:00:00:00:00:99', 'dev', 'eth0', 'nud', 'reachable'];
    await world.exec(['ip', 'neigh', 'replace', one.address, ...wrong]);

    await api.associate(ctx, one.address, web.instance_id);
    await until(
      'the neighbours know where it is',
      async () => !(await world.exec(['ip', 'neigh', 'show', one.address])).stdout.includes('02:00:00:00:00:99'),
    );

    await startEcho(t, world, 7000);
    assert.equal(await seenAs(world, one.address, 7000), world.address); // from outside, with the client's own address
    assert.equal(await seenAs(web, world.address, 7000), one.address); // the guest's own way out
    assert.equal(await seenAs(other, world.address, 7000), net1.address);
    for (const on of ['1', '0']) {
      await net1.exec(['sysctl', '-qe', '-w', `net.bridge.bridge-nf-call-iptables=${on}`]);
      assert.equal(await seenAs(other, one.address, 7000), net1.address); // from the same bridge
    }
    assert.equal(await seenAs(web, one.address, 7000), one.address); // from itself: not with bridge-nf
    assert.equal(await seenAs(net1, one.address, 7000), one.address); // from the host
    assert.equal(await seenAs(other, web.fixed, 7000), other.fixed); // by the fixed address nothing changed

    const say = await aConversation(t, world, web, one.address);
    assert.equal(await say('hello'), 'hello');
    await api.associate(ctx, two.address, other.instance_id);
    await until('the second is in force', async () => (await traces(net1, two.address)).includes('scope global'));
    assert.equal(await say('rules were applied anew'), 'rules were applied anew');
    assert.equal(await seenAs(other, one.address, 7000), two.address); // hairpin between two that have one
    await daemon.kill();
    assert.equal(await say('nova-network is away'), 'nova-network is away');
    await daemon.start();
    assert.equal(await say('it is back'), 'it is back');
    assert.match(
      await manage('floating', 'list', 'net1'),
      new RegExp(`net1 +${one.address} +i-0{7}1 +${web.fixed} +apollo`),
    );

    // What someone else takes away, the periodic pass makes again.
    await net1.exec(['ip', 'addr', 'del', `${one.address}/32`, 'dev', 'eth0']);
    await net1.exec(['iptables', '-t', 'nat', '-F', 'nova-network-PREROUTING']);
    await until('it is made again', async () => (await traces(net1, one.address)).split('\n').filter((line) => /DNAT|scope/.test(line)).length === 3); // prettier-ignore
    assert.equal(await seenAs(world, one.address, 7000), world.address);

    // To the other instance: a new connection goes there, and the old one does not go on with the first.
    await api.associate(ctx, one.address, other.instance_id);
    await until('it was moved', async () => (await rulesOf(net1, '-t', 'nat')).includes(`-A nova-network-PREROUTING -d ${one.address}/32 -j DNAT --to-destination ${other.fixed}\n`)); // prettier-ignore
    await until('its connections ended', async () => !(await net1.exec(['conntrack', '-L'])).stdout.includes(`dst=${one.address} sport`)); // prettier-ignore
    await assert.rejects(say('still there?', 5000));
    assert.equal(await seenAs(world, one.address, 7000), world.address);

    // Disassociated while nova-network is away, and its rules flushed by somebody.
    await daemon.kill();
    await api.disassociate(ctx, one.address);
    for (const table of ['nat', 'filter']) await net1.exec(['iptables', '-t', table, '-F']);
    await daemon.start();
    assert.equal(await traces(net1, one.address), '');
    await api.release(ctx, one.address);

    // Terminated: nothing is left when the answer is there.
    assert.notEqual(await traces(net1, two.address), '');
    await network.deallocateForInstance(ctx, { instance_id: other.instance_id });
    assert.equal(await traces(net1, two.address), '');

    // nova-manage network take_down takes a bound address with the rest.
    await api.associate(ctx, two.address, web.instance_id);
    await until('it is in force', async () => (await traces(net1, two.address)).includes('scope global'));
    await daemon.stop();
    await web.stop();
    await other.stop();
    // The connection that was cut off keeps the kernel from ending its guest's network for a minute.
    const ports = (await net1.exec(['ip', '-br', 'link'])).stdout.match(/^tap\d+/gm) ?? [];
    for (const port of ports) await net1.exec(['ip', 'link', 'del', port], { ok: [0, 1] });
    await manage('network', 'take_down');
    assert.equal(await stateOf(net1), before);
  },
);
