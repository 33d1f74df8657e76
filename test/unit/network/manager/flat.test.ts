import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowText } from '../../../../src/common/clock.ts';
import { NoMoreAddresses, UnsupportedOperation } from '../../../../src/common/errors.ts';
import { networkById } from '../../../../src/common/db/networks.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { FakeNetworkDriver } from '../../../../src/network/drivers/fake.ts';
import { NetworkApi } from '../../../../src/network/api.ts';
import { FlatManager } from '../../../../src/network/manager/flat.ts';
import { aContext, aDatabase, anInstance, aNetwork } from '../../../builders.ts';
import { later } from '../../../clock.ts';

test('Flat gives addresses to be written into guests, frees them at once and leaves the host alone', async (t) => {
  const db = await aDatabase(t);
  const network_id = await aNetwork(db, { cidr: '10.0.0.0/30', broadcast: '10.0.0.3', dns1: '8.8.4.4' });
  const [a, b] = [await anInstance(db), await anInstance(db)];
  const driver = new FakeNetworkDriver();
  const deps = { db, flags: Flags.of(), log: silentLog, bus: new MemoryBus(), host: 'net1', driver };
  const manager = new FlatManager(deps);
  await manager.initHost();

  const [nic] = await manager.allocateForInstance(aContext(), { instance_id: a });
  await manager.deallocateForInstance(aContext(), { instance_id: a });
  const address = await manager.allocateFixedIp(aContext(), { instance_id: b });

  assert.deepEqual(
    [nic?.address, nic?.injected, nic?.dhcp_server, nic?.gateway, nic?.dns],
    ['10.0.0.2', true, null, '10.0.0.1', ['8.8.4.4']],
  );
  assert.equal(address, '10.0.0.2');
  assert.equal((await networkById(db, network_id)).host, 'net1');
  assert.equal(driver.made.size, 0);
  assert.equal(driver.firewall, null);
});

test('Flat gives addresses of the next network on its bridge when one is full', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db, { cidr: '10.0.0.0/30', broadcast: '10.0.0.3' });
  await aNetwork(db, { cidr: '10.1.0.0/30', gateway: '10.1.0.1', dhcp_start: '10.1.0.2', broadcast: '10.1.0.3' });
  await aNetwork(db, { cidr: '10.2.0.0/30', gateway: '10.2.0.1', dhcp_start: '10.2.0.2', bridge: 'br7' });
  const deps = { db, flags: Flags.of(), log: silentLog, bus: new MemoryBus(), host: 'net1', driver: new FakeNetworkDriver() }; // prettier-ignore
  const manager = new FlatManager(deps);
  const allocate = async () => manager.allocateFixedIp(aContext(), { instance_id: await anInstance(db) });

  assert.deepEqual([await allocate(), await allocate()], ['10.0.0.2', '10.1.0.2']);
  await assert.rejects(
    allocate(),
    (err) =>
      err instanceof NoMoreAddresses &&
      /networks 10\.0\.0\.0\/30, 10\.1\.0\.0\/30 has a free address/.test(err.message),
  );
});

test('Flat keeps the address of an instance that was deleted without its host, which may run it still, for the timeout', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db, { cidr: '10.0.0.0/30', broadcast: '10.0.0.3' });
  const deps = { db, flags: Flags.of({ fixed_ip_disassociate_timeout: 600 }), log: silentLog, bus: new MemoryBus(), host: 'net1', driver: new FakeNetworkDriver() }; // prettier-ignore
  const manager = new FlatManager(deps);
  await manager.allocateForInstance(aContext(), { instance_id: await anInstance(db) });
  await db.updateTable('instances').set({ deleted: 1, deleted_at: nowText() }).execute();
  const other = await anInstance(db);

  later(t, 590);
  await manager.periodicTasks();
  await assert.rejects(manager.allocateForInstance(aContext(), { instance_id: other }), NoMoreAddresses);
  later(t, 20);
  await manager.periodicTasks();
  assert.equal((await manager.allocateForInstance(aContext(), { instance_id: other }))[0]?.address, '10.0.0.2');
});

test('Flat without injection says so in the network and in every card, and the network keeps its DNS server', async (t) => {
  const db = await aDatabase(t);
  const network_id = await aNetwork(db, { injected: 1, dns1: '192.0.2.53' });
  const flags = Flags.of({ flat_injected: false, flat_network_dns: '8.8.4.4' });
  const deps = { db, flags, log: silentLog, bus: new MemoryBus(), host: 'net1', driver: new FakeNetworkDriver() };
  const manager = new FlatManager(deps);

  await manager.initHost();

  const [nic] = await manager.allocateForInstance(aContext(), { instance_id: await anInstance(db) });
  assert.deepEqual([nic?.injected, nic?.dns], [false, ['192.0.2.53']]);
  assert.equal((await networkById(db, network_id)).injected, 0);
});

test('Flat has no floating addresses and says which manager has', async (t) => {
  const db = await aDatabase(t);
  const deps = { db, flags: Flags.of(), log: silentLog, bus: new MemoryBus(), host: 'net1' };
  const manager = new FlatManager({ ...deps, driver: new FakeNetworkDriver() });
  const api = new NetworkApi({ ...deps, flags: Flags.of({ network_manager: 'nova.network.manager.FlatManager' }) });

  for (const refused of [manager.allocateFloatingIp(), manager.associateFloatingIp(), api.allocate(aContext())])
    await assert.rejects(refused, (err) => {
      assert.ok(err instanceof UnsupportedOperation);
      assert.match(err.message, /no host of its routes.*FlatDHCPManager/);
      return true;
    });
});
