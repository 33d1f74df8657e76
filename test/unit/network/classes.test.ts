import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadClass } from '../../../src/common/class_names.ts';
import { ClassNotFound } from '../../../src/common/errors.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { makeNetworkDriver, NETWORK_MANAGERS } from '../../../src/network/classes.ts';
import { computeNetwork } from '../../../src/network/compute_side.ts';
import { FakeNetworkDriver } from '../../../src/network/drivers/fake.ts';
import { LinuxNetDriver } from '../../../src/network/drivers/linux_net.ts';
import { FlatManager } from '../../../src/network/manager/flat.ts';
import { FlatDhcpManager } from '../../../src/network/manager/flat_dhcp.ts';
import { VlanManager } from '../../../src/network/manager/vlan.ts';

const binary = 'nova-network';
const load = (name: string) => loadClass(NETWORK_MANAGERS, name, 'network_manager');

test("Nova's names choose the manager", async () => {
  assert.equal(await load('nova.network.manager.FlatManager'), FlatManager);
  assert.equal(await load('nova.network.manager.FlatDHCPManager'), FlatDhcpManager);
  assert.equal(await load('nova.network.manager.VlanManager'), VlanManager);
});

test('a manager that this release has not is refused by name with those it has, in nova-compute too', async () => {
  const name = 'nova.network.quantum.manager.QuantumManager';
  const refused = (err: unknown) => err instanceof ClassNotFound && /QuantumManager.*VlanManager/.test(err.message);

  await assert.rejects(load(name), refused);
  await assert.rejects(computeNetwork({ flags: Flags.of({ network_manager: name }), log: silentLog }), refused);
});

test('--fake_network leaves the host alone', async () => {
  const make = (given: Record<string, unknown>) =>
    makeNetworkDriver({ flags: Flags.of(given), log: silentLog, binary });

  assert.ok((await make({ fake_network: true })) instanceof FakeNetworkDriver);
  assert.ok((await make({})) instanceof LinuxNetDriver);
});
