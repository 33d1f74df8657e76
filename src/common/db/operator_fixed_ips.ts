import { nowText } from '../clock.ts';
import { Conflict, FixedIpNotFound } from '../errors.ts';
import { writing, type Db, type NovaDb } from './connect.ts';
import { ec2InstanceId } from './instances.ts';
import { allNetworks } from './networks.ts';

/** What an operator does with fixed addresses: nova-manage fixed. */

/**
 * Keeps an address from guests. Twice is once. @throws Conflict when it is in use or in quarantine
 */
export async function reserveFixedIp(
  db: NovaDb,
  at: { network_id: number; address: string; address_number: number },
): Promise<void> {
  await writing(db, async (tx) => {
    await tx
      .insertInto('fixed_ips')
      .values({ ...at, reserved: 1, created_at: nowText() })
      .onConflict((c) => c.columns(['network_id', 'address_number']).doNothing())
      .execute();
    const row = await tx
      .selectFrom('fixed_ips')
      .select(['reserved', 'instance_id'])
      .where('network_id', '=', at.network_id)
      .where('address_number', '=', at.address_number)
      .executeTakeFirstOrThrow();
    if (row.reserved === 1) return;
    const why = row.instance_id === null ? 'was given back just now' : `belongs to ${ec2InstanceId(row.instance_id)}`;
    throw new Conflict(`${at.address} cannot be reserved: it ${why}`);
  });
}

/**
 * Lets guests have it again.
 * @param host that is gone for good, where it is that host's own address on a multi_host network
 * @throws FixedIpNotFound when it is not reserved, or is another host's own; Conflict for the gateway of a network
 */
export async function unreserveFixedIp(db: Db, address: string, host: string | null = null): Promise<void> {
  const network = (await allNetworks(db)).find(({ gateway }) => gateway === address);
  if (network)
    throw new Conflict(
      `${address} is the gateway of network ${network.cidr}, and stays reserved as long as it is there`,
    );
  const reserved = db.deleteFrom('fixed_ips').where('address', '=', address).where('reserved', '=', 1);
  const result = await (
    host === null ? reserved.where('host', 'is', null) : reserved.where('host', '=', host)
  ).executeTakeFirst();
  if (Number(result.numDeletedRows) === 0) throw new FixedIpNotFound(`${address} is not reserved`);
}

export interface FixedIpListed {
  cidr: string;
  address: string;
  mac: string | null;
  hostname: string | null;
  instance_host: string | null;
  instance_id: number | null;
  allocated: number;
  leased: number;
  reserved: number;
}

/** Every row of live networks in order of addresses. @param host only those of instances there */
export async function listFixedIps(db: Db, host: string | undefined): Promise<FixedIpListed[]> {
  const query = db
    .selectFrom('fixed_ips as ip')
    .innerJoin('networks', (join) => join.onRef('networks.id', '=', 'ip.network_id').on('networks.deleted', '=', 0))
    .leftJoin('virtual_interfaces as vif', 'vif.id', 'ip.virtual_interface_id')
    .leftJoin('instances as i', 'i.id', 'ip.instance_id')
    .select([
      'networks.cidr',
      'ip.address',
      'vif.address as mac',
      'i.hostname',
      'i.host as instance_host',
      'ip.instance_id',
      'ip.allocated',
      'ip.leased',
      'ip.reserved',
    ])
    .orderBy('ip.network_id')
    .orderBy('ip.address_number');
  return (host === undefined ? query : query.where('i.host', '=', host)).execute();
}
