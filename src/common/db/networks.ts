import { randomUUID } from 'node:crypto';
import type { Insertable, Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { FloatingIpExists, InvalidInput, NetworkExists, NetworkInUse, NetworkNotFound } from '../errors.ts';
import { ec2InstanceId } from './instance_names.ts';
import { changed, isUniqueViolation, writing, type Db, type Dialect, type NovaDb, type Tx } from './connect.ts';
import { sql } from './kysely.ts';
import type { NetworksTable } from './schema.ts';

export type Network = Selectable<NetworksTable>;
export type NewNetwork = Omit<Insertable<NetworksTable>, 'uuid' | 'created_at'> & {
  /** Drawn when left out. */
  uuid?: string;
  /** Addresses in the guests' range that are not for guests. */
  reserved: { address: string; address_number: number }[];
  /** Its first address and its last, as numbers. */
  block: { first: number; last: number };
};

const live = (db: Db) => db.selectFrom('networks').selectAll().where('deleted', '=', 0).orderBy('id');

/** @throws NetworkNotFound */
export async function networkById(db: Db, id: number): Promise<Network> {
  const row = await live(db).where('id', '=', id).executeTakeFirst();
  if (!row) throw new NetworkNotFound(`there is no network ${id}`);
  return row;
}

/** The flat networks on a bridge, oldest first: alternatives, of which each instance gets one. @throws NetworkNotFound for none */
export async function networksOnBridge(db: Db, bridge: string): Promise<[Network, ...Network[]]> {
  const flat = (await live(db).execute()).filter((network) => network.vlan === null);
  const [first, ...others] = flat.filter((network) => network.bridge === bridge);
  if (first) return [first, ...others];
  const bridges = [...new Set(flat.map((network) => network.bridge))];
  throw new NetworkNotFound(
    `there is no network on bridge ${bridge} (--flat_network_bridge); ` +
      (bridges.length > 0 ? `networks are on ${bridges.join(', ')}. ` : 'no network was made yet. ') +
      'Make one by: nova-manage network create 10.0.0.0/24 1 256',
  );
}

export const allNetworks = (db: Db): Promise<Network[]> => live(db).execute();
/** Those that this host serves as their gateway; of multi_host networks every host is one. */
export const networksOfHost = (db: Db, host: string): Promise<Network[]> =>
  live(db)
    .where((e) => e.or([e('host', '=', host), e('multi_host', '=', 1)]))
    .execute();
/** Whether all networks are multi_host, so that each compute host has what its guests need on itself. */
export async function everyHostServes(db: Db): Promise<boolean> {
  const networks = await allNetworks(db);
  return networks.length > 0 && networks.every(({ multi_host }) => multi_host === 1);
}
/** @throws NetworkNotFound */
export async function networkByCidr(db: Db, cidr: string): Promise<Network> {
  const row = await live(db).where('cidr', '=', cidr).executeTakeFirst();
  if (!row)
    throw new NetworkNotFound(`there is no network ${cidr}; nova-manage network list shows those that there are`);
  return row;
}
/** VLAN networks that no project has. */
export const freeNetworks = (db: Db): Promise<Network[]> =>
  live(db).where('vlan', 'is not', null).where('project_id', 'is', null).execute();
/** Hosts may have something of theirs still. */
export const deletedNetworks = (db: Db): Promise<Network[]> =>
  db.selectFrom('networks').selectAll().where('deleted', '=', 1).orderBy('id').execute();

/**
 * Writes networks, all or none; `plan` sees those that there are, in the same transaction.
 * @throws whatever `plan` throws; NetworkExists when another writer was quicker; FloatingIpExists when one has addresses of the pool
 */
export async function insertNetworks(db: NovaDb, plan: (existing: Network[]) => NewNetwork[]): Promise<NewNetwork[]> {
  const created_at = nowText();
  try {
    return await writing(db, async (tx) => {
      await lockNetworks(tx, db.dialect);
      const planned = plan(await live(tx).execute());
      for (const { reserved, block, ...network } of planned) {
        await checkNoFloating(tx, network.cidr, block);
        const { id } = await tx
          .insertInto('networks')
          .values({ uuid: randomUUID(), ...network, created_at })
          .returning('id')
          .executeTakeFirstOrThrow();
        for (const one of reserved)
          await tx
            .insertInto('fixed_ips')
            .values({ ...one, network_id: id, reserved: 1, created_at })
            .execute();
      }
      return planned;
    });
  } catch (err) {
    if (!isUniqueViolation(err)) throw err;
    throw new NetworkExists('another process made one of these networks in this moment; look at them and ask again', {
      cause: err,
    });
  }
}

/** Who makes a network, or adds to the floating pool, does so alone: no address may be both. */
export async function lockNetworks(tx: Tx, dialect: Dialect): Promise<void> {
  if (dialect === 'postgresql') await sql`lock table networks in share row exclusive mode`.execute(tx);
}

/** Addresses of the floating pool, both ends included. */
export const floatingBetween = (db: Db, first: number, last: number): Promise<{ address: string }[]> =>
  db
    .selectFrom('floating_ips')
    .select('address')
    .where('address_number', '>=', first)
    .where('address_number', '<=', last)
    .where(sql<boolean>`deleted = 0`)
    .orderBy('address_number')
    .execute();

async function checkNoFloating(tx: Tx, cidr: string, block: NewNetwork['block']): Promise<void> {
  const [first, ...more] = await floatingBetween(tx, block.first, block.last);
  if (!first) return;
  throw new FloatingIpExists(
    `${cidr} has the floating ip ${first.address}${more.length > 0 ? ` and ${more.length} more` : ''} in it; nothing was made. ` +
      `Take another block, or these out of the pool: nova-manage floating delete ${cidr}`,
  );
}

/** Makes `host` the network's, unless it has one: the first to ask keeps it. @returns the host that has it. @throws NetworkNotFound */
export async function setNetworkHost(db: Db, id: number, host: string): Promise<string> {
  const result = await db
    .updateTable('networks')
    .set({ host, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .where('host', 'is', null)
    .executeTakeFirst();
  if (changed(result) === 1) return host;
  return (await networkById(db, id)).host ?? setNetworkHost(db, id, host); // null: taken from its host just now
}

/**
 * Gives a network to a host, or with null to the next that asks; its VPN's public address was that of the former one.
 * @throws NetworkNotFound; InvalidInput for a multi_host network, which every host serves
 */
export async function moveNetwork(db: Db, id: number, host: string | null): Promise<void> {
  const { cidr, multi_host } = await networkById(db, id);
  if (multi_host === 1)
    throw new InvalidInput(`${cidr} is a multi_host network: each host serves its own guests, and none has it alone`);
  await db
    .updateTable('networks')
    .set({ host, vpn_public_address: null, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .execute();
}

/** What a manager writes into networks when it takes them on; nothing is written where nothing differs. */
export async function configureNetwork(
  db: Db,
  id: number,
  to: Partial<Pick<Network, 'injected' | 'vpn_public_address'>>,
): Promise<void> {
  await db
    .updateTable('networks')
    .set({ ...to, updated_at: nowText() })
    .where('id', '=', id)
    .where('deleted', '=', 0)
    .execute();
}

/** Takes a network and its address rows away; those of hosts go when they have taken the address off. @throws NetworkNotFound, NetworkInUse with how many guests have an address */
export async function deleteNetwork(db: NovaDb, id: number): Promise<void> {
  await writing(db, async (tx) => {
    if (db.dialect !== 'sqlite')
      await tx.selectFrom('networks').select('id').where('id', '=', id).forUpdate().execute(); // an address that is being claimed is seen
    const network = await networkById(tx, id);
    if (network.project_id !== null)
      throw new NetworkInUse(
        `network ${network.cidr} belongs to project ${network.project_id}; take it from there first: nova-manage network modify ${network.cidr} --disassociate_project`,
      );
    await checkNoGuests(tx, network);
    await tx.deleteFrom('virtual_interfaces').where('network_id', '=', id).execute();
    await tx
      .deleteFrom('fixed_ips')
      .where('network_id', '=', id)
      .where((e) => e.or([e('reserved', '=', 0), e('host', 'is', null)]))
      .execute();
    await tx.updateTable('networks').set({ deleted: 1, deleted_at: nowText() }).where('id', '=', id).execute();
  });
}

/** @throws NetworkInUse naming instances that have its addresses */
export async function checkNoGuests(tx: Tx, { id, cidr }: Pick<Network, 'id' | 'cidr'>): Promise<void> {
  const rows = await tx
    .selectFrom('fixed_ips')
    .select('instance_id')
    .where('network_id', '=', id)
    .where('allocated', '=', 1)
    .orderBy('id')
    .execute();
  if (rows.length === 0) return;
  const names = [...new Set(rows.map(({ instance_id }) => ec2InstanceId(instance_id ?? 0)))];
  const some = names.slice(0, 3).join(', ') + (names.length > 3 ? ` and ${names.length - 3} more` : '');
  throw new NetworkInUse(`network ${cidr} has addresses that are in use, by ${some}: delete those instances first`);
}

/** Addresses in use. */
export async function guestsOf(tx: Db, network_id: number): Promise<number> {
  const { used } = await tx
    .selectFrom('fixed_ips')
    .select((e) => e.fn.countAll().as('used'))
    .where('network_id', '=', network_id)
    .where('allocated', '=', 1)
    .executeTakeFirstOrThrow();
  return Number(used);
}
