import { nowText } from '../clock.ts';
import { FloatingIpExists, FloatingIpInUse, FloatingIpNotFound } from '../errors.ts';
import { isUniqueViolation, writing, type NovaDb } from './connect.ts';
import { sql } from './kysely.ts';
import { allNetworks, floatingBetween, lockNetworks, type Network } from './networks.ts';

/** The operator's side of floating addresses: which there are. */

export interface PoolAddress {
  address: string;
  address_number: number;
}

/** Rows that one statement writes. */
const CHUNK = 500;

/**
 * Adds addresses to the pool, all or none; `plan` sees the networks that there are, in the same transaction. @returns them
 * @throws whatever `plan` throws; FloatingIpExists with the first that is there already
 */
export async function createFloatingIps(
  db: NovaDb,
  plan: (networks: readonly Network[]) => PoolAddress[],
): Promise<PoolAddress[]> {
  const created_at = nowText();
  try {
    return await writing(db, async (tx) => {
      await lockNetworks(tx, db.dialect);
      const addresses = plan(await allNetworks(tx));
      const numbers = addresses.map(({ address_number }) => address_number);
      const rows = await floatingBetween(tx, Math.min(...numbers), Math.max(...numbers));
      const there = new Set(rows.map(({ address }) => address));
      const [first, ...more] = addresses.filter(({ address }) => there.has(address));
      if (first)
        throw new FloatingIpExists(
          `${first.address}${more.length > 0 ? ` and ${more.length} more` : ''} of these are floating ips already; none was added`,
        );
      for (let at = 0; at < addresses.length; at += CHUNK)
        await tx
          .insertInto('floating_ips')
          .values(addresses.slice(at, at + CHUNK).map((one) => ({ ...one, created_at })))
          .execute();
      return addresses;
    });
  } catch (err) {
    if (!isUniqueViolation(err)) throw err;
    throw new FloatingIpExists('another process added some of these addresses in this moment; look and ask again', {
      cause: err,
    });
  }
}

/**
 * Takes addresses out of the pool, all or none, also from projects that they do not serve.
 * @param blocks both ends included
 * @returns them, with their projects
 * @throws FloatingIpNotFound when there are none; FloatingIpInUse while one leads to an instance
 */
export async function deleteFloatingIps(
  db: NovaDb,
  blocks: readonly { first: number; last: number }[],
): Promise<{ address: string; project_id: string | null }[]> {
  const now = nowText();
  return writing(db, async (tx) => {
    const all: { id: number; address: string; project_id: string | null }[] = [];
    for (const { first, last } of blocks) {
      const query = tx
        .selectFrom('floating_ips')
        .select(['id', 'address', 'project_id'])
        .where('address_number', '>=', first)
        .where('address_number', '<=', last)
        .where(sql<boolean>`deleted = 0`)
        .orderBy('id');
      all.push(...(await (db.dialect === 'sqlite' ? query : query.forUpdate()).execute())); // nobody associates meanwhile
    }
    if (all.length === 0) throw new FloatingIpNotFound('none of these addresses is a floating ip');
    for (let at = 0; at < all.length; at += CHUNK) {
      const ids = all.slice(at, at + CHUNK).map(({ id }) => id);
      const used = await tx
        .selectFrom('floating_ips as f')
        .innerJoin('fixed_ips as ip', 'ip.id', 'f.fixed_ip_id')
        .select(['f.address', 'ip.address as fixed'])
        .where('f.id', 'in', ids)
        .where('ip.allocated', '=', 1)
        .executeTakeFirst();
      if (used)
        throw new FloatingIpInUse(
          `floating ip ${used.address} leads to ${used.fixed}: it must be disassociated first; none was deleted`,
        );
      await tx
        .updateTable('floating_ips')
        .set({ deleted: 1, deleted_at: now, fixed_ip_id: null, project_id: null, auto_assigned: 0 })
        .where('id', 'in', ids)
        .execute();
    }
    return all.map(({ address, project_id }) => ({ address, project_id }));
  });
}
