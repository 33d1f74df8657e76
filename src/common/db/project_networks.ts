import { nowText } from '../clock.ts';
import { Conflict, NetworkInUse, NoMoreNetworks, ProjectNotFound, type NovaError } from '../errors.ts';
import { changed, lockProject, writing, type Db, type Dialect, type NovaDb, type Tx } from './connect.ts';
import type { GuestBridges } from '../network_info.ts';
import { instanceUsage } from './instances.ts';
import { allNetworks, checkNoGuests, networkById, type Network } from './networks.ts';

/**
 * VLAN networks, each of which belongs to one project or to none:
 *
 *   free ──first instance──> claimed ──last instance and last address gone──> free
 *   free ──operator────────> given   ──operator, or project scrub──────────> free
 */
const vlans = (db: Db) =>
  db.selectFrom('networks').selectAll().where('deleted', '=', 0).where('vlan', 'is not', null).orderBy('id');

async function networksOfProject(db: Db, project_id: string): Promise<[Network, ...Network[]] | undefined> {
  const [first, ...others] = await vlans(db).where('project_id', '=', project_id).execute();
  return first && [first, ...others];
}

/**
 * The project's networks; one that has none gets the oldest that is free, and only that one however many ask at once.
 * @throws NoMoreNetworks, ProjectNotFound
 */
export async function claimNetwork(db: NovaDb, project_id: string): Promise<[Network, ...Network[]]> {
  const had = await networksOfProject(db, project_id);
  if (had) return had;
  return writing(db, async (tx) => {
    await lockProject(tx, db.dialect, project_id);
    for (;;) {
      const has = await networksOfProject(tx, project_id);
      if (has) return has;
      const free = await vlans(tx).where('project_id', 'is', null).limit(1).executeTakeFirst();
      if (!free) throw await noNetworkFor(tx, project_id);
      const now = nowText();
      await tx
        .updateTable('networks')
        .set({ project_id, claimed_at: now, updated_at: now })
        .where('id', '=', free.id)
        .where('deleted', '=', 0)
        .where('project_id', 'is', null) // another project was quicker: the next look finds the next
        .execute();
    }
  });
}

async function noNetworkFor(tx: Tx, project_id: string): Promise<NovaError> {
  const count = (await vlans(tx).execute()).length;
  const why = count === 0 ? 'no VLAN network was made yet' : `all ${count} VLAN networks belong to other projects`;
  return new NoMoreNetworks(
    `no network is free for project ${project_id}: ${why}. An operator makes one by ` +
      'nova-manage network create RANGE --vlan=N, or frees that of a project without instances by nova-manage project scrub PROJECT',
  );
}

/** Gives a VLAN network to a project for good. Twice is once. @throws NetworkInUse when it is another's, NetworkNotFound, ProjectNotFound */
export async function giveNetwork(db: NovaDb, id: number, project_id: string): Promise<void> {
  await writing(db, async (tx) => {
    await lockProject(tx, db.dialect, project_id);
    const result = await tx
      .updateTable('networks')
      .set({ project_id, claimed_at: null, updated_at: nowText() })
      .where('id', '=', id)
      .where('deleted', '=', 0)
      .where((e) => e.or([e('project_id', 'is', null), e('project_id', '=', project_id)]))
      .executeTakeFirst();
    if (changed(result) === 1) return;
    const network = await networkById(tx, id);
    throw new NetworkInUse(
      `network ${network.cidr} belongs to project ${network.project_id}; take it from there first: ` +
        `nova-manage network modify ${network.cidr} --disassociate_project`,
    );
  });
}

/** Where a network's VPN instance is reached from outside. @throws Conflict when another network is reached there, NetworkNotFound */
export async function setVpnAddress(db: NovaDb, id: number, address: string, port: number): Promise<void> {
  await writing(db, async (tx) => {
    const others = await vlans(tx).where('vpn_public_port', '=', port).where('id', '!=', id).execute();
    const same = others.find((other) => other.vpn_public_address === address);
    if (same) throw new Conflict(`${address}:${port} leads to the VPN instance of network ${same.cidr} already`);
    const result = await tx
      .updateTable('networks')
      .set({ vpn_public_address: address, vpn_public_port: port, updated_at: nowText() })
      .where('id', '=', id)
      .where('deleted', '=', 0)
      .executeTakeFirst();
    if (changed(result) === 0) await networkById(tx, id);
  });
}

/** Takes a network from its project; none is success. @throws NetworkInUse while an address of it is in use or in quarantine */
export async function takeNetwork(tx: Tx, dialect: Dialect, id: number): Promise<void> {
  const query = tx.selectFrom('networks').select(['cidr', 'project_id']).where('id', '=', id).where('deleted', '=', 0);
  const row = await (dialect === 'sqlite' ? query : query.forUpdate()).executeTakeFirst(); // an address that is being claimed is seen
  if (!row || row.project_id === null) return;
  await checkNoGuests(tx, { id, cidr: row.cidr });
  const { waiting } = await addressesOf(tx, id);
  if (waiting > 0)
    throw new NetworkInUse(
      `network ${row.cidr} has ${waiting} addresses that were given back a short while ago, whose leases may live; ` +
        'ask again when nova-manage fixed list shows none as waiting',
    );
  await tx
    .updateTable('networks')
    .set({ project_id: null, claimed_at: null, host: null, vpn_public_address: null, updated_at: nowText() })
    .where('id', '=', id)
    .execute();
}

async function addressesOf(tx: Tx, network_id: number): Promise<{ used: number; waiting: number }> {
  const rows = await tx
    .selectFrom('fixed_ips')
    .select(['allocated', (e) => e.fn.countAll().as('count')])
    .where('network_id', '=', network_id)
    .where('reserved', '=', 0)
    .groupBy('allocated')
    .execute();
  const count = (allocated: number) => Number(rows.find((row) => row.allocated === allocated)?.count ?? 0);
  return { used: count(1), waiting: count(0) };
}

/**
 * Networks that projects claimed by themselves and have no use for any more are free again.
 * @returns those that this call freed
 */
export async function giveBackNetworks(db: NovaDb): Promise<Network[]> {
  const freed: Network[] = [];
  for (const network of await unusedNetworks(db)) if (await giveBackNetwork(db, network)) freed.push(network);
  return freed;
}

/** As `isUnused` says, of all in one question: it is asked often, and seldom finds one. */
const unusedNetworks = (db: Db): Promise<Network[]> =>
  vlans(db)
    .where('claimed_at', 'is not', null)
    .where((e) =>
      e.not(
        e.exists(
          e
            .selectFrom('instances')
            .select('instances.id')
            .whereRef('instances.project_id', '=', 'networks.project_id')
            .where('instances.deleted', '=', 0),
        ),
      ),
    )
    .where((e) =>
      e.not(
        e.exists(
          e
            .selectFrom('fixed_ips')
            .select('fixed_ips.id')
            .whereRef('fixed_ips.network_id', '=', 'networks.id')
            .where('fixed_ips.reserved', '=', 0),
        ),
      ),
    )
    .execute();

async function giveBackNetwork(db: NovaDb, { id, project_id }: Network): Promise<boolean> {
  if (project_id === null) return false;
  return writing(db, async (tx) => {
    // Who makes an instance waits, and then claims anew; nobody does in a project that is gone.
    await lockProject(tx, db.dialect, project_id).catch((err: unknown) => {
      if (!(err instanceof ProjectNotFound)) throw err;
    });
    if (!(await isUnused(tx, id, project_id))) return false;
    await takeNetwork(tx, db.dialect, id);
    return true;
  });
}

async function isUnused(db: Db, id: number, project_id: string): Promise<boolean> {
  const { instances } = await instanceUsage(db, project_id);
  if (instances > 0) return false;
  const address = await db
    .selectFrom('fixed_ips')
    .select('id')
    .where('network_id', '=', id)
    .where('reserved', '=', 0)
    .executeTakeFirst();
  return address === undefined;
}

/** The networks of a project that goes are free when their last address is. */
export const releaseNetworks = (tx: Tx, project_id: string): Promise<unknown> =>
  tx
    .updateTable('networks')
    .set({ claimed_at: nowText() })
    .where('project_id', '=', project_id)
    .where('deleted', '=', 0)
    .execute();

/**
 * Takes its networks from a project without instances; one whose addresses wait for their leases to end goes with the
 * last of them. @returns what it had
 */
export async function scrubProjectNetworks(
  tx: Tx,
  dialect: Dialect,
  project_id: string,
): Promise<{ cidr: string; free: boolean }[]> {
  await releaseNetworks(tx, project_id);
  const networks = (await allNetworks(tx)).filter((network) => network.project_id === project_id);
  const scrubbed = [];
  for (const { id, cidr } of networks) {
    const free = await isUnused(tx, id, project_id);
    if (free) await takeNetwork(tx, dialect, id);
    scrubbed.push({ cidr, free });
  }
  return scrubbed;
}

/**
 * The bridges that a host's guests are on, and the projects' networks that it has no guest of, those that are free or were
 * deleted too. What a nova-network of the same host serves, or is about to take away itself, is `served_here`.
 */
export async function guestBridges(db: Db, host: string): Promise<GuestBridges> {
  const in_use = await db
    .selectFrom('fixed_ips as ip')
    .innerJoin('instances as i', 'i.id', 'ip.instance_id')
    .innerJoin('networks as n', 'n.id', 'ip.network_id')
    .select('n.bridge')
    .distinct()
    .where('i.host', '=', host)
    .where('i.deleted', '=', 0)
    .execute();
  const used = new Set(in_use.map(({ bridge }) => bridge));
  const nova_network = await db
    .selectFrom('services')
    .select('id')
    .where('host', '=', host)
    .where('binary', '=', 'nova-network')
    .where('deleted', '=', 0)
    .executeTakeFirst();
  const rows = await db.selectFrom('networks').selectAll().orderBy('id').execute();
  const live = rows.filter((row) => row.deleted === 0);
  const others = (row: Network) => live.some(({ id, bridge, vlan }) => bridge === row.bridge && (vlan === null || (row.deleted === 1 && id !== row.id))); // prettier-ignore
  const left = rows
    .filter((row) => row.vlan !== null && !used.has(row.bridge) && !others(row))
    .map((row) => {
      const elsewhere = row.deleted === 0 && row.project_id !== null && row.host !== host && row.multi_host === 0;
      return { ...row, served_here: nova_network !== undefined && !elsewhere };
    });
  return { used: [...used], left };
}
