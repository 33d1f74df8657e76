import type { Db } from './connect.ts';

/** An address of a card of an instance; the first of a card's is its own, which DHCP gives. */
export interface Card {
  network_id: number;
  address: string;
  mac: string;
  /** Of a multi_host network: who serves it. */
  host: string | null;
}

const cards = (db: Db) =>
  db
    .selectFrom('fixed_ips as ip')
    .innerJoin('virtual_interfaces as vif', 'vif.id', 'ip.virtual_interface_id')
    .select(['ip.network_id', 'ip.address', 'vif.address as mac', 'ip.host'])
    .where('ip.allocated', '=', 1)
    .orderBy('vif.id')
    .orderBy('ip.id');

const firstOfEach = <C extends { mac: string }>(rows: readonly C[]): C[] =>
  [...new Map(rows.toReversed().map((row) => [row.mac, row])).values()].toReversed();

export const addressesOfInstance = (db: Db, instance_id: number): Promise<Card[]> =>
  cards(db).where('ip.instance_id', '=', instance_id).execute();

/** Each card with its own address, in the order in which the guest has them. */
export const cardsOfInstance = async (db: Db, instance_id: number): Promise<Card[]> =>
  firstOfEach(await addressesOfInstance(db, instance_id));

/** The guests that a network's DHCP server answers. @param host of a multi_host network: only those that it serves */
export async function dhcpGuests(
  db: Db,
  network_id: number,
  host: string | null,
): Promise<{ mac: string; address: string; hostname: string | null; leased: number }[]> {
  const query = cards(db)
    .leftJoin('instances as i', 'i.id', 'ip.instance_id')
    .clearSelect()
    .select(['vif.address as mac', 'ip.address', 'i.hostname', 'ip.leased'])
    .where('ip.network_id', '=', network_id);
  return firstOfEach(await (host === null ? query : query.where('ip.host', '=', host)).execute());
}
