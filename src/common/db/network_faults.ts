import { nowText } from '../clock.ts';
import { writing, type Db, type NovaDb } from './connect.ts';
import { endAssociations } from './floating_associations.ts';
import { sql } from './kysely.ts';

/** Rows about networks that contradict other rows: what `nova-manage network doctor` looks for. */

/** Addresses that are allocated to instances that are deleted, or that there is no row of. */
export const addressesOfGoneInstances = (db: Db): Promise<{ instance_id: number; address: string }[]> =>
  db
    .selectFrom('fixed_ips as ip')
    .leftJoin('instances as i', 'i.id', 'ip.instance_id')
    .select(['ip.instance_id', 'ip.address'])
    .where('ip.instance_id', 'is not', null)
    .where('ip.allocated', '=', 1)
    .where((e) => e.or([e('i.id', 'is', null), e('i.deleted', '=', 1)]))
    .orderBy('ip.id')
    .$narrowType<{ instance_id: number }>()
    .execute();

/** Addresses of instances on networks that were deleted. */
export const addressesOfDeletedNetworks = (db: Db): Promise<{ instance_id: number; address: string; cidr: string }[]> =>
  db
    .selectFrom('fixed_ips as ip')
    .innerJoin('networks as n', 'n.id', 'ip.network_id')
    .innerJoin('instances as i', 'i.id', 'ip.instance_id')
    .select(['i.id as instance_id', 'ip.address', 'n.cidr'])
    .where('n.deleted', '=', 1)
    .where('ip.allocated', '=', 1)
    .where('i.deleted', '=', 0)
    .orderBy('ip.id')
    .execute();

/** Cards of instances that are gone, save those whose instance has an address still. */
export const cardsOfGoneInstances = (db: Db): Promise<{ id: number; mac: string; instance_id: number }[]> =>
  db
    .selectFrom('virtual_interfaces as vif')
    .leftJoin('instances as i', 'i.id', 'vif.instance_id')
    .select(['vif.id', 'vif.address as mac', 'vif.instance_id'])
    .where((e) => e.or([e('i.id', 'is', null), e('i.deleted', '=', 1)]))
    .where((e) =>
      e.not(
        e.exists(
          e
            .selectFrom('fixed_ips as ip')
            .select('ip.id')
            .whereRef('ip.instance_id', '=', 'vif.instance_id')
            .where('ip.allocated', '=', 1),
        ),
      ),
    )
    .orderBy('vif.id')
    .execute();

/** Its instance is gone; one that came back meanwhile keeps it. */
export async function dropCard(db: Db, id: number): Promise<void> {
  await db
    .deleteFrom('virtual_interfaces')
    .where('id', '=', id)
    .where((e) =>
      e.not(
        e.exists(
          e
            .selectFrom('instances as i')
            .select('i.id')
            .whereRef('i.id', '=', 'virtual_interfaces.instance_id')
            .where('i.deleted', '=', 0),
        ),
      ),
    )
    .execute();
}

/** Guests that have the address of their network's gateway. */
export const guestsAtGateways = (db: Db): Promise<{ instance_id: number; address: string; cidr: string }[]> =>
  db
    .selectFrom('fixed_ips as ip')
    .innerJoin('networks as n', (join) =>
      join.onRef('n.id', '=', 'ip.network_id').onRef('n.gateway', '=', 'ip.address'),
    )
    .select(['ip.instance_id', 'ip.address', 'n.cidr'])
    .where('n.deleted', '=', 0)
    .where('ip.allocated', '=', 1)
    .where('ip.instance_id', 'is not', null)
    .orderBy('ip.id')
    .$narrowType<{ instance_id: number }>()
    .execute();

/** Floating addresses that lead to a fixed one that nobody has. */
export const floatingToNowhere = (db: Db): Promise<{ address: string; fixed_ip_id: number }[]> =>
  db
    .selectFrom('floating_ips as f')
    .leftJoin('fixed_ips as ip', (join) => join.onRef('ip.id', '=', 'f.fixed_ip_id').on('ip.allocated', '=', 1))
    .select(['f.address', 'f.fixed_ip_id'])
    .where(sql<boolean>`f.deleted = 0`)
    .where('f.fixed_ip_id', 'is not', null)
    .where('ip.id', 'is', null)
    .orderBy('f.address_number')
    .$narrowType<{ fixed_ip_id: number }>()
    .execute();

/** Nothing leads to this fixed ip any more, unless somebody has it by now. */
export async function endAssociationTo(db: NovaDb, fixed_ip_id: number): Promise<void> {
  await writing(db, async (tx) => {
    const query = tx.selectFrom('fixed_ips').select('id').where('id', '=', fixed_ip_id).where('allocated', '=', 1);
    const taken = await (db.dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst();
    if (!taken) await endAssociations(tx, [fixed_ip_id]);
  });
}

/** Addresses of hosts on multi_host networks, those that a host has several of on one network. */
export async function doubledHostAddresses(
  db: Db,
): Promise<{ id: number; host: string; network_id: number; address: string }[]> {
  const rows = await db
    .selectFrom('fixed_ips')
    .select(['id', 'host', 'network_id', 'address'])
    .where('reserved', '=', 1)
    .where('host', 'is not', null)
    .orderBy('id')
    .$narrowType<{ host: string }>()
    .execute();
  const first = new Set<string>();
  return rows.filter(({ host, network_id }) => {
    const key = `${network_id} ${host}`;
    return first.has(key) || !first.add(key);
  });
}

export async function dropHostAddress(db: Db, id: number): Promise<void> {
  await db.deleteFrom('fixed_ips').where('id', '=', id).where('reserved', '=', 1).execute();
}

/** Takes a network from a host, unless another has it by now. */
export async function freeNetworkOf(db: Db, id: number, host: string): Promise<void> {
  await db
    .updateTable('networks')
    .set({ host: null, updated_at: nowText() })
    .where('id', '=', id)
    .where('host', '=', host)
    .execute();
}

/** The cards of a host's live instances, in the guests' order, with the bridge that each belongs in. */
export const cardsOfHost = (
  db: Db,
  host: string,
): Promise<{ instance_id: number; bridge: string; network_id: number }[]> =>
  db
    .selectFrom('fixed_ips as ip')
    .innerJoin('instances as i', 'i.id', 'ip.instance_id')
    .innerJoin('networks as n', 'n.id', 'ip.network_id')
    .select(['i.id as instance_id', 'n.bridge', 'n.id as network_id'])
    .where('i.host', '=', host)
    .where('i.deleted', '=', 0)
    .where('ip.allocated', '=', 1)
    .orderBy('ip.id')
    .execute();

/** Those of these instances that are not deleted, whatever their host. */
export async function liveInstanceIds(db: Db, ids: readonly number[]): Promise<Set<number>> {
  if (ids.length === 0) return new Set();
  const rows = await db
    .selectFrom('instances')
    .select('id')
    .where('id', 'in', [...ids])
    .where('deleted', '=', 0)
    .execute();
  return new Set(rows.map(({ id }) => id));
}
