import assert from 'node:assert/strict';
import { test } from 'node:test';
import { claimHostIp, releaseFixedIps, setLeased } from '../../../src/common/db/fixed_ips.ts';
import { allNetworks, networkById } from '../../../src/common/db/networks.ts';
import { registerService, signOff } from '../../../src/common/db/services.ts';
import { Conflict } from '../../../src/common/errors.ts';
import { Flags } from '../../../src/common/flags.ts';
import { fixedCommands } from '../../../src/manage/fixed.ts';
import { claimRange } from '../../../src/network/manager/address_book.ts';
import { createNetworks } from '../../../src/network/manager/create_networks.ts';
import { aDatabase, anInstance, aNetwork } from '../../builders.ts';
import { run } from './a_manage.ts';
import { claimFixedIp } from '../../claim_fixed_ip.ts';

test("a host's own address on a multi_host network is freed when its nova-network is down, and not before", async (t) => {
  const db = await aDatabase(t);
  const network = await networkById(db, await aNetwork(db, { multi_host: 1 }));
  const address = await claimHostIp(db, claimRange(network), 'node1');
  const service = { host: 'node1', binary: 'nova-network', topic: 'network', availability_zone: 'nova' };
  await registerService(db, { ...service, incarnation: 'first', agreed_flags: {}, enabled: true });

  await assert.rejects(
    run(db, fixedCommands, 'unreserve', { address }),
    (err) => err instanceof Conflict && /host node1, whose nova-network is up/.test(err.message),
  );
  await signOff(db, 'node1', 'nova-network', 'first');

  assert.deepEqual(await run(db, fixedCommands, 'unreserve', { address }), [`${address} is free`]);
});

test("a network's gateway is never guests' address", async (t) => {
  const db = await aDatabase(t);
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.0.0.0/24', gateway: '10.0.0.5' });

  await assert.rejects(
    run(db, fixedCommands, 'unreserve', { address: '10.0.0.5' }),
    (err) => err instanceof Conflict && /10\.0\.0\.5 is the gateway of network 10\.0\.0\.0\/24/.test(err.message),
  );
});

test('a host with services and no addresses has an empty list', async (t) => {
  const db = await aDatabase(t);
  const service = { host: 'node1', binary: 'nova-compute', topic: 'compute', availability_zone: 'nova' };
  await registerService(db, { ...service, incarnation: 'first', agreed_flags: {}, enabled: true });

  assert.equal((await run(db, fixedCommands, 'list', { host: 'node1' })).length, 1);
});

test('reserved addresses, those in use and those that wait for their lease to end are listed', async (t) => {
  const db = await aDatabase(t);
  await createNetworks({ db, flags: Flags.of() }, { fixed_range: '10.0.0.0/24' });
  const [network] = await allNetworks(db);
  assert.ok(network);
  const [one, two] = [await anInstance(db, { hostname: 'one' }), await anInstance(db, { host: 'node2' })];
  const { mac } = await claimFixedIp(db, claimRange(network), one, null);
  await claimFixedIp(db, claimRange(network), two, null);
  await setLeased(db, network.id, '10.0.0.2', true);
  await releaseFixedIps(db, two, true);

  const reserved = await run(db, fixedCommands, 'reserve', { address: '10.0.0.9' });
  const lines = await run(db, fixedCommands, 'list');

  assert.deepEqual(reserved, ['10.0.0.9 of 10.0.0.0/24 is reserved']);
  assert.deepEqual(
    lines.map((line) => line.split(/\s{2,}/)),
    [
      ['network', 'IP address', 'MAC address', 'hostname', 'host', 'instance', 'state'],
      ['10.0.0.0/24', '10.0.0.1', 'None', 'None', 'None', 'None', 'reserved'],
      ['10.0.0.0/24', '10.0.0.2', mac, 'one', 'node1', 'i-00000001', 'leased'],
      ['10.0.0.0/24', '10.0.0.3', 'None', 'None', 'None', 'None', 'waiting'],
      ['10.0.0.0/24', '10.0.0.9', 'None', 'None', 'None', 'None', 'reserved'],
    ],
  );
  const there = await run(db, fixedCommands, 'list', { host: 'node1' });
  assert.match(there.join('\n'), /^network .*\n10\.0\.0\.0\/24 +10\.0\.0\.2 [^\n]*$/);
  await assert.rejects(run(db, fixedCommands, 'reserve', { address: '10.0.0.2' }), /belongs to i-00000001/);
  await assert.rejects(run(db, fixedCommands, 'reserve', { address: '10.9.0.2' }), /no network has the address/);
});
