import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { deleteNetwork, moveNetwork, networkById } from '../../../../src/common/db/networks.ts';
import { unreserveFixedIp } from '../../../../src/common/db/operator_fixed_ips.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { FakeNetworkDriver } from '../../../../src/network/drivers/fake.ts';
import { FlatDhcpManager } from '../../../../src/network/manager/flat_dhcp.ts';
import { aContext, aDatabase, aFixedIp, anInstance, aNetwork } from '../../../builders.ts';

const signal = new AbortController().signal;

/** A nova-network that starts on host net1. @param driver what a former one left there */
async function aNetworkHost(db: NovaDb, flags: Record<string, unknown> = {}, driver = new FakeNetworkDriver()) {
  const given = Flags.of({ my_ip: '192.0.2.1', ec2_dmz_host: '192.0.2.1', ...flags });
  const manager = new FlatDhcpManager({ db, flags: given, log: silentLog, bus: new MemoryBus(), host: 'net1', driver });
  await manager.initHost(signal);
  return { driver, manager };
}

const anEmptyNetwork = async (t: TestContext, over: Parameters<typeof aNetwork>[1] = {}) => {
  const db = await aDatabase(t);
  return { db, network_id: await aNetwork(db, over) };
};

test('a multi_host network that was deleted is taken off each host, also while its nova-network was away', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t, { multi_host: 1 });
  const { driver, manager } = await aNetworkHost(db);
  assert.ok(driver.dhcp.has('br100'));

  await deleteNetwork(db, network_id);
  await aNetworkHost(db, {}, driver);

  assert.deepEqual([driver.made.size, driver.dhcp.size], [0, 0]);
  await manager.periodicTasks();
  assert.deepEqual(await db.selectFrom('fixed_ips').selectAll().execute(), []);
});

test('a network that was deleted, or given to another host, is taken off this host', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t);
  const { driver, manager } = await aNetworkHost(db);
  assert.ok(driver.dhcp.has('br100'));

  await moveNetwork(db, network_id, 'net2');
  await manager.periodicTasks();
  assert.equal(driver.made.size, 0);
  assert.equal(driver.dhcp.size, 0);
  assert.deepEqual(driver.firewall?.v4[0]?.chains['FORWARD'], []);

  await moveNetwork(db, network_id, 'net1');
  await manager.periodicTasks();
  assert.ok(driver.dhcp.has('br100'));
  await deleteNetwork(db, network_id);
  await manager.periodicTasks();
  assert.equal(driver.made.size, 0);
});

test('a host that is to let go of a network does not take it on again in the same moment', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t);
  const { driver, manager } = await aNetworkHost(db);

  await moveNetwork(db, network_id, null);
  await manager.bringNetworks(aContext(), { take_on: false });

  assert.deepEqual([driver.made.size, (await networkById(db, network_id)).host], [0, null]);
  await manager.bringNetworks(aContext(), {});
  assert.deepEqual([driver.made.size, (await networkById(db, network_id)).host], [1, 'net1']);
});

test('a network that another host got while nova-network was away is taken off this host at its next start', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t);
  const { driver } = await aNetworkHost(db);
  assert.deepEqual([driver.made.size, driver.dhcp.size], [1, 1]);

  await moveNetwork(db, network_id, 'net2');
  await aNetworkHost(db, {}, driver);

  assert.deepEqual([driver.made.size, driver.dhcp.size], [0, 0]);
});

test('a network that goes leaves none of its addresses on a bridge that another network keeps', async (t) => {
  for (const multi_host of [0, 1]) {
    const { db, network_id } = await anEmptyNetwork(t, { multi_host, cidr_v6: 'fd00::/64', gateway_v6: 'fd00::1' });
    const second = { cidr: '10.1.0.0/24', gateway: '10.1.0.1', dhcp_start: '10.1.0.2', broadcast: '10.1.0.255' };
    await aNetwork(db, { ...second, multi_host, cidr_v6: 'fd00:0:0:1::/64', gateway_v6: 'fd00:0:0:1::1' });
    const { driver } = await aNetworkHost(db, { use_ipv6: true });
    const own = await db.selectFrom('fixed_ips').select('address').where('host', '=', 'net1').orderBy('id').execute();
    const at = multi_host === 0 ? ['10.0.0.1', '10.1.0.1'] : own.map(({ address }) => address);
    const addresses = () => driver.made.get('br100')?.gateways.map(({ address }) => address);
    assert.deepEqual([addresses(), driver.made.get('br100')?.gateways_v6.length], [at, 2]);

    await deleteNetwork(db, network_id);
    await aNetworkHost(db, { use_ipv6: true }, driver);

    assert.deepEqual([addresses(), driver.made.get('br100')?.gateways_v6.length], [at.slice(1), 1]);
    const left = await db.selectFrom('fixed_ips').select('address').where('host', '=', 'net1').execute();
    assert.deepEqual(left, own.slice(1));
  }
});

test('an address with which the host was the gateway goes when it has another, with its IPv6; the host’s own stay', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t, { multi_host: 1, cidr_v6: 'fd00::/64' });
  const { driver, manager } = await aNetworkHost(db, { use_ipv6: true });
  const own = { device: 'br100', address: '10.0.0.50', prefix: 24, marked: false };
  driver.addresses.push(own);
  await unreserveFixedIp(db, '10.0.0.2', 'net1');
  await aFixedIp(db, { network_id, instance_id: await anInstance(db), address: '10.0.0.2' });

  await manager.periodicTasks();

  const { gateways, gateways_v6 } = driver.made.get('br100') ?? {};
  const addresses = [...(gateways ?? []), ...(gateways_v6 ?? [])].map(({ address }) => address);
  assert.deepEqual([addresses, driver.addresses], [['10.0.0.3', 'fd00::a00:3'], [own]]);
});

test('neighbours are told of a gateway address when it comes to a host, not at each look at it, and not without the flag', async (t) => {
  const { db } = await anEmptyNetwork(t);
  const { driver, manager } = await aNetworkHost(db);
  await manager.periodicTasks();
  assert.deepEqual(driver.announced, ['10.0.0.1']);

  const second = { cidr: '10.1.0.0/24', gateway: '10.1.0.1', dhcp_start: '10.1.0.2', broadcast: '10.1.0.255' };
  await aNetwork(db, second);
  await aNetworkHost(db, {}, driver);
  assert.deepEqual(driver.announced, ['10.0.0.1', '10.1.0.1']);

  const { driver: silent } = await aNetworkHost(db, { send_arp_for_ha: false });
  assert.deepEqual(silent.announced, []);
});
