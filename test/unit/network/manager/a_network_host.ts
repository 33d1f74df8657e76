import type { TestContext } from 'node:test';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { FakeNetworkDriver } from '../../../../src/network/drivers/fake.ts';
import { FlatDhcpManager } from '../../../../src/network/manager/flat_dhcp.ts';
import { aContext, aDatabase, aNetwork } from '../../../builders.ts';

/** A nova-network on host net1 whose driver keeps the host in memory; set up, unless a test does that itself. */
export async function aNetworkHost(
  db: NovaDb,
  flags: Record<string, unknown> = {},
  host = 'net1',
  bus = new MemoryBus(),
) {
  const driver = new FakeNetworkDriver();
  const given = Flags.of({ my_ip: '192.0.2.1', ec2_dmz_host: '192.0.2.1', ...flags });
  const manager = new FlatDhcpManager({ db, flags: given, log: silentLog, bus, host, driver });
  await manager.initHost(new AbortController().signal);
  const allocate = (instance_id: number, on = 'node1') =>
    manager.allocateForInstance(aContext(), { instance_id, project_id: 'apollo', host: on, hostname: 'web' });
  const dhcpAddresses = () => driver.dhcp.get('br100')?.hosts.map((guest) => guest.address) ?? [];
  return { driver, manager, allocate, dhcpAddresses, bus };
}

export const anEmptyNetwork = async (t: TestContext, over: Parameters<typeof aNetwork>[1] = {}) => {
  const db = await aDatabase(t);
  return { db, network_id: await aNetwork(db, { dns1: '8.8.4.4', ...over }) };
};
