import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock } from '../../../../src/common/clock.ts';
import { hostIp } from '../../../../src/common/db/fixed_ips.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { anInstance, aNetwork } from '../../../builders.ts';
import { later } from '../../../clock.ts';
import { aNetworkHost, anEmptyNetwork } from './a_network_host.ts';

test('of a multi_host network each host is the gateway of its own guests by an address of its own', async (t) => {
  const { db } = await anEmptyNetwork(t, { multi_host: 1 });
  const [one, two] = [await aNetworkHost(db, {}, 'node1'), await aNetworkHost(db, {}, 'node2')];

  const [a] = await one.allocate(await anInstance(db), 'node1');
  const [b] = await two.allocate(await anInstance(db), 'node2');

  assert.deepEqual([one.dhcpAddresses(), two.dhcpAddresses()], [[a?.address], [b?.address]]);
  assert.equal(one.driver.made.get('br100')?.gateways[0]?.address, a?.gateway);
  assert.equal(two.driver.made.get('br100')?.gateways[0]?.address, b?.gateway);
  assert.equal(new Set([a?.address, b?.address, a?.gateway, b?.gateway]).size, 4);
});

test('a launch that fails on a host without nova-network keeps no address of a multi_host network', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t, { multi_host: 1 });
  const bus = new MemoryBus();
  t.after(() => bus.close());
  const one = await aNetworkHost(db, {}, 'node1', bus);
  const instance_id = await anInstance(db);
  const hosts = async () => (await db.selectFrom('fixed_ips').select('host').execute()).map(({ host }) => host);

  await assert.rejects(one.allocate(instance_id, 'node2'), /served by host node2, whose nova-network does not answer/);
  assert.deepEqual(await hosts(), ['node1']);

  const two = await aNetworkHost(db, {}, 'node2', bus);
  await db.deleteFrom('fixed_ips').where('host', '=', 'node2').execute(); // as with a network that was made just now
  await bus.consume('network', 'node2', ({ args, context }) => two.manager.allocateForInstance(context, args as never));
  const [nic] = await one.allocate(instance_id, 'node2');
  assert.equal(nic?.gateway, await hostIp(db, network_id, 'node2'));
  assert.deepEqual(await hosts(), ['node1', 'node2', 'node2']);
});

test('a host without an address in a full multi_host network serves the others, and its guests are on those', async (t) => {
  const { db, network_id } = await anEmptyNetwork(t, { cidr: '10.0.0.0/29', broadcast: '10.0.0.7', multi_host: 1 });
  const second = { cidr: '10.1.0.0/24', gateway: '10.1.0.1', dhcp_start: '10.1.0.2', broadcast: '10.1.0.255' };
  const one = await aNetworkHost(db, {}, 'node1');
  const got = [];
  for (let i = 0; i < 4; i++) got.push((await one.allocate(await anInstance(db), 'node1'))[0]?.address);
  await aNetwork(db, { ...second, multi_host: 1 });

  const two = await aNetworkHost(db, {}, 'node2');
  assert.deepEqual(two.driver.made.get('br100')?.gateways.map(({ address }) => address), ['10.1.0.2']); // prettier-ignore
  assert.ok(two.driver.firewall);
  await db.deleteFrom('fixed_ips').where('address', '=', String(got[0])).execute();
  const [nic] = await two.allocate(await anInstance(db), 'node2');
  assert.deepEqual([nic?.gateway, nic?.address], ['10.1.0.2', '10.1.0.3'], 'the free address is the host’s by now');
  assert.equal(await hostIp(db, network_id, 'node2'), got[0]);
});

test('addresses of a host that died with its guests are free again by the nova-network of another', async (t) => {
  const { db } = await anEmptyNetwork(t, { multi_host: 1 });
  const flags = { fixed_ip_disassociate_timeout: 600 };
  const [dead, alive] = [await aNetworkHost(db, flags, 'node1'), await aNetworkHost(db, flags, 'node2')];
  const id = await anInstance(db);
  const [nic] = await dead.allocate(id, 'node1');
  await db.updateTable('instances').set({ deleted: 1, deleted_at: clock.now().toISOString() }).execute();
  const left = async () => (await db.selectFrom('fixed_ips').select('address').where('reserved', '=', 0).execute()).map(({ address }) => address); // prettier-ignore
  await alive.manager.periodicTasks();
  assert.deepEqual(await left(), [nic?.address]);

  for (let period = 0; period < 2; period++) {
    later(t, 11 * 60);
    await alive.manager.periodicTasks();
  }

  assert.deepEqual(await left(), []);
});
