import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { instanceAt } from '../../../../src/common/db/metadata_lookup.ts';
import { writing, type NovaDb } from '../../../../src/common/db/connect.ts';
import { moveNetwork } from '../../../../src/common/db/networks.ts';
import { createFloatingIps } from '../../../../src/common/db/floating_pool.ts';
import { associateFloatingIp, listFloatingIps } from '../../../../src/common/db/floating_ips.ts';
import { listJobs } from '../../../../src/common/db/jobs.ts';
import {
  BackendUnavailable,
  FloatingIpInUse,
  FloatingIpLimitExceeded,
  InvalidInput,
} from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { NetworkApi } from '../../../../src/network/api.ts';
import { FakeNetworkDriver } from '../../../../src/network/drivers/fake.ts';
import { poolAddresses } from '../../../../src/network/logic/floating.ts';
import { FlatDhcpManager } from '../../../../src/network/manager/flat_dhcp.ts';
import { aContext, aDatabase, anInstance, aNetwork, aProject } from '../../../builders.ts';

const ctx = aContext();
const signal = new AbortController().signal;
const bound = ({ addresses }: FakeNetworkDriver) => addresses.map(({ device, address }) => `${device} ${address}`);

function aManager(db: NovaDb, host: string, driver: FakeNetworkDriver, flags: Record<string, unknown> = {}) {
  const given = Flags.of({ my_ip: '192.0.2.1', ec2_dmz_host: '192.0.2.1', public_interface: 'eth7', ...flags });
  return new FlatDhcpManager({ db, flags: given, log: silentLog, bus: new MemoryBus(), host, driver });
}

/** Host net1 with a network, two addresses in the pool, and the API; nobody takes its casts. */
async function aCloud(t: TestContext, flags: Record<string, unknown> = {}) {
  const db = await aDatabase(t);
  await aProject(db);
  const network_id = await aNetwork(db, { dns1: '8.8.4.4' });
  await createFloatingIps(db, () => poolAddresses('203.0.113.5,203.0.113.6', []));
  const driver = new FakeNetworkDriver();
  const manager = aManager(db, 'net1', driver, flags);
  await manager.initHost(signal);
  const api = new NetworkApi({ db, flags: Flags.of(flags), bus: new MemoryBus() });
  const launch = async () => {
    const instance_id = await anInstance(db);
    await manager.allocateForInstance(ctx, { instance_id, project_id: 'apollo', host: 'node1', hostname: 'web' });
    return instance_id;
  };
  const jobs = async () =>
    (await listJobs(db, {})).map(({ method, host, args }) => `${method} ${host} ${args}`).toReversed();
  return { db, network_id, driver, manager, api, launch, jobs };
}

test('an association is a row and a job for the host of the network, which then binds the address', async (t) => {
  const { driver, manager, api, launch, jobs } = await aCloud(t);
  const id = await launch();
  const { address } = await api.allocate(ctx);

  await api.associate(ctx, address, id);
  assert.deepEqual(await jobs(), [
    'associate_floating_ip net1 {"floating_address":"203.0.113.5","fixed_address":"10.0.0.2"}',
  ]);
  await manager.associateFloatingIp();
  await manager.associateFloatingIp(); // a job may run twice

  assert.deepEqual(bound(driver), ['eth7 203.0.113.5']);
  assert.deepEqual(await driver.forwards(), [{ address: '203.0.113.5', fixed: '10.0.0.2' }]);
  assert.deepEqual([driver.announced, driver.ended], [['10.0.0.1', '203.0.113.5'], []]);
});

test('a late job cannot bring back an association that changed meanwhile', async (t) => {
  const { driver, manager, api, launch } = await aCloud(t);
  const [a, b] = [await launch(), await launch()];
  const { address } = await api.allocate(ctx);
  await api.associate(ctx, address, a);
  await manager.associateFloatingIp();

  await api.associate(ctx, address, b);
  await manager.associateFloatingIp();
  assert.deepEqual(await driver.forwards(), [{ address, fixed: '10.0.0.3' }]);
  assert.deepEqual([bound(driver), driver.ended], [['eth7 203.0.113.5'], [address]]);
  await api.disassociate(ctx, address);
  await manager.associateFloatingIp(); // the first job, tried again

  assert.deepEqual([bound(driver), await driver.forwards()], [[], []]);
});

test('with its instance an address is off the host, when the answer is there', async (t) => {
  const { db, driver, manager, api, launch } = await aCloud(t);
  const id = await launch();
  const { address } = await api.allocate(ctx);
  await api.associate(ctx, address, id);
  await manager.associateFloatingIp();
  assert.equal((await instanceAt(db, '10.0.0.2'))?.public_ipv4, address);

  await manager.deallocateForInstance(ctx, { instance_id: id });

  assert.deepEqual([bound(driver), await driver.forwards()], [[], []]);
  await api.release(ctx, address);
});

test('another host that serves the network has a job when the instance goes', async (t) => {
  const { db, network_id, api, launch, jobs } = await aCloud(t);
  const id = await launch();
  const { address } = await api.allocate(ctx);
  await api.associate(ctx, address, id);
  await moveNetwork(db, network_id, 'net2');

  await aManager(db, 'net3', new FakeNetworkDriver()).deallocateForInstance(ctx, { instance_id: id });

  assert.equal((await jobs()).at(-1), `disassociate_floating_ip net2 {"floating_address":"${address}"}`);
});

test('after a start the host has what the database says, and what it had before goes', async (t) => {
  const { db, network_id, driver, manager, api, launch } = await aCloud(t);
  const id = await launch();
  const [one, two] = [await api.allocate(ctx), await api.allocate(ctx)];
  await api.associate(ctx, one.address, id);
  await manager.associateFloatingIp();
  await api.disassociate(ctx, one.address);
  await api.associate(ctx, two.address, id);
  driver.addresses.push({ device: 'eth7', address: '203.0.113.99', prefix: 32, marked: false }); // the operator's own

  await aManager(db, 'net1', driver).initHost(signal);

  assert.deepEqual(bound(driver), ['eth7 203.0.113.99', `eth7 ${two.address}`]);
  assert.deepEqual(driver.ended, [one.address]);
  await moveNetwork(db, network_id, 'net2');
  await manager.periodicTasks();
  assert.deepEqual(bound(driver), ['eth7 203.0.113.99']);
});

test('an address of the host’s own stays on it though it is or was in the pool', async (t) => {
  const { db, driver, manager } = await aCloud(t);
  await db.updateTable('floating_ips').set({ deleted: 1 }).where('address', '=', '203.0.113.6').execute();
  for (const address of ['203.0.113.5', '203.0.113.6'])
    driver.addresses.push({ device: 'eth7', address, prefix: 32, marked: false });

  await manager.periodicTasks();
  await aManager(db, 'net1', driver).initHost(signal);

  assert.deepEqual(bound(driver), ['eth7 203.0.113.5', 'eth7 203.0.113.6']);
});

test('an address that nova-network bound goes though somebody flushed its rules while it was away', async (t) => {
  const { db, driver, manager, api, launch } = await aCloud(t);
  const { address } = await api.allocate(ctx);
  await api.associate(ctx, address, await launch());
  await manager.associateFloatingIp();
  await api.disassociate(ctx, address);
  driver.firewall = null;
  driver.addresses.push({ device: 'eth7', address: '203.0.113.6', prefix: 32, marked: false }); // of the pool, and the host's

  await aManager(db, 'net1', driver).initHost(signal);

  assert.deepEqual([bound(driver), driver.ended], [['eth7 203.0.113.6'], [address]]);
});

test('the host’s own address is never led to a guest; the story of the instance says why', async (t) => {
  const { db, driver, manager, api, launch } = await aCloud(t);
  driver.addresses.push({ device: 'eth7', address: '203.0.113.5', prefix: 24, marked: false });
  const id = await launch();
  const { address } = await api.allocate(ctx);
  await api.associate(ctx, address, id);

  await assert.rejects(manager.associateFloatingIp(), (err) => {
    assert.ok(err instanceof BackendUnavailable);
    assert.match(err.message, /203\.0\.113\.5 is this host's own address on eth7/);
    return true;
  });
  assert.deepEqual(await driver.forwards(), []);
  await manager.jobFailed(ctx, 'associate_floating_ip', { floating_address: address }, new Error('its own address'));
  const events = await db.selectFrom('events').select('event').where('resource', '=', `instance:${id}`).execute();
  assert.deepEqual(events.map(({ event }) => event), ['floating ip associated', 'floating ip not in force']); // prettier-ignore
});

test('an interface that is not there keeps nova-network from no other work', async (t) => {
  const { db, manager, api, launch } = await aCloud(t);
  const id = await launch();
  await api.associate(ctx, (await api.allocate(ctx)).address, id);
  class NoInterface extends FakeNetworkDriver {
    override addressDevice = async (name: string) => Promise.reject(new InvalidInput(`${name} is not on this host`));
  }
  const driver = new NoInterface();

  const other = aManager(db, 'net1', driver);
  await other.initHost(signal);

  assert.ok(driver.dhcp.has('br100'));
  await assert.rejects(other.associateFloatingIp(), /eth7 is not on this host/);
  await manager.associateFloatingIp();
});

test('with --auto_assign_floating_ip an instance has an address from its start to its end', async (t) => {
  const { db, driver, manager, api, launch } = await aCloud(t, {
    auto_assign_floating_ip: true,
    quota_floating_ips: 1,
  });

  const id = await launch();
  await manager.allocateForInstance(ctx, { instance_id: id, project_id: 'apollo', host: 'node1', hostname: 'web' });
  assert.deepEqual(bound(driver), ['eth7 203.0.113.5']);
  assert.equal((await api.floatingIps(ctx)).length, 1);
  await assert.rejects(launch(), FloatingIpLimitExceeded);
  await manager.deallocateForInstance(ctx, { instance_id: id });

  assert.deepEqual([bound(driver), await listFloatingIps(db, { allocated: true })], [[], []]);
});

test('nova-network answers for addresses as Nova’s did: one is allocated for a project, and given back when it is idle', async (t) => {
  const { db, manager, launch } = await aCloud(t);
  const id = await launch();

  const floating_address = await manager.allocateFloatingIp(ctx, { project_id: 'apollo' });
  await writing(db, (tx) => associateFloatingIp(tx, 'sqlite', ctx, floating_address, id));
  await assert.rejects(manager.deallocateFloatingIp(ctx, { floating_address }), FloatingIpInUse);
  await manager.deallocateForInstance(ctx, { instance_id: id });
  await manager.deallocateFloatingIp(ctx, { floating_address });

  assert.deepEqual(await listFloatingIps(db, { allocated: true }), []);
});
