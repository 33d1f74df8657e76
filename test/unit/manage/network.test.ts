import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allNetworks } from '../../../src/common/db/networks.ts';
import type { NovaDb } from '../../../src/common/db/connect.ts';
import { registerService, signOff } from '../../../src/common/db/services.ts';
import { InvalidInput, ProjectNotFound } from '../../../src/common/errors.ts';
import { networkCommands } from '../../../src/manage/network.ts';
import { aDatabase, aFixedIp, anInstance, aNetwork, aProject } from '../../builders.ts';
import { run } from './a_manage.ts';

const VLAN = { network_manager: 'nova.network.manager.VlanManager' };
const FLAT = { network_manager: 'nova.network.manager.FlatDHCPManager' };

const aNetworkService = (db: NovaDb, host: string) => {
  const service = { host, binary: 'nova-network', topic: 'network', availability_zone: 'nova' };
  return registerService(db, { ...service, incarnation: 'first', agreed_flags: {}, enabled: true });
};

test("Diablo's options of network create are what the networks are", async (t) => {
  const db = await aDatabase(t);
  const given = { fixed_range: '10.0.0.0/24', v6: '2001:db8::/64', gateway_v6: '2001:db8::fe', dns1: '192.0.2.1', dns2: '192.0.2.2', multi_host: true, bridge_interface: 'eth3', uuid: '12345678-1234-1234-1234-123456789abc' }; // prettier-ignore

  await run(db, networkCommands, 'create', given, { ...FLAT, use_ipv6: true });

  const [network] = await allNetworks(db);
  const { cidr_v6, gateway_v6, dns1, dns2, multi_host, bridge_interface, uuid } = network ?? {};
  assert.deepEqual(
    { cidr_v6, gateway_v6, dns1, dns2, multi_host, bridge_interface, uuid },
    {
      cidr_v6: '2001:db8::/64',
      gateway_v6: '2001:db8::fe',
      dns1: '192.0.2.1',
      dns2: '192.0.2.2',
      multi_host: 1,
      bridge_interface: 'eth3',
      uuid: given.uuid,
    },
  );
});

test('an IPv6 block without --use_ipv6 makes networks without, and says so', async (t) => {
  const db = await aDatabase(t);

  const said = await run(db, networkCommands, 'create', { fixed_range: '10.0.0.0/24', v6: '2001:db8::/64' }, FLAT);

  assert.match(said.join(), /--use_ipv6 is off/);
  assert.equal((await allNetworks(db))[0]?.cidr_v6, null);
});

test('VLAN networks are made for a project that is there; flat ones are of all', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const create = (fixed_range: string, project_id: string, flags: object) =>
    run(db, networkCommands, 'create', { fixed_range, num: 2, size: 16, project_id }, { ...flags });

  await create('10.0.0.0/24', 'apollo', VLAN);

  const made = (await allNetworks(db)).map(({ project_id, claimed_at }) => ({ project_id, claimed_at }));
  assert.deepEqual(made, Array(2).fill({ project_id: 'apollo', claimed_at: null }));
  await assert.rejects(create('10.1.0.0/24', 'nobody', VLAN), ProjectNotFound);
  await assert.rejects(create('10.1.0.0/24', 'apollo', FLAT), InvalidInput);
  assert.equal((await allNetworks(db)).length, 2);
});

test('a network is given to a host that has a nova-network, and both hosts are told', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db, { host: 'net1' });
  await aNetwork(db, { cidr: '10.1.0.0/24', multi_host: 1 });
  const modify = (args: Record<string, unknown>) =>
    run(db, networkCommands, 'modify', { fixed_range: '10.0.0.0/24', ...args });
  await assert.rejects(modify({ host: 'net2' }), /no nova-network was ever started on a host net2; none was on any/);
  for (const host of ['net1', 'net2', 'net3']) await aNetworkService(db, host);
  await signOff(db, 'net3', 'nova-network', 'first');

  await assert.rejects(modify({ host: 'nte2' }), /on a host nte2; hosts that have one: net1, net2, net3/);
  await assert.rejects(modify({ fixed_range: '10.1.0.0/24', host: 'net2' }), /multi_host network: each host serves/);
  assert.deepEqual(await modify({ host: 'net2' }), ['10.0.0.0/24 belongs to net2']);

  const jobs = await db.selectFrom('jobs').select(['host', 'method']).orderBy('id').execute();
  assert.deepEqual(
    jobs,
    ['net1', 'net2'].map((host) => ({ host, method: 'bring_networks' })),
  );
  assert.match((await modify({ host: 'net3' })).join(), /nova-network on net3 does not report.*belongs to net3/);
});

test('a network that is taken from its host belongs to another that reports at once, so that the former cannot take it again', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db, { host: 'net1' });
  await aNetwork(db, { cidr: '10.1.0.0/24', host: 'net0' });
  for (const host of ['net0', 'net1', 'net2', 'net3']) await aNetworkService(db, host);
  await signOff(db, 'net3', 'nova-network', 'first');
  const disassociate = () =>
    run(db, networkCommands, 'modify', { fixed_range: '10.0.0.0/24', disassociate_host: true });

  assert.deepEqual(await disassociate(), ['10.0.0.0/24 belongs to net2']);

  assert.equal((await allNetworks(db))[0]?.host, 'net2');
  const jobs = await db.selectFrom('jobs').select(['host', 'args']).orderBy('id').execute();
  assert.deepEqual(jobs.map(({ host, args }) => `${host} ${args}`), ['net1 {"take_on":false}', 'net2 {"take_on":true}']); // prettier-ignore
  for (const host of ['net0', 'net2']) await signOff(db, host, 'nova-network', 'first');
  await db.updateTable('networks').set({ host: 'net1' }).execute();
  assert.match((await disassociate()).join(), /no other nova-network reports: net1 takes it again unless you stop it/);
});

test('network list shows whose each network is and how many addresses are in use', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  const flat = await aNetwork(db, { host: 'net1', dns1: '8.8.4.4', cidr_v6: 'fd00::/64' });
  const over = { vlan: 101, bridge: 'br101', project_id: 'apollo', multi_host: 1, dhcp_start: '10.1.0.3' };
  await aNetwork(db, { cidr: '10.1.0.0/24', ...over });
  await aFixedIp(db, { network_id: flat, instance_id: await anInstance(db), address: '10.0.0.2' });

  const lines = await run(db, networkCommands, 'list');

  const uuids = (await allNetworks(db)).map(({ uuid }) => uuid);
  assert.deepEqual(
    lines.map((line) => line.split(/\s{2,}/)),
    [
      ['id', 'IPv4', 'IPv6', 'start address', 'DNS1', 'DNS2', 'VlanID', 'project', 'bridge', 'host', 'used', 'uuid'],
      ['1', '10.0.0.0/24', 'fd00::/64', '10.0.0.2', '8.8.4.4', 'None', 'None', 'None', 'br100', 'net1', '1', uuids[0]],
      ['2', '10.1.0.0/24', 'None', '10.1.0.3', 'None', 'None', '101', 'apollo', 'br101', 'all hosts', '0', uuids[1]],
    ],
  );
});
