import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import type { LinuxNetDriver } from '../../src/network/drivers/linux_net.ts';
import { eui64Address } from '../../src/common/eui64.ts';
import type { DhcpEvent } from '../../src/network/logic/dhcp_hosts.ts';
import { needs } from '../rigs/needs.ts';
import { startHost } from '../rigs/netns.ts';
import { tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { aBridge, aDhcpHost, aDhcpNetwork, aDriver, openDir, startGuest } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'dnsmasq', 'dhcp_release', 'busybox');
const signal = new AbortController().signal;

/** A host whose bridge is up, and its driver. */
async function aNetworkHost(t: Scope, networks_path = openDir(t)) {
  const host = await startHost(t, 'net1');
  const driver = aDriver(host, networks_path);
  await driver.ensureBridge(aBridge(), signal);
  return { host, driver, networks_path };
}

/** The process that answers, not its helper for the lease script. */
const dnsmasqPid = (networks_path: string): string =>
  readFileSync(join(networks_path, 'nova-br100.pid'), 'utf8').trim();

async function eventsUntil(driver: LinuxNetDriver, wanted: DhcpEvent['event']): Promise<DhcpEvent[]> {
  const events: DhcpEvent[] = [];
  const drain = async () => {
    await driver.drainDhcpEvents(async (event) => void events.push(event));
    return events.some(({ event }) => event === wanted) && events;
  };
  return until(`there is an event ${wanted}`, drain, () => JSON.stringify(events));
}

test(
  'a guest gets its address, router and domain by DHCP, and nova-network is told of the lease',
  { skip },
  async (t) => {
    const { host, driver } = await aNetworkHost(t);
    await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
    const guest = await startGuest(t, host, aDhcpHost(2).mac);

    assert.equal(await guest.dhcp(), '10.77.0.2/24 router 10.77.0.1 server 10.77.0.1 domain novalocal name vm2');

    const { mac, address } = aDhcpHost(2);
    assert.deepEqual(await eventsUntil(driver, 'add'), [{ event: 'add', mac, address }]);
    await guest.exec(['ping', '-c1', '-W5', '10.77.0.1']);
  },
);

test(
  'guests of two networks on one bridge get an address and a router of their own by one dnsmasq',
  { skip },
  async (t) => {
    const { host, driver } = await aNetworkHost(t);
    const gateways = [
      { address: '10.77.0.1', prefix: 24, broadcast: '10.77.0.255' },
      { address: '10.78.0.1', prefix: 24, broadcast: '10.78.0.255' },
    ];
    await driver.ensureBridge(aBridge({ gateways }), signal);
    const other = aDhcpNetwork({
      network_id: 8,
      dhcp_server: '10.78.0.1',
      gateway: '10.78.0.1',
      dhcp_start: '10.78.0.2',
    });
    const guests = [aDhcpHost(2), { ...aDhcpHost(3), address: '10.78.0.3' }];
    await driver.updateDhcp([aDhcpNetwork(), other], guests, [], signal);

    const answers = [];
    for (const { mac } of guests) answers.push(await (await startGuest(t, host, mac)).dhcp());

    assert.match(answers[0] ?? '', /^10\.77\.0\.2\/24 router 10\.77\.0\.1 /);
    assert.match(answers[1] ?? '', /^10\.78\.0\.3\/24 router 10\.78\.0\.1 /);
  },
);

test(
  'a guest that is added while dnsmasq runs is served, a stranger is not, in closed folders too',
  { skip },
  async (t) => {
    const closed = tempDir(t, 'closed'); // dnsmasq as nobody could not read the hosts file in it a second time
    const { host, driver } = await aNetworkHost(t, join(closed, 'networks'));
    await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
    const pid = dnsmasqPid(join(closed, 'networks'));

    await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2), aDhcpHost(3)], [], signal);

    const [guest, stranger] = [
      await startGuest(t, host, aDhcpHost(3).mac),
      await startGuest(t, host, aDhcpHost(4).mac),
    ];
    assert.match(await guest.dhcp(), /^10\.77\.0\.3\/24 /);
    assert.equal(dnsmasqPid(join(closed, 'networks')), pid);
    await assert.rejects(stranger.dhcp(), /no lease, failing/);
  },
);

test(
  'a guest whose nova-network ended between writing the hosts file and telling dnsmasq gets its address later',
  { skip },
  async (t) => {
    const { host, driver, networks_path } = await aNetworkHost(t);
    await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
    const guests = [aDhcpHost(2), aDhcpHost(3)];
    await assert.rejects(driver.updateDhcp([aDhcpNetwork()], guests, [], AbortSignal.abort()));
    assert.match(readFileSync(join(networks_path, 'nova-br100.conf'), 'utf8'), /10\.77\.0\.3/);
    const anew = aDriver(host, networks_path);
    const [unread, ...others] = await anew.lookAtDhcp([aDhcpNetwork()], guests);
    assert.match(unread?.expected ?? '', /that it read .*nova-br100\.conf/);
    assert.deepEqual(others, []);

    await anew.updateDhcp([aDhcpNetwork()], guests, [], signal);

    const guest = await startGuest(t, host, aDhcpHost(3).mac);
    assert.match(await guest.dhcp(), /^10\.77\.0\.3\/24 /);
    assert.deepEqual(await anew.lookAtDhcp([aDhcpNetwork()], guests), []);
  },
);

test(
  'a nova-network that is started anew takes on the dnsmasq that runs, and restarts it for other options',
  { skip },
  async (t) => {
    const { host, driver, networks_path } = await aNetworkHost(t);
    await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
    const first = dnsmasqPid(networks_path);

    await aDriver(host, networks_path).updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
    assert.equal(dnsmasqPid(networks_path), first);

    await aDriver(host, networks_path, { dhcp_domain: 'example.org' }).updateDhcp(
      [aDhcpNetwork()],
      [aDhcpHost(2)],
      [],
      signal,
    );
    assert.notEqual(dnsmasqPid(networks_path), first);
    const guest = await startGuest(t, host, aDhcpHost(2).mac);
    assert.match(await guest.dhcp(), /domain example\.org/);
  },
);

test(
  'a pid file that names another process leads to a dnsmasq, and that process is left alone',
  { skip },
  async (t) => {
    const { host, driver, networks_path } = await aNetworkHost(t);
    writeFileSync(join(networks_path, 'nova-br100.pid'), '1\n');
    await driver.updateDhcp([aDhcpNetwork()], [], [], signal);
    const pid = dnsmasqPid(networks_path);
    const other = (await host.exec(['sh', '-c', 'sleep 1000 >/dev/null 2>&1 & echo $!'])).stdout.trim();
    await host.exec(['kill', '-KILL', pid]);
    writeFileSync(join(networks_path, 'nova-br100.pid'), `${other}\n`);

    await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);

    assert.ok(![pid, other].includes(dnsmasqPid(networks_path)));
    await host.exec(['kill', '-0', other]);
  },
);

test('a dnsmasq whose pid file was deleted with its folder is found and replaced', { skip }, async (t) => {
  const { host, driver, networks_path } = await aNetworkHost(t);
  await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
  const first = dnsmasqPid(networks_path);
  rmSync(networks_path, { recursive: true });

  await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);

  assert.notEqual(dnsmasqPid(networks_path), first);
  assert.match(await (await startGuest(t, host, aDhcpHost(2).mac)).dhcp(), /^10\.77\.0\.2\/24 /);
});

test('a dnsmasq that starts knows the leases that are out, so that a guest keeps its address', { skip }, async (t) => {
  const { driver } = await aNetworkHost(t);
  await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [aDhcpHost(2)], signal);

  // dnsmasq names the leases it has read to its hook, as `old`
  const { mac, address } = aDhcpHost(2);
  assert.deepEqual(await eventsUntil(driver, 'old'), [{ event: 'old', mac, address }]);
});

test('a lease that is released for a guest ends at once', { skip }, async (t) => {
  const { host, driver } = await aNetworkHost(t);
  await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
  await (await startGuest(t, host, aDhcpHost(2).mac)).dhcp();
  await eventsUntil(driver, 'add');

  await driver.releaseLease('br100', aDhcpHost(2), signal);

  const { mac, address } = aDhcpHost(2);
  assert.deepEqual(await eventsUntil(driver, 'del'), [{ event: 'del', mac, address }]);
});

test('events that a nova-network took and did not finish are handed out again', { skip }, async (t) => {
  const { host, driver, networks_path } = await aNetworkHost(t);
  await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
  await (await startGuest(t, host, aDhcpHost(2).mac)).dhcp();
  let seen = 0;
  await until('it took one', async () => {
    const died = driver.drainDhcpEvents(async () => {
      seen++;
      throw new Error('killed here');
    });
    await died.catch((err: Error) => assert.equal(err.message, 'killed here'));
    return seen > 0;
  });

  const events = await eventsUntil(aDriver(host, networks_path), 'add');

  assert.equal(events[0]?.address, '10.77.0.2');
  assert.ok(!readdirSync(networks_path).some((name) => name.endsWith('.taken')));
});

test('stopping takes dnsmasq and its files away', { skip }, async (t) => {
  const { host, driver, networks_path } = await aNetworkHost(t);
  await driver.updateDhcp([aDhcpNetwork()], [aDhcpHost(2)], [], signal);
  assert.match(
    readFileSync(join(networks_path, 'nova-br100.conf'), 'utf8'),
    /^02:16:3e:00:00:02,vm2\.novalocal,10\.77\.0\.2\n$/,
  );

  writeFileSync(join(networks_path, 'nova-br100.02:16:3e:00:00:02.event'), 'add 02:16:3e:00:00:02 10.77.0.2 vm2\n');

  await driver.removeNetwork(aBridge(), signal);

  await assert.rejects(host.exec(['pgrep', '-x', 'dnsmasq']), /ended with 1/);
  assert.deepEqual(readdirSync(networks_path), []);
});

test(
  'with IPv6 a guest makes its own address, as nova-network says it will, and reaches the gateway',
  { skip },
  async (t) => {
    const { host, driver } = await aNetworkHost(t);
    await driver.ensureBridge(aBridge({ gateways_v6: [{ address: 'fd00:77::1', prefix: 64 }] }), signal);
    await driver.updateDhcp([aDhcpNetwork({ cidr_v6: 'fd00:77::/64' })], [aDhcpHost(2)], [], signal);
    const { mac } = aDhcpHost(2);

    const guest = await startGuest(t, host, mac);

    await guest.dhcp();
    const wanted = eui64Address('fd00:77::/64', mac);
    // a tentative address is no source yet: what is sent meanwhile comes from nowhere, and is not answered
    const ready = ['ip', '-6', 'addr', 'show', 'dev', 'eth0', '-tentative'];
    await until(`it has ${wanted}`, async () => (await guest.exec(ready)).stdout.includes(`${wanted}/64`));
    await guest.exec(['ping', '-c1', '-W5', 'fd00:77::1']);
  },
);
