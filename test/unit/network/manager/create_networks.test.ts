import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allNetworks, deleteNetwork, networkById } from '../../../../src/common/db/networks.ts';
import { releaseFixedIps } from '../../../../src/common/db/fixed_ips.ts';
import { InvalidInput, NetworkExists, NetworkInUse } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { claimRange } from '../../../../src/network/manager/address_book.ts';
import { createNetworks } from '../../../../src/network/manager/create_networks.ts';
import { aDatabase, anInstance, aNetwork } from '../../../builders.ts';
import { claimFixedIp } from '../../../claim_fixed_ip.ts';

const flags = Flags.of({ flat_network_bridge: 'br7' });

test('a network is made with what flags say, and costs a row for its gateway only', async (t) => {
  const db = await aDatabase(t);

  await createNetworks({ db, flags }, { fixed_range: '10.0.0.0/8', network_size: 2 ** 24 });

  const [network] = await allNetworks(db);
  assert.ok(network);
  const { cidr, gateway, dhcp_start, bridge, dns1, label, injected, host } = network;
  assert.deepEqual(
    { cidr, gateway, dhcp_start, bridge, dns1, label, injected, host },
    {
      cidr: '10.0.0.0/8',
      gateway: '10.0.0.1',
      dhcp_start: '10.0.0.2',
      bridge: 'br7',
      dns1: '8.8.4.4',
      label: 'public',
      injected: 1,
      host: null,
    },
  );
  const rows = await db.selectFrom('fixed_ips').select(['address', 'reserved']).execute();
  assert.deepEqual(rows, [{ address: '10.0.0.1', reserved: 1 }]);
});

test('without a size a small range is one network', async (t) => {
  const db = await aDatabase(t);

  await createNetworks({ db, flags }, { fixed_range: '10.0.0.0/26' });

  assert.deepEqual(
    (await allNetworks(db)).map(({ cidr }) => cidr),
    ['10.0.0.0/26'],
  );
});

test('of networks of which one overlaps none is made', async (t) => {
  const db = await aDatabase(t);
  await createNetworks({ db, flags }, { fixed_range: '10.0.0.16/28' });

  const asked = { fixed_range: '10.0.0.0/24', num_networks: 2, network_size: 16 };
  await assert.rejects(createNetworks({ db, flags }, asked), NetworkExists);

  assert.equal((await allNetworks(db)).length, 1);
});

test('two operators who ask at once get one network, and one a clear refusal', async (t) => {
  const db = await aDatabase(t);

  const got = await Promise.allSettled([1, 2].map(() => createNetworks({ db, flags }, { fixed_range: '10.0.0.0/24' })));

  assert.deepEqual(got.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  assert.equal((await allNetworks(db)).length, 1);
});

test('a gateway among the addresses for guests is never given to one', async (t) => {
  const db = await aDatabase(t);
  await createNetworks({ db, flags }, { fixed_range: '10.0.0.0/29', gateway: '10.0.0.3', dhcp_start: '10.0.0.2' });
  const [network] = await allNetworks(db);
  assert.ok(network);

  const got = [];
  for (let i = 0; i < 4; i++) got.push(await claimFixedIp(db, claimRange(network), await anInstance(db), null));

  assert.deepEqual(got.map(({ address }) => address).toSorted(), ['10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
});

test('nor is one of a network that was made before gateways had a row', async (t) => {
  const db = await aDatabase(t);
  const network = await networkById(
    db,
    await aNetwork(db, { cidr: '10.0.0.0/29', gateway: '10.0.0.3', dhcp_start: '10.0.0.1', broadcast: '10.0.0.7' }),
  );
  const claim = async () => claimFixedIp(db, claimRange(network), await anInstance(db), null);

  const got = [];
  for (let i = 0; i < 5; i++) got.push(await claim());

  const expected = ['10.0.0.1', '10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6'];
  assert.deepEqual(got.map(({ address }) => address).toSorted(), expected);
  await assert.rejects(claim(), /no free address: all 5 for guests/);
});

test('one gateway for several networks is refused', async (t) => {
  const db = await aDatabase(t);

  const asked = { fixed_range: '10.0.0.0/24', num_networks: 2, network_size: 16, gateway: '10.0.0.5' };
  await assert.rejects(createNetworks({ db, flags }, asked), InvalidInput);
});

test('a network goes when no instance has an address of it, and its block can be used again', async (t) => {
  const db = await aDatabase(t);
  await createNetworks({ db, flags }, { fixed_range: '10.0.0.0/24' });
  const [network] = await allNetworks(db);
  assert.ok(network);
  const instance_id = await anInstance(db);
  await claimFixedIp(db, claimRange(network), instance_id, null);

  await assert.rejects(deleteNetwork(db, network.id), (err) => {
    assert.ok(err instanceof NetworkInUse);
    assert.match(err.message, /10\.0\.0\.0\/24 has addresses that are in use, by i-00000001/);
    return true;
  });
  await releaseFixedIps(db, instance_id, true);
  await deleteNetwork(db, network.id);

  assert.deepEqual(await db.selectFrom('fixed_ips').selectAll().execute(), []);
  await createNetworks({ db, flags }, { fixed_range: '10.0.0.0/24' });
});
