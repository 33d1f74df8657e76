import { randomInt, randomUUID } from 'node:crypto';
import type { Insertable, Selectable } from 'kysely';
import { nowText } from '../clock.ts';
import { Aborted, Conflict, NoMoreAddresses } from '../errors.ts';
import { changed, writing, type Db, type Dialect, type NovaDb, type Tx } from './connect.ts';
import { endAssociations } from './floating_associations.ts';
import { ec2InstanceId } from './instances.ts';
import { sql } from './kysely.ts';
import type { FixedIpsTable } from './schema.ts';

/**
 * Fixed addresses. A row exists for an address that is in use, reserved, or given up and not yet safe to give again:
 *
 *   (no row) ──claim──> allocated=1 ──release──> allocated=0, released_at ──quarantine over, or lease ended──> (no row)
 *
 * The unique index on (network_id, address_number) is the allocator: whoever inserts the row has the address.
 */
export type FixedIp = Selectable<FixedIpsTable>;

/** Addresses for guests of one network, as numbers, both ends included; one in between that is not for guests has a reserved row, or gets it when it is met. */
export interface ClaimRange {
  network_id: number;
  cidr: string;
  first: number;
  last: number;
  /** The gateway, where it lies between them. */
  except: number | null;
  /** Whose network it has to be; left out where networks belong to nobody. */
  project_id?: string;
  /** Number to dotted IPv4. */
  format: (number: number) => string;
  /** A new random MAC. */
  makeMac: () => string;
}

/** The same where no card is made. */
export type FreeRange = Omit<ClaimRange, 'makeMac'>;

/** A network that an instance may have an address of. */
export interface Claim {
  range: ClaimRange;
  /** Of a multi_host network: who serves the card, and where it takes its own address if it has none; null: it does so when asked. */
  server: { host: string; range: FreeRange | null } | null;
}

export interface ClaimedIp {
  network_id: number;
  address: string;
  mac: string;
  virtual_interface_id: number;
}

/** Parallel writers spread over this many addresses above the highest one in use. */
const SPREAD = 16;
const ATTEMPTS = 200;

/**
 * The instance's address on one of these networks: the one it has, or a new one with a new card, of the first network
 * that has a free one, unless its server has to be asked, which may be without nova-network.
 * @throws NoMoreAddresses; Aborted when the instance is deleted or being deleted (a late request must not leak an address);
 * Conflict when a network was deleted, or taken from its project, in this moment
 */
export async function claimFixedIpOf(
  db: NovaDb,
  claims: readonly Claim[],
  instance_id: number,
): Promise<ClaimedIp | { network_id: number; not_served: true }> {
  return writing(db, async (tx) => {
    await lockLiveInstance(tx, db, instance_id);
    for (const { range } of claims) {
      const has = await claimedIp(tx, range.network_id, instance_id);
      if (has) return has;
    }
    let full: NoMoreAddresses | undefined;
    for (const { range, server } of claims)
      try {
        // First: a guest whose host has no address on its network would be without a gateway.
        if (server !== null && (await hostIp(tx, range.network_id, server.host)) === null) {
          if (server.range === null) return { network_id: range.network_id, not_served: true };
          await takeHostIp(tx, db.dialect, server.range, server.host);
        }
        return await claimNew(tx, db, range, instance_id, server?.host ?? null);
      } catch (err) {
        if (!(err instanceof NoMoreAddresses)) throw err;
        full = err;
      }
    if (full === undefined || claims.length === 1)
      throw full ?? new NoMoreAddresses('there is no network to take an address of');
    const cidrs = claims.map(({ range }) => range.cidr).join(', ');
    throw new NoMoreAddresses(
      `none of the networks ${cidrs} has a free address. Delete instances, or create a further network`,
    );
  });
}

async function claimNew(
  tx: Tx,
  db: NovaDb,
  range: ClaimRange,
  instance_id: number,
  host: string | null,
): Promise<ClaimedIp> {
  await holdNetwork(tx, db.dialect, range);
  const card = await insertCard(tx, range, instance_id);
  try {
    // Last, since on PostgreSQL whoever wants the same number waits from here to the commit.
    const number = await insertFree(tx, range, { instance_id, virtual_interface_id: card.id, allocated: 1, host });
    const { network_id } = range;
    return { network_id, address: range.format(number), mac: card.mac, virtual_interface_id: card.id };
  } catch (err) {
    if (err instanceof NoMoreAddresses) await tx.deleteFrom('virtual_interfaces').where('id', '=', card.id).execute();
    throw err;
  }
}

/** Whoever deletes the network, or takes it from its project, waits, or was first. @throws Conflict */
export async function holdNetwork(
  tx: Tx,
  dialect: Dialect,
  { network_id, project_id, cidr }: FreeRange,
): Promise<void> {
  const live = tx.selectFrom('networks').select('id').where('id', '=', network_id).where('deleted', '=', 0);
  const query = project_id === undefined ? live : live.where('project_id', '=', project_id);
  if (await (dialect === 'sqlite' ? query : query.forShare()).executeTakeFirst()) return;
  const what = project_id === undefined ? 'deleted' : `taken from project ${project_id}`;
  throw new Conflict(`network ${cidr} was ${what} in this moment; ask again`);
}

/** A new card; a MAC that another card has is drawn again. */
async function insertCard(tx: Tx, range: ClaimRange, instance_id: number): Promise<{ id: number; mac: string }> {
  for (;;) {
    const mac = range.makeMac();
    const card = await tx
      .insertInto('virtual_interfaces')
      .values({ address: mac, network_id: range.network_id, instance_id, uuid: randomUUID(), created_at: nowText() })
      .onConflict((c) => c.column('address').doNothing())
      .returning('id')
      .executeTakeFirst();
    if (card) return { id: card.id, mac };
  }
}

async function lockLiveInstance(tx: Tx, db: NovaDb, instance_id: number): Promise<void> {
  const query = tx.selectFrom('instances').select(['deleted', 'task_state']).where('id', '=', instance_id);
  const row = await (db.dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst();
  if (!row || row.deleted !== 0 || row.task_state === 'deleting')
    throw new Aborted(`no address for ${ec2InstanceId(instance_id)}: it is being deleted`);
}

async function claimedIp(tx: Tx, network_id: number, instance_id: number): Promise<ClaimedIp | undefined> {
  const row = await tx
    .selectFrom('fixed_ips')
    .innerJoin('virtual_interfaces as vif', 'vif.id', 'fixed_ips.virtual_interface_id')
    .select(['fixed_ips.address', 'vif.address as mac', 'vif.id'])
    .where('fixed_ips.instance_id', '=', instance_id)
    .where('fixed_ips.network_id', '=', network_id)
    .where('fixed_ips.allocated', '=', 1)
    .orderBy('fixed_ips.id')
    .executeTakeFirst();
  return row && { network_id, address: row.address, mac: row.mac, virtual_interface_id: row.id };
}

/**
 * The host's own address on a multi_host network, with which it is its guests' gateway: the one it has, or a new one.
 * @throws NoMoreAddresses; Conflict when the network was deleted in this moment
 */
export const claimHostIp = (db: NovaDb, range: FreeRange, host: string): Promise<string> =>
  writing(db, (tx) => takeHostIp(tx, db.dialect, range, host));

async function takeHostIp(tx: Tx, dialect: Dialect, range: FreeRange, host: string): Promise<string> {
  const { network_id, cidr } = range;
  const network = tx.selectFrom('networks').select('id').where('id', '=', network_id).where('deleted', '=', 0);
  const row = await (dialect === 'sqlite' ? network : network.forUpdate()).executeTakeFirst(); // one host's two questions are one
  if (!row) throw new Conflict(`network ${cidr} was deleted in this moment; the host needs no address on it`);
  const had = await hostIp(tx, network_id, host);
  if (had !== null) return had;
  return range.format(await insertFree(tx, range, { instance_id: null, allocated: 0, reserved: 1, host }));
}

/** A host's own address on a multi_host network, or null. */
export async function hostIp(db: Db, network_id: number, host: string): Promise<string | null> {
  const row = await db
    .selectFrom('fixed_ips')
    .select('address')
    .where('network_id', '=', network_id)
    .where('host', '=', host)
    .where('reserved', '=', 1)
    .executeTakeFirst();
  return row?.address ?? null;
}

/** A host has taken its own address off. */
export async function releaseHostIp(db: Db, network_id: number, host: string): Promise<void> {
  const own = db.deleteFrom('fixed_ips').where('network_id', '=', network_id).where('host', '=', host);
  await own.where('reserved', '=', 1).execute();
}

/** A host that leaves gives its own addresses back. */
export async function releaseHostIps(db: Db, host: string): Promise<void> {
  await db.deleteFrom('fixed_ips').where('host', '=', host).where('reserved', '=', 1).execute();
}

/** Above the highest row while there is room, then in the gaps from a random place on. @returns the address as a number */
export async function insertFree(
  tx: Tx,
  range: FreeRange,
  values: Pick<Insertable<FixedIpsTable>, 'instance_id' | 'virtual_interface_id' | 'allocated' | 'reserved' | 'host'>,
): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const number = (await aboveHighest(tx, range, attempt)) ?? (await anyGap(tx, range));
    if (number === undefined) break;
    const for_guests = number !== range.except;
    const row = await tx
      .insertInto('fixed_ips')
      .values({
        address: range.format(number),
        address_number: number,
        network_id: range.network_id,
        ...(for_guests ? values : { reserved: 1 }),
        created_at: nowText(),
      })
      .onConflict((c) => c.columns(['network_id', 'address_number']).doNothing())
      .returning('id')
      .executeTakeFirst();
    if (row && for_guests) return number;
  }
  const size = range.last - range.first + (range.except === null ? 1 : 0);
  throw new NoMoreAddresses(
    `network ${range.cidr} has no free address: all ${size} for guests are in use or in quarantine. Delete instances, or create a further network`,
  );
}

async function aboveHighest(tx: Tx, range: FreeRange, attempt: number): Promise<number | undefined> {
  const top = await tx
    .selectFrom('fixed_ips')
    .select((e) => e.fn.max('address_number').as('number'))
    .where('network_id', '=', range.network_id)
    .where('address_number', '>=', range.first)
    .where('address_number', '<=', range.last)
    .executeTakeFirst();
  const next = Math.max(range.first, Number(top?.number ?? 0) + 1) + (attempt === 0 ? 0 : randomInt(SPREAD));
  return next <= range.last ? next : undefined;
}

async function anyGap(tx: Tx, range: FreeRange): Promise<number | undefined> {
  const from = randomInt(range.first, range.last + 1);
  return (await gapBetween(tx, range, from, range.last)) ?? (await gapBetween(tx, range, range.first, from));
}

/** The lowest free number in [from, to]. */
async function gapBetween(tx: Tx, range: FreeRange, from: number, to: number): Promise<number | undefined> {
  const taken = await tx
    .selectFrom('fixed_ips')
    .select('address_number')
    .where('network_id', '=', range.network_id)
    .where('address_number', '=', from)
    .executeTakeFirst();
  if (!taken) return from;
  const row = await tx
    .selectFrom('fixed_ips as taken')
    .select('taken.address_number')
    .where('taken.network_id', '=', range.network_id)
    .where('taken.address_number', '>=', from)
    .where('taken.address_number', '<', to)
    .where((e) =>
      e.not(
        e.exists(
          e
            .selectFrom('fixed_ips as next')
            .select('next.id')
            .where('next.network_id', '=', range.network_id)
            .where('next.address_number', '=', sql<number>`taken.address_number + 1`),
        ),
      ),
    )
    .orderBy('taken.address_number')
    .limit(1)
    .executeTakeFirst();
  return row && Number(row.address_number) + 1;
}

/** What an instance has now. */
export const fixedIpsOfInstance = (db: Db, instance_id: number): Promise<FixedIp[]> =>
  db
    .selectFrom('fixed_ips')
    .selectAll()
    .where('instance_id', '=', instance_id)
    .where('allocated', '=', 1)
    .orderBy('id')
    .execute();

/**
 * Gives up all of an instance's addresses and cards: into quarantine, or gone at once where no DHCP lease can be about.
 * None is success. @returns the rows as they were
 */
export async function releaseFixedIps(db: NovaDb, instance_id: number, quarantine: boolean): Promise<FixedIp[]> {
  return writing(db, async (tx) => {
    const rows = await fixedIpsOfInstance(tx, instance_id);
    const mine = tx.deleteFrom('virtual_interfaces').where('instance_id', '=', instance_id);
    await mine.execute();
    if (!quarantine) await tx.deleteFrom('fixed_ips').where('instance_id', '=', instance_id).execute();
    else {
      const now = nowText();
      await tx
        .updateTable('fixed_ips')
        .set({ allocated: 0, instance_id: null, virtual_interface_id: null, released_at: now, updated_at: now })
        .where('instance_id', '=', instance_id)
        .execute();
    }
    const ids = rows.map(({ id }) => id);
    await endAssociations(tx, ids); // after the update, which waited for who was making one
    return rows;
  });
}

/** Gives up one address, with its card. None is success. @returns the row as it was, if it was in use */
export async function releaseAddress(db: NovaDb, address: string, quarantine: boolean): Promise<FixedIp | undefined> {
  return writing(db, async (tx) => {
    const query = tx.selectFrom('fixed_ips').selectAll().where('address', '=', address).where('allocated', '=', 1);
    const row = await (db.dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst();
    if (!row) return undefined;
    const now = nowText();
    const given_up = { allocated: 0, instance_id: null, virtual_interface_id: null, released_at: now, updated_at: now };
    if (quarantine) await tx.updateTable('fixed_ips').set(given_up).where('id', '=', row.id).execute();
    else await tx.deleteFrom('fixed_ips').where('id', '=', row.id).execute();
    if (row.virtual_interface_id !== null) await removeBareCard(tx, row.virtual_interface_id);
    await endAssociations(tx, [row.id]);
    return row;
  });
}

/** A card goes with its last address. */
async function removeBareCard(tx: Tx, id: number): Promise<void> {
  const left = tx.selectFrom('fixed_ips').select('id').where('virtual_interface_id', '=', id);
  await tx
    .deleteFrom('virtual_interfaces')
    .where('id', '=', id)
    .where((e) => e.not(e.exists(left)))
    .execute();
}

/** The row of an address of a live network, and the MAC of its card where it is in use. */
export const fixedIpAt = (db: Db, address: string): Promise<(FixedIp & { mac: string | null }) | undefined> =>
  db
    .selectFrom('fixed_ips as ip')
    .innerJoin('networks as n', (join) => join.onRef('n.id', '=', 'ip.network_id').on('n.deleted', '=', 0))
    .leftJoin('virtual_interfaces as vif', 'vif.id', 'ip.virtual_interface_id')
    .selectAll('ip')
    .select('vif.address as mac')
    .where('ip.address', '=', address)
    .executeTakeFirst();

/** Quarantine is over for what was given up before `before`. @returns how many addresses became free */
export async function endQuarantine(db: Db, before: string): Promise<number> {
  const result = await db
    .deleteFrom('fixed_ips')
    .where('allocated', '=', 0)
    .where('reserved', '=', 0)
    .where('released_at', 'is not', null)
    .where('released_at', '<', before)
    .executeTakeFirst();
  return Number(result.numDeletedRows);
}

/** DHCP gave (`leased`) or ended a lease; one that ended after its address was given up frees it at once. @returns rows changed */
export async function setLeased(db: Db, network_id: number, address: string, leased: boolean): Promise<number> {
  const result = await db
    .updateTable('fixed_ips')
    .set({ leased: leased ? 1 : 0, updated_at: nowText() })
    .where('network_id', '=', network_id)
    .where('address', '=', address)
    .executeTakeFirst();
  if (!leased)
    await db
      .deleteFrom('fixed_ips')
      .where('network_id', '=', network_id)
      .where('address', '=', address)
      .where('allocated', '=', 0)
      .where('reserved', '=', 0)
      .execute();
  return changed(result);
}

/** Addresses still allocated to instances that were deleted before `before`: what a dead host left. */
export const leftoverInstanceIds = async (db: Db, before: string): Promise<number[]> => {
  const holders = db.selectFrom('fixed_ips').select('instance_id').where('instance_id', 'is not', null);
  const rows = await db
    .selectFrom('instances')
    .select('id')
    .where('id', 'in', holders) // no join: SQLite would begin it with every instance that ever was
    .where('deleted', '=', 1)
    .where('deleted_at', '<', before)
    .execute();
  return rows.map((row) => row.id);
};
