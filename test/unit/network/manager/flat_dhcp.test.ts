import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock } from '../../../../src/common/clock.ts';
import { adminContext } from '../../../../src/common/context.ts';
import { deleteNetwork, moveNetwork, networkById } from '../../../../src/common/db/networks.ts';
import {
  Aborted,
  BackendUnavailable,
  InvalidInput,
  NetworkNotFound,
  NoMoreAddresses,
  RpcUnavailable,
} from '../../../../src/common/errors.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { FakeNetworkDriver } from '../../../../src/network/drivers/fake.ts';
import { networkContract } from '../../../../src/network/rpc.ts';
import { aContext, aDatabase, anInstance, aNetwork } from '../../../builders.ts';
import { aNetworkHost, anEmptyNetwork } from './a_network_host.ts';

test('at its start nova-network takes the network and is its gateway, DHCP server and metadata address', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t);

  const { driver } = await aNetworkHost(db, { flat_interface: 'eth1' });

  assert.equal((await networkById(db, network_id)).host, 'net1');
  assert.deepEqual(driver.made.get('br100'), {
    bridge: 'br100',
    interface: 'eth1',
    vlan: null,
    gateways: [{ address: '10.0.0.1', prefix: 24, broadcast: '10.0.0.255' }],
    gateways_v6: [],
  });
  assert.equal(driver.dhcp.get('br100')?.networks[0].dhcp_server, '10.0.0.1');
  assert.ok(driver.metadata_ip);
  const nat = driver.firewall?.v4.find((table) => table.table === 'nat');
  assert.match(nat?.chains['PREROUTING']?.[0] ?? '', /169\.254\.169\.254.* --to-destination 192\.0\.2\.1:8773/);
});

test('forwarding that somebody turned off is on again after a period', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const { driver, manager } = await aNetworkHost(db);
  driver.forwarding = false;

  await manager.periodicTasks();

  assert.ok(driver.forwarding);
});

test('guests are led to a metadata service on a port of its own when --metadata_dnat says so', async (t) => {
  const { db } = await anEmptyNetwork(t);

  const { driver } = await aNetworkHost(db, { metadata_dnat: '127.0.0.1:8775' });

  const nat = driver.firewall?.v4.find((table) => table.table === 'nat');
  assert.match(nat?.chains['PREROUTING']?.[0] ?? '', /169\.254\.169\.254.* -j REDIRECT --to-ports 8775/);
  await assert.rejects(aNetworkHost(db, { metadata_dnat: '127.0.0.1' }), /--metadata_dnat=127\.0\.0\.1: not HOST:PORT/);
});

test('an instance gets an address, and when the answer is there DHCP knows it', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t);
  const id = await anInstance(db, { hostname: 'web' });
  const { driver, allocate } = await aNetworkHost(db);

  const [nic, ...more] = await allocate(id);

  assert.ok(nic);
  assert.deepEqual(more, []);
  assert.match(nic.mac, /^02:16:3e:[0-7]/);
  const { mac, ...rest } = nic;
  assert.deepEqual(rest, {
    network_id,
    network_label: 'private',
    bridge: 'br100',
    vlan: null,
    bridge_interface: null,
    address: '10.0.0.2',
    netmask: '255.255.255.0',
    prefix: 24,
    gateway: '10.0.0.1',
    broadcast: '10.0.0.255',
    dhcp_server: '10.0.0.1',
    dns: ['8.8.4.4'],
    injected: false,
    address_v6: null,
    gateway_v6: null,
    multi_host: false,
  });
  assert.deepEqual(driver.dhcp.get('br100')?.hosts, [{ mac, address: '10.0.0.2', hostname: 'web', leased: 0 }]);
});

test('asking again gives the same card', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const id = await anInstance(db);
  const { allocate } = await aNetworkHost(db);

  const [first, second] = await Promise.all([allocate(id), allocate(id)]);

  assert.deepEqual(second, first);
});

test('DHCP knows an instance no more when it has given its address back', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db);
  const { manager, allocate, dhcpAddresses } = await aNetworkHost(db);
  const instance_id = await anInstance(db, { task_state: 'networking' });
  const [nic] = await allocate(instance_id);
  assert.deepEqual(dhcpAddresses(), [nic?.address]);

  await manager.deallocateForInstance(aContext(), { instance_id });

  assert.deepEqual(dhcpAddresses(), []);
});

test('200 launches at once have 200 addresses, all known to DHCP by a few rewrites of its file', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const ids = [];
  for (let i = 0; i < 200; i++) ids.push(await anInstance(db));
  const { driver, allocate, dhcpAddresses } = await aNetworkHost(db);
  const told = driver.dhcp.get('br100')?.told ?? 0;

  const missing: string[] = [];
  const got = await Promise.all(
    ids.map(async (id) => {
      const [nic] = await allocate(id);
      if (!nic || !dhcpAddresses().includes(nic.address)) missing.push(String(nic?.address));
      return nic?.address;
    }),
  );

  assert.equal(new Set(got).size, 200);
  assert.deepEqual(missing, []);
  assert.ok((driver.dhcp.get('br100')?.told ?? 0) - told < 100);
});

test('an address that was given back is given again after its lease ended, or after the timeout', async (t) => {
  const { db } = await anEmptyNetwork(t, { cidr: '10.0.0.0/29', broadcast: '10.0.0.7' });
  const ids: number[] = [];
  for (let i = 0; i < 7; i++) ids.push(await anInstance(db));
  const { driver, manager, allocate } = await aNetworkHost(db, { fixed_ip_disassociate_timeout: 600 });
  const [[a], [b]] = (await Promise.all(ids.slice(0, 5).map((id) => allocate(id)))) as never as [
    [{ address: string }],
    [{ address: string }],
  ];
  for (const id of ids.slice(0, 2)) await manager.deallocateForInstance(aContext(), { instance_id: id });

  await assert.rejects(allocate(ids[5] ?? 0), NoMoreAddresses);
  driver.events.push({ event: 'del', mac: '02:16:3e:00:00:01', address: a.address });
  await manager.periodicTasks();
  assert.equal((await allocate(ids[5] ?? 0))[0]?.address, a.address);

  await assert.rejects(allocate(ids[6] ?? 0), NoMoreAddresses);
  const { now } = clock;
  t.after(() => (clock.now = now));
  clock.now = () => new Date(now().getTime() + 601_000);
  await manager.periodicTasks();
  assert.equal((await allocate(ids[6] ?? 0))[0]?.address, b.address);
});

test('a lease is taken down for the card that has the address and refused for another', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const { driver, manager, allocate } = await aNetworkHost(db);
  const [nic] = await allocate(await anInstance(db));
  const leased = async () => (await db.selectFrom('fixed_ips').select('leased').execute()).map((row) => row.leased);
  const other = '02:16:3e:00:00:99';
  assert.ok(nic);

  await assert.rejects(manager.leaseFixedIp(aContext(), { address: nic.address, mac: other }), InvalidInput);
  driver.events.push({ event: 'add', mac: other, address: nic.address });
  driver.events.push({ event: 'add', mac: other, address: '10.0.0.77' });
  await manager.periodicTasks();
  assert.deepEqual(await leased(), [0]);

  driver.events.push({ event: 'add', mac: nic.mac, address: nic.address });
  await manager.periodicTasks();
  assert.deepEqual(await leased(), [1]);
  assert.deepEqual(driver.events, []);
});

test('an instance that is being deleted gets no address, since nobody would give it back', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const { allocate } = await aNetworkHost(db);

  await assert.rejects(allocate(await anInstance(db, { task_state: 'deleting' })), Aborted);
});

test('addresses of an instance that went without giving them back come free', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const id = await anInstance(db);
  const { manager, allocate } = await aNetworkHost(db, { fixed_ip_disassociate_timeout: 0 });
  await allocate(id);
  await db.updateTable('instances').set({ deleted: 1, deleted_at: '2011-04-15T00:00:00.000Z' }).execute();

  await manager.periodicTasks();
  await manager.periodicTasks();

  assert.deepEqual(await db.selectFrom('virtual_interfaces').selectAll().execute(), []);
  assert.deepEqual(await manager.getInstanceNwInfo(aContext(), { instance_id: id }), []);
});

test('the host that has the network answers for it, whichever is asked', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const bus = new MemoryBus();
  t.after(() => bus.close());
  const first = await aNetworkHost(db, {}, 'net1', bus);
  await bus.consume('network', 'net1', async ({ method, args, context }) => {
    const name = networkContract.by_wire.get(method);
    assert.equal(name, 'allocateForInstance');
    return first.manager.allocateForInstance(context, args as never);
  });
  const second = await aNetworkHost(db, {}, 'net2', bus);

  const [nic] = await second.allocate(await anInstance(db));

  assert.deepEqual(first.dhcpAddresses(), [nic?.address]);
  assert.equal(second.driver.made.size, 0);
  assert.equal(await second.manager.getNetworkHost(adminContext()), 'net1');
});

test('a bridge that cannot be set up holds up neither the other bridges of the host nor its rules', async (t) => {
  const { db } = await anEmptyNetwork(t, { bridge: 'br7' });
  const second = { cidr: '10.1.0.0/24', gateway: '10.1.0.1', dhcp_start: '10.1.0.2', broadcast: '10.1.0.255' };
  await aNetwork(db, { ...second, host: 'net1' });
  const { driver, manager } = await aNetworkHost(db, { flat_network_bridge: 'br7' });
  assert.deepEqual([...driver.made.keys()], ['br7', 'br100']);
  const { ensureBridge } = FakeNetworkDriver.prototype;
  driver.ensureBridge = async (spec) => {
    if (spec.bridge === 'br7') throw new BackendUnavailable('br7 does not come');
    return ensureBridge.call(driver, spec);
  };
  driver.made.clear();
  driver.firewall = null;

  await assert.rejects(manager.periodicTasks(), /br7 does not come/);

  assert.deepEqual([[...driver.made.keys()], driver.firewall !== null], [['br100'], true]);
});

test('without a network the answer names the bridge and the command that makes one', async (t) => {
  const db = await aDatabase(t);
  const { allocate } = await aNetworkHost(db, { flat_network_bridge: 'br7' });

  await assert.rejects(allocate(await anInstance(db)), (err) => {
    assert.ok(err instanceof NetworkNotFound);
    assert.match(err.message, /bridge br7.*nova-manage network create/);
    return true;
  });
});

test('a network that is made while nova-network runs is set up by the first launch', async (t) => {
  const db = await aDatabase(t);
  const { driver, allocate } = await aNetworkHost(db);
  assert.equal(driver.made.size, 0);

  await aNetwork(db);
  const [nic] = await allocate(await anInstance(db));

  assert.equal(nic?.address, '10.0.0.2');
  assert.ok(driver.made.has('br100'));
  assert.equal(driver.firewall?.v4[0]?.chains['FORWARD']?.length, 2);
});

test('of two networks on one bridge the older one serves, when it is full the other, and both have their gateway', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t, { cidr: '10.0.0.0/29', broadcast: '10.0.0.7' });
  await aNetwork(db, { cidr: '10.1.0.0/24', gateway: '10.1.0.1', dhcp_start: '10.1.0.2', broadcast: '10.1.0.255' });
  const { driver, manager, allocate, dhcpAddresses } = await aNetworkHost(db);
  const ids: number[] = [];
  for (let i = 0; i < 7; i++) ids.push(await anInstance(db));

  const got = (await Promise.all(ids.map((id) => allocate(id)))).map(([nic]) => nic?.address ?? '');

  assert.equal(got.filter((address) => address.startsWith('10.0.0.')).length, 5);
  assert.equal(got.filter((address) => address.startsWith('10.1.0.')).length, 2);
  assert.deepEqual(dhcpAddresses().sort(), [...got].sort());
  assert.deepEqual(
    driver.made.get('br100')?.gateways.map(({ address, prefix }) => `${address}/${prefix}`),
    ['10.0.0.1/29', '10.1.0.1/24'],
  );
  assert.deepEqual(
    driver.dhcp.get('br100')?.networks.map(({ dhcp_server, dhcp_start }) => [dhcp_server, dhcp_start]),
    [
      ['10.0.0.1', '10.0.0.2'],
      ['10.1.0.1', '10.1.0.2'],
    ],
  );
  const late = got.findIndex((address) => address.startsWith('10.1.0.'));
  await manager.deallocateForInstance(aContext(), { instance_id: ids[1] ?? 0 });
  await db.deleteFrom('fixed_ips').where('released_at', 'is not', null).execute();
  assert.equal((await allocate(ids[late] ?? 0))[0]?.address, got[late], 'who has one keeps it');

  await db.deleteFrom('fixed_ips').execute();
  await deleteNetwork(db, network_id);
  await manager.periodicTasks();
  assert.equal(driver.dhcp.get('br100')?.networks[0].dhcp_server, '10.1.0.1');
  assert.equal((await allocate(await anInstance(db)))[0]?.address, '10.1.0.2');
});

test('a network keeps its first address for guests, whatever the flag says now', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t, { gateway: '10.0.0.5', dhcp_start: '10.0.0.100' });

  const { manager, allocate } = await aNetworkHost(db, { flat_network_dhcp_start: '10.0.0.2' });
  await manager.periodicTasks();

  assert.equal((await networkById(db, network_id)).dhcp_start, '10.0.0.100');
  assert.equal((await allocate(await anInstance(db)))[0]?.address, '10.0.0.100');
});

test('a network whose host does not answer is named with what to do', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t);
  await moveNetwork(db, network_id, 'gone');
  const { allocate } = await aNetworkHost(db);

  await assert.rejects(allocate(await anInstance(db)), (err) => {
    assert.ok(err instanceof RpcUnavailable);
    assert.match(err.message, /10\.0\.0\.0\/24 is served by host gone.*network modify 10\.0\.0\.0\/24 --host=net1/);
    return true;
  });
});
