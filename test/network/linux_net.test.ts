import assert from 'node:assert/strict';
import test from 'node:test';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { LinuxNetDriver } from '../../src/network/drivers/linux_net.ts';
import { networkFirewall, type FirewallState } from '../../src/network/logic/firewall.ts';
import { needs } from '../rigs/needs.ts';
import { startHost, startLan, type Host } from '../rigs/netns.ts';
import { until } from '../until.ts';
import { aBridge, aDriver, rulesOf, seenAs, startEcho, startGuest, startRouter, stateOf, openDir } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'dnsmasq', 'busybox', 'socat', 'ss');
const signal = new AbortController().signal;

const aFirewall = (host: Host, over: Partial<FirewallState> = {}, use_ipv6 = false) =>
  networkFirewall(
    {
      fixed_range: '10.77.0.0/24',
      networks: [{ bridge: 'br100', cidr: '10.77.0.0/24', project_id: null }],
      dmz_cidr: '10.128.0.0/24',
      routing_source_ip: host.address,
      metadata: { host: host.address, port: 8773 },
      ...over,
    },
    use_ipv6,
  );

test('a guest reaches the metadata server by its own address and the world by the host’s', { skip }, async (t) => {
  const { hosts } = await startLan(t, ['net1', 'world']);
  const [net1, world] = hosts as [Host, Host];
  const driver = aDriver(net1, openDir(t));
  await driver.initHost({ metadata: true }, signal);
  await driver.ensureBridge(aBridge(), signal);
  await driver.applyFirewall(aFirewall(net1), signal);
  const guest = await startGuest(t, net1, '02:16:3e:00:00:02');
  await guest.exec(['ip', 'addr', 'add', '10.77.0.2/24', 'dev', 'eth0']);
  await guest.exec(['ip', 'route', 'add', 'default', 'via', '10.77.0.1']);
  await startEcho(t, net1, 8773);
  await startEcho(t, world, 7000);

  assert.equal(await seenAs(guest, '169.254.169.254', 80), '10.77.0.2');
  assert.equal(await seenAs(guest, world.address, 7000), net1.address);

  // Now the metadata server is on the other host: it must see the guest too, so its traffic is not rewritten.
  await world.exec(['ip', 'route', 'add', '10.77.0.0/24', 'via', net1.address]);
  await startEcho(t, world, 8773);
  await driver.applyFirewall(aFirewall(net1, { metadata: { host: world.address, port: 8773 } }), signal);
  assert.equal(await seenAs(guest, '169.254.169.254', 80), '10.77.0.2');
});

test('a metadata server on loopback of the host is not needed: guests reach it by the bridge', { skip }, async (t) => {
  const net1 = await startHost(t, 'net1');
  const driver = aDriver(net1, openDir(t));
  await driver.initHost({ metadata: true }, signal);
  await driver.ensureBridge(aBridge(), signal);
  await driver.applyFirewall(aFirewall(net1, { metadata: { host: '127.0.0.1', port: 8773 } }), signal);
  const guest = await startGuest(t, net1, '02:16:3e:00:00:02');
  await guest.exec(['ip', 'addr', 'add', '10.77.0.2/24', 'dev', 'eth0']);
  await guest.exec(['ip', 'route', 'add', 'default', 'via', '10.77.0.1']);
  await startEcho(t, net1, 8773);

  assert.equal(await seenAs(guest, '169.254.169.254', 80), '10.77.0.2');
});

test('applying again changes nothing, counters neither, and foreign rules and chains stay', { skip }, async (t) => {
  const net1 = await startHost(t, 'net1');
  for (const rule of ['-N DOCKER', '-A DOCKER -j RETURN', '-A FORWARD -j DOCKER', '-A INPUT -s 192.0.2.9/32 -j DROP'])
    await net1.exec(['iptables', ...rule.split(' ')]);
  const driver = aDriver(net1, openDir(t));
  await driver.ensureBridge(aBridge(), signal);
  await driver.applyFirewall(aFirewall(net1), signal);
  await net1.exec(['ping', '-c1', '10.77.0.1']);
  const counted = async () => (await net1.exec(['iptables-save', '-c', '-t', 'nat'])).stdout;
  const between_guests = '[1:84] -A nova-network-POSTROUTING -s 10.77.0.0/24 -d 10.77.0.0/24 -j ACCEPT';
  assert.ok((await counted()).includes(between_guests));
  const rules = await rulesOf(net1);

  await driver.ensureBridge(aBridge(), signal);
  await driver.applyFirewall(aFirewall(net1), signal);
  await aDriver(net1, openDir(t)).applyFirewall(aFirewall(net1), signal); // a nova-network that was started anew

  assert.equal(await rulesOf(net1), rules);
  assert.ok((await counted()).includes(between_guests));
  const filter = await rulesOf(net1, '-t', 'filter');
  assert.match(filter, /-A FORWARD -j nova-filter-top\n-A FORWARD -j nova-network-FORWARD\n-A FORWARD -j DOCKER\n/);
  assert.match(filter, /-A INPUT -s 192\.0\.2\.9\/32 -j DROP/);
  assert.match(filter, /-A DOCKER -j RETURN/);
});

test('two daemons that apply at the same time both have their rules in the end', { skip }, async (t) => {
  const net1 = await startHost(t, 'net1');
  const networks_path = openDir(t);
  const drivers = ['nova-network', 'nova-compute'].map((binary) => aDriver(net1, networks_path, {}, binary));

  for (let round = 0; round < 5; round++) {
    const firewall = aFirewall(net1, { routing_source_ip: `192.0.2.${round + 1}` });
    await Promise.all(drivers.map((driver) => driver.applyFirewall(firewall, signal)));
  }

  const nat = await rulesOf(net1, '-t', 'nat');
  for (const binary of ['nova-network', 'nova-compute']) {
    assert.equal(nat.split(`-A POSTROUTING -j ${binary}-POSTROUTING\n`).length, 2);
    assert.match(nat, new RegExp(`-A ${binary}-snat -s 10.77.0.0/24 -j SNAT --to-source 192.0.2.5\n`));
  }
  assert.equal(nat.split('-A POSTROUTING -j nova-postrouting-bottom\n').length, 2);
});

test(
  'an interface put into the bridge lends it its address and routes, once, and gets them back',
  { skip },
  async (t) => {
    const { hosts } = await startLan(t, ['net1', 'world']);
    const [net1, world] = hosts as [Host, Host];
    await net1.exec(['ip', 'route', 'add', 'default', 'via', world.address, 'metric', '50']);
    await net1.exec(['ip', 'route', 'add', '192.0.2.0/24', 'via', world.address]);
    const driver = aDriver(net1, openDir(t));
    await driver.bindAddresses('eth0', ['203.0.113.5'], signal);
    const floating = async () =>
      (await driver.hostAddresses(signal)).find(({ marked, prefix }) => marked && prefix === 32)?.device;
    const before = await stateOf(net1);
    const spec = aBridge({ interface: 'eth0' });

    await driver.ensureBridge(spec, signal);
    const once = await stateOf(net1);
    await driver.ensureBridge(spec, signal);

    assert.equal(await stateOf(net1), once);
    assert.equal(await floating(), 'br100');
    const routes = (await net1.exec(['ip', 'route'])).stdout;
    assert.match(routes, new RegExp(`default via ${world.address} dev br100 metric 50`));
    assert.match(routes, new RegExp(`192.0.2.0/24 via ${world.address} dev br100`));
    assert.doesNotMatch((await net1.exec(['ip', '-4', 'addr', 'show', 'dev', 'eth0'])).stdout, /inet/);
    await world.exec(['ping', '-c1', '-W5', net1.address]);

    assert.deepEqual(await driver.takeDown([spec], signal), []);
    assert.equal(await stateOf(net1), before);
    assert.equal(await floating(), 'eth0');
    await world.exec(['ping', '-c1', '-W5', net1.address]);
  },
);

for (const [what, routes] of [
  ['beside a direct route to it', ['198.51.100.1/32 dev eth0', 'default via 198.51.100.1 dev eth0']],
  ['that is said to be on the link', ['default via 198.51.100.1 dev eth0 onlink']],
] as const)
  test(`the way out by a gateway outside of the host's own network, ${what}, moves along`, { skip }, async (t) => {
    const { hosts } = await startLan(t, ['net1', 'world']);
    const [net1, world] = hosts as [Host, Host];
    await world.exec(['ip', 'addr', 'add', '198.51.100.1/32', 'dev', 'eth0']);
    for (const route of routes) await net1.exec(['ip', 'route', 'add', ...route.split(' ')]);
    const before = await stateOf(net1);
    const driver = aDriver(net1, openDir(t));
    const spec = aBridge({ interface: 'eth0' });

    await driver.ensureBridge(spec, signal);

    assert.match((await net1.exec(['ip', 'route'])).stdout, /default via 198\.51\.100\.1 dev br100/);
    await net1.exec(['ping', '-c1', '-W5', '198.51.100.1']);
    assert.deepEqual(await driver.takeDown([spec], signal), []);
    const bare = (state: string) => state.replaceAll(` src ${net1.address}`, '');
    assert.equal(bare(await stateOf(net1)), bare(before));
  });

const ipv6Of = async (host: Host, device: string) => {
  const addresses = await host.exec(['ip', '-6', 'addr', 'show', 'dev', device, 'scope', 'global']);
  return `${addresses.stdout}${(await host.exec(['ip', '-6', 'route', 'show', 'dev', device])).stdout}`;
};

test('IPv6 addresses and routes move to the bridge with their interface, and back', { skip }, async (t) => {
  const { hosts } = await startLan(t, ['net1', 'world']);
  const [net1, world] = hosts as [Host, Host];
  await world.exec(['ip', 'addr', 'add', '2001:db8::1/64', 'dev', 'eth0', 'nodad']);
  await world.exec(['ip', 'addr', 'add', '2001:db8:9::1/128', 'dev', 'lo']);
  await net1.exec(['ip', 'addr', 'add', '2001:db8::2/64', 'dev', 'eth0', 'nodad']);
  await net1.exec('ip route add default via 2001:db8::1 dev eth0 src 2001:db8::2'.split(' '));
  const before = await ipv6Of(net1, 'eth0');
  const driver = aDriver(net1, openDir(t));
  const spec = aBridge({ interface: 'eth0' });

  await driver.ensureBridge(spec, signal);
  await driver.ensureBridge(spec, signal);

  assert.match(await ipv6Of(net1, 'br100'), /default via 2001:db8::1 src 2001:db8::2 /);
  assert.doesNotMatch(await ipv6Of(net1, 'eth0'), /2001:|default/);
  await net1.exec(['ping', '-c1', '-W5', '2001:db8:9::1']);
  assert.deepEqual(await driver.takeDown([spec], signal), []);
  assert.equal(await ipv6Of(net1, 'eth0'), before);
});

test('IPv6 that a router advertises moves with what is left of its lifetime, and back', { skip }, async (t) => {
  const { hosts } = await startLan(t, ['net1', 'world']);
  const [net1, world] = hosts as [Host, Host];
  await startRouter(t, world);
  const learned = /2001:db8:1:.* dynamic [^]*default via fe80:.* proto ra .*expires/;
  await until('the host heard the router', async () => learned.test(await ipv6Of(net1, 'eth0')));
  const driver = aDriver(net1, openDir(t));
  const spec = aBridge({ interface: 'eth0' });

  await driver.ensureBridge(spec, signal);

  assert.doesNotMatch(await ipv6Of(net1, 'eth0'), /2001:|default/);
  assert.match(await ipv6Of(net1, 'br100'), learned);
  await net1.exec(['ping', '-c1', '-W5', '2001:db8:9::1']);
  await driver.ensureBridge(spec, signal);
  assert.deepEqual(await driver.takeDown([spec], signal), []);
  assert.match(await ipv6Of(net1, 'eth0'), learned);
  await net1.exec(['ping', '-c1', '-W5', '2001:db8:9::1']);
});

test('a host that begins to forward IPv6 keeps the way out that a router advertises to it', { skip }, async (t) => {
  const { hosts } = await startLan(t, ['net1', 'world']);
  const [net1, world] = hosts as [Host, Host];
  await startRouter(t, world);
  await until('the host heard the router', async () => /default .* proto ra/.test(await ipv6Of(net1, 'eth0')));
  const driver = aDriver(net1, openDir(t), { use_ipv6: true });

  await driver.initHost({ metadata: true }, signal);

  const setting = async (name: string) => (await net1.exec(['sysctl', '-n', name])).stdout.trim();
  assert.equal(await setting('net.ipv6.conf.all.forwarding'), '1');
  await net1.exec(['ping', '-c1', '-W5', '2001:db8:9::1']);
  assert.equal(await setting('net.ipv6.conf.eth1.accept_ra'), '1', 'where no router is heard, nothing changes');
  await driver.ensureBridge(aBridge({ interface: 'eth0' }), signal);
  assert.equal(await setting('net.ipv6.conf.br100.accept_ra'), '2');
  await net1.exec(['ping', '-c1', '-W5', '2001:db8:9::1']);
});

test(
  'an interface that is not there, or a bridge name that is taken by something else, is refused by name',
  { skip },
  async (t) => {
    const net1 = await startHost(t, 'net1');
    await net1.exec(['ip', 'link', 'add', 'dum0', 'type', 'veth', 'peer', 'name', 'dum1']);
    const driver = aDriver(net1, openDir(t));

    await assert.rejects(
      driver.ensureBridge(aBridge({ interface: 'eth7' }), signal),
      /interface eth7 for bridge br100/,
    );
    await assert.rejects(driver.ensureBridge(aBridge({ bridge: 'dum0' }), signal), /dum0 is a veth, no bridge/);
    await assert.rejects(driver.ensureBridge(aBridge({ bridge: 'br 1; x' }), signal), /not an interface name/);
  },
);

test('takeDown leaves the host as it was; a bridge with a guest in it stays and is named', { skip }, async (t) => {
  const { hosts } = await startLan(t, ['net1']);
  const [net1] = hosts as [Host];
  const before = await stateOf(net1);
  const driver = aDriver(net1, openDir(t));
  await driver.initHost({ metadata: true }, signal);
  await driver.ensureBridge(aBridge(), signal);
  await driver.applyFirewall(aFirewall(net1), signal);
  await net1.exec(['ip', 'link', 'add', 'tap9', 'type', 'veth', 'peer', 'name', 'peer9']);
  await net1.exec(['ip', 'link', 'set', 'tap9', 'master', 'br100']);

  assert.deepEqual(await driver.takeDown([aBridge()], signal), [{ bridge: 'br100', ports: ['tap9'] }]);
  await net1.exec(['ip', 'link', 'del', 'tap9']);
  assert.deepEqual(await driver.takeDown([aBridge()], signal), []);

  assert.equal(await stateOf(net1), before);
});

test('a bridge that the operator made is used and left to him', { skip }, async (t) => {
  const net1 = await startHost(t, 'net1');
  await net1.exec(['ip', 'link', 'add', 'br100', 'type', 'bridge']);
  const driver = aDriver(net1, openDir(t));

  await driver.ensureBridge(aBridge(), signal);
  await driver.takeDown([aBridge()], signal);

  const { stdout } = await net1.exec(['ip', 'addr', 'show', 'dev', 'br100']);
  assert.match(stdout, /br100/);
  assert.doesNotMatch(stdout, /10\.77\.0\.1/);
});

test('rules of IPv6 go with --use_ipv6, at the next start or with all others', { skip }, async (t) => {
  const net1 = await startHost(t, 'net1');
  const v6 = async () => (await net1.exec(['ip6tables-save'])).stdout.match(/^(?::nova|-A).*/gm) ?? [];
  await net1.exec(['ip6tables', '-A', 'INPUT', '-s', '2001:db8::9', '-j', 'DROP']);
  const foreign = await v6();
  const wanted = aFirewall(net1);
  const before = aDriver(net1, openDir(t), { use_ipv6: true });
  await before.applyFirewall(aFirewall(net1, { by_project: true }, true), signal);
  const rules = await v6();
  assert.ok(rules.length > foreign.length);

  const off = aDriver(net1, openDir(t));
  await off.applyFirewall(wanted, signal);
  assert.deepEqual(await v6(), foreign);

  await before.applyFirewall(aFirewall(net1, { by_project: true }, true), signal);
  const doctor = aDriver(net1, openDir(t));
  const told = (await doctor.lookAtFirewall(wanted, signal)).filter(({ what }) => what.startsWith('ip6tables'));
  assert.ok(
    told.some(({ what }) => what === 'ip6tables table filter chain nova-network-FORWARD'),
    JSON.stringify(told),
  );
  await doctor.takeDown([], signal);
  assert.deepEqual(await v6(), foreign);
  assert.deepEqual(await doctor.lookAtFirewall({ v4: [], v6: [] }, signal), []);
});

test('a bridge or VLAN interface and the mark that it is ours are made by one command', { skip }, async (t) => {
  const net1 = await startHost(t, 'net1');
  const commands: string[] = [];
  const instead = (argv: readonly string[], input: string) => void commands.push([...argv, input].join(' '));
  const flags = Flags.of({ networks_path: openDir(t) });
  const driver = new LinuxNetDriver({ flags, log: silentLog, prefix: net1.enter, instead });

  await driver.ensureBridge(aBridge(), signal).catch(() => undefined); // what was to be made is not there
  await driver.ensureBridge(aBridge({ vlan: { id: 100, parent: 'lo' } }), signal).catch(() => undefined);

  const making = commands.filter((command) => command.includes('link add'));
  assert.equal(making.length, 2, commands.join('\n'));
  for (const command of making) assert.match(command, /link add .*\nlink set dev (br100|vlan100) alias nova-network\n/);
});
