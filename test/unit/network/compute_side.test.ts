import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestBridges } from '../../../src/common/db/project_networks.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { computeNetwork } from '../../../src/network/compute_side.ts';
import { FakeNetworkDriver } from '../../../src/network/drivers/fake.ts';
import { aDatabase, aFixedIp, anInstance, aNetwork } from '../../builders.ts';

const { signal } = new AbortController();
const flags = Flags.of({ network_manager: 'nova.network.manager.FlatDHCPManager' });

test('bridges of guests are let through again a period after somebody took the rules away, also by the next nova-compute', async (t) => {
  const db = await aDatabase(t);
  const network_id = await aNetwork(db);
  await aFixedIp(db, { network_id, instance_id: await anInstance(db, { host: 'node1' }), address: '10.0.0.2' });
  const driver = new FakeNetworkDriver();
  const start = () => computeNetwork({ flags, log: silentLog }, driver);
  const first = await start();
  await first.setupComputeNetwork([{ bridge: 'br100', vlan: null, bridge_interface: null }], signal);
  assert.deepEqual(await driver.bridgesLetThrough(), ['br100']);

  for (const network of [first, await start()]) {
    driver.firewall = null;
    await network.leaveNetworks(() => guestBridges(db, 'node1'), signal);
    assert.deepEqual(await driver.bridgesLetThrough(), ['br100']);
  }
});

test('a host without guests gets no rules', async (t) => {
  const db = await aDatabase(t);
  await aNetwork(db);
  const driver = new FakeNetworkDriver();

  const network = await computeNetwork({ flags, log: silentLog }, driver);
  await network.leaveNetworks(() => guestBridges(db, 'node1'), signal);

  assert.equal(driver.firewall, null);
});
