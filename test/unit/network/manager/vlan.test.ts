import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { allNetworks, moveNetwork } from '../../../../src/common/db/networks.ts';
import { InvalidInput, NoMoreAddresses, NoMoreNetworks } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { FakeNetworkDriver } from '../../../../src/network/drivers/fake.ts';
import { createVlanNetworks } from '../../../../src/network/manager/create_networks.ts';
import { VlanManager } from '../../../../src/network/manager/vlan.ts';
import { networkContract } from '../../../../src/network/rpc.ts';
import { aContext, aDatabase, anInstance, aProject } from '../../../builders.ts';
import { later } from '../../../clock.ts';

const signal = new AbortController().signal;

/** Projects apollo and gemini, and networks 10.0.0.0/28, 10.0.0.16/28, ... of VLANs 100, 101, ... */
async function aCloud(t: TestContext, num_networks = 2): Promise<NovaDb> {
  const db = await aDatabase(t);
  await aProject(db, 'apollo');
  await aProject(db, 'gemini', 'gus');
  const asked = { fixed_range: '10.0.0.0/24', num_networks, network_size: 16 };
  await createVlanNetworks({ db, flags: Flags.of() }, asked);
  return db;
}

async function aNetworkHost(
  t: TestContext,
  db: NovaDb,
  flags: Record<string, unknown> = {},
  host = 'net1',
  bus = new MemoryBus(),
) {
  t.after(() => bus.close());
  const driver = new FakeNetworkDriver();
  const given = Flags.of({ my_ip: '192.0.2.1', vlan_interface: 'eth1', ...flags });
  const manager = new VlanManager({ db, flags: given, log: silentLog, bus, host, driver });
  await bus.consume('network', host, async ({ method, args, context }) => {
    assert.equal(networkContract.by_wire.get(method), 'allocateForInstance');
    return manager.allocateForInstance(context, args as never);
  });
  await manager.initHost(signal);
  const launch = async (project_id: string, vpn = false) => {
    const instance_id = await anInstance(db, { project_id });
    const args = { instance_id, project_id, host: 'node1', hostname: 'web', vpn };
    const [nic] = await manager.allocateForInstance(aContext({ project_id }), args);
    assert.ok(nic);
    return { instance_id, ...nic };
  };
  const rules = (name: string, chain: string) =>
    driver.firewall?.v4.find((table) => table.table === name)?.chains[chain] ?? [];
  return { driver, manager, launch, rules, bus };
}

const minutesLater = (t: TestContext, minutes: number): void => later(t, minutes * 60);

test('the first launch of a project takes a network, whose bridge is on a VLAN with gateway and DHCP of its own', async (t) => {
  const db = await aCloud(t);
  const { driver, launch } = await aNetworkHost(t, db);
  assert.equal(driver.made.size, 0);

  const first = await launch('apollo');
  const second = await launch('gemini');
  const third = await launch('apollo');

  assert.deepEqual(
    [first, second, third].map(({ vlan, bridge, address, gateway }) => [vlan, bridge, address, gateway]),
    [
      [100, 'br100', '10.0.0.3', '10.0.0.1'],
      [101, 'br101', '10.0.0.19', '10.0.0.17'],
      [100, 'br100', '10.0.0.4', '10.0.0.1'],
    ],
  );
  assert.deepEqual(driver.made.get('br101'), {
    bridge: 'br101',
    interface: 'vlan101',
    vlan: { id: 101, parent: 'eth1' },
    gateways: [{ address: '10.0.0.17', prefix: 28, broadcast: '10.0.0.31' }],
    gateways_v6: [],
  });
  assert.equal(driver.dhcp.get('br100')?.networks[0].dhcp_start, '10.0.0.3');
  assert.deepEqual(
    driver.dhcp.get('br100')?.hosts.map(({ address }) => address),
    ['10.0.0.3', '10.0.0.4'],
  );
});

test('there are leases for as many guests as a network has, its VPN instance among them', async (t) => {
  const db = await aCloud(t, 1);
  const { driver, launch } = await aNetworkHost(t, db);
  await launch('apollo', true);
  for (let i = 3; i <= 14; i++) await launch('apollo');

  const { networks, hosts } = driver.dhcp.get('br100') ?? {};

  assert.equal(hosts?.length, 13);
  assert.ok((networks?.[0].lease_max ?? 0) >= 13);
});

test('DHCP tells guests the DNS servers that the network was made with, those of IPv4', async (t) => {
  const db = await aDatabase(t);
  await aProject(db, 'apollo');
  const dns = { dns1: '192.0.2.53', dns2: '2001:db8::53' };
  await createVlanNetworks({ db, flags: Flags.of() }, { fixed_range: '10.0.0.0/28', num_networks: 1, ...dns });
  const { driver, launch } = await aNetworkHost(t, db);

  await launch('apollo');

  assert.deepEqual(driver.dhcp.get('br100')?.networks[0].dns, ['192.0.2.53']);
});

test('a project beyond the last network is told what an operator can do, a full network is no other project’s', async (t) => {
  const db = await aCloud(t, 1);
  const { launch } = await aNetworkHost(t, db);
  for (let i = 3; i <= 14; i++) await launch('apollo');

  await assert.rejects(launch('apollo'), NoMoreAddresses);
  await assert.rejects(
    launch('gemini'),
    (err) => err instanceof NoMoreNetworks && /no network is free for project gemini.*network create/.test(err.message),
  );
});

test('a host makes the VPN forwards of its networks, and keeps projects apart', async (t) => {
  const db = await aCloud(t, 3);
  const { launch, rules } = await aNetworkHost(t, db, { vpn_ip: '198.51.100.7' });
  await launch('apollo');
  await launch('gemini');

  const forward = '-d 198.51.100.7/32 -p udp -m udp --dport 1001 -j DNAT --to-destination 10.0.0.18:1194';
  assert.ok(rules('nat', 'PREROUTING').includes(forward));
  assert.ok(rules('nat', 'OUTPUT').includes(forward));
  assert.ok(rules('filter', 'FORWARD').includes('-d 10.0.0.18/32 -p udp -m udp --dport 1194 -j ACCEPT'));
  assert.deepEqual(rules('mangle', 'INPUT'), [
    '-i lo -j RETURN',
    '-d 10.0.0.0/28 ! -i br100 -p udp -m udp --dport 53 -j DROP',
    '-d 10.0.0.0/28 ! -i br100 -p tcp -m tcp --dport 53 -j DROP',
    '-d 10.0.0.16/28 ! -i br101 -p udp -m udp --dport 53 -j DROP',
    '-d 10.0.0.16/28 ! -i br101 -p tcp -m tcp --dport 53 -j DROP',
  ]);
  assert.deepEqual(rules('mangle', 'FORWARD'), [
    '-i br100 -m conntrack ! --ctstate DNAT -j $projects',
    '-i br101 -m conntrack ! --ctstate DNAT -j $projects',
  ]);
  assert.deepEqual(rules('mangle', 'projects'), [
    '-i br100 -o br100 -j RETURN',
    '-i br101 -o br101 -j RETURN',
    '-o br100 -j DROP',
    '-o br101 -j DROP',
  ]);
});

test('the VPN instance has its network’s VPN address, and there is one', async (t) => {
  const db = await aCloud(t);
  const { manager, launch } = await aNetworkHost(t, db);

  assert.equal((await launch('apollo', true)).address, '10.0.0.2');
  const instance_id = await anInstance(db, { project_id: 'gemini' });
  assert.equal(await manager.allocateFixedIp(aContext(), { instance_id, vpn: true }), '10.0.0.18');
  assert.equal(await manager.allocateFixedIp(aContext(), { instance_id, vpn: true }), '10.0.0.18');
  await assert.rejects(
    launch('apollo', true),
    (err) =>
      err instanceof NoMoreAddresses &&
      /^the VPN address 10\.0\.0\.2 of network .* is that of i-00000001$/.test(err.message),
  );
});

test('when its last instance is gone and no lease is out a project’s network is free, and nothing of it is left', async (t) => {
  const db = await aCloud(t);
  const { driver, manager, launch, rules } = await aNetworkHost(t, db);
  const { instance_id } = await launch('apollo');
  await launch('gemini');
  await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', instance_id).execute();
  await manager.deallocateForInstance(aContext(), { instance_id });

  await manager.periodicTasks();
  assert.ok(driver.made.has('br100'), 'its address is in quarantine');
  minutesLater(t, 11);
  await manager.periodicTasks();

  assert.deepEqual([...driver.made.keys()], ['br101']);
  assert.deepEqual([...driver.dhcp.keys()], ['br101']);
  assert.ok(!rules('filter', 'FORWARD').some((rule) => rule.includes('br100')));
  assert.deepEqual(
    (await allNetworks(db)).map(({ project_id }) => project_id),
    [null, 'gemini'],
  );
});

test('a network that was given back while nova-network was away is taken off its host at the next start', async (t) => {
  const db = await aCloud(t);
  const { driver, launch } = await aNetworkHost(t, db);
  await launch('apollo');
  const free = { project_id: null, claimed_at: null, host: null };
  await db.updateTable('networks').set(free).execute();

  const deps = { db, flags: Flags.of({ my_ip: '192.0.2.1' }), log: silentLog, bus: new MemoryBus(), host: 'net1' };
  await new VlanManager({ ...deps, driver }).initHost(signal);

  assert.deepEqual([driver.made.size, driver.dhcp.size], [0, 0]);
});

test('so is one that another host got, or that was freed and deleted', async (t) => {
  const db = await aCloud(t);
  const { driver, launch } = await aNetworkHost(t, db);
  await launch('apollo');
  await launch('gemini');
  const [apollo, gemini] = (await allNetworks(db)).map(({ id }) => id);
  assert.deepEqual([...driver.made.keys()], ['br100', 'br101']);
  await moveNetwork(db, apollo ?? 0, 'net2');
  const gone = { project_id: null, claimed_at: null, host: null, deleted: 1 };
  await db
    .updateTable('networks')
    .set(gone)
    .where('id', '=', gemini ?? 0)
    .execute();

  const deps = { db, flags: Flags.of({ my_ip: '192.0.2.1' }), log: silentLog, bus: new MemoryBus(), host: 'net1' };
  await new VlanManager({ ...deps, driver }).initHost(signal);

  assert.deepEqual([driver.made.size, driver.dhcp.size], [0, 0]);
});

test('each network has the host that took it, which answers for it whoever is asked, until it is moved', async (t) => {
  const db = await aCloud(t);
  const bus = new MemoryBus();
  const one = await aNetworkHost(t, db, {}, 'net1', bus);
  const two = await aNetworkHost(t, db, { my_ip: '192.0.2.2' }, 'net2', bus);
  await one.launch('apollo');
  await two.launch('gemini');
  await two.launch('apollo');

  assert.deepEqual([...one.driver.made.keys()], ['br100']);
  assert.equal(one.driver.dhcp.get('br100')?.hosts.length, 2);
  assert.deepEqual([...two.driver.made.keys()], ['br101']);

  const [network] = await allNetworks(db);
  await moveNetwork(db, network?.id ?? 0, 'net2');
  await one.manager.periodicTasks();
  await two.manager.periodicTasks();

  assert.deepEqual([...one.driver.made.keys()], []);
  assert.deepEqual([...two.driver.made.keys()].sort(), ['br100', 'br101']);
  assert.equal((await allNetworks(db))[0]?.vpn_public_address, '192.0.2.2');
});

test('only networks with a VLAN have a VPN address', async (t) => {
  const db = await aCloud(t);
  const { launch } = await aNetworkHost(t, db);
  await db.updateTable('networks').set({ vpn_private_address: null }).execute();

  await assert.rejects(launch('apollo', true), InvalidInput);
});
