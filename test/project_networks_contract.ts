import assert from 'node:assert/strict';
import type { NovaDb } from '../src/common/db/connect.ts';
import { writing } from '../src/common/db/connect.ts';
import { endQuarantine, releaseFixedIps } from '../src/common/db/fixed_ips.ts';
import { allNetworks, deleteNetwork, networkById } from '../src/common/db/networks.ts';
import {
  claimNetwork,
  giveBackNetworks,
  giveNetwork,
  scrubProjectNetworks,
  takeNetwork,
} from '../src/common/db/project_networks.ts';
import { deleteProject } from '../src/common/db/projects.ts';
import { Conflict, NetworkInUse, NoMoreNetworks } from '../src/common/errors.ts';
import { claimRange } from '../src/network/manager/address_book.ts';
import { anInstance, aNetwork, aProject } from './builders.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';
import { claimFixedIp } from './claim_fixed_ip.ts';

/** `count` free networks with VLANs 100, 101, ... */
async function vlans(db: NovaDb, count: number): Promise<number[]> {
  const ids: number[] = [];
  for (let i = 0; i < count; i++)
    ids.push(
      await aNetwork(db, {
        cidr: `10.0.${i}.0/24`,
        gateway: `10.0.${i}.1`,
        broadcast: `10.0.${i}.255`,
        dhcp_start: `10.0.${i}.3`,
        vpn_private_address: `10.0.${i}.2`,
        vlan: 100 + i,
        bridge: `br${100 + i}`,
      }),
    );
  return ids;
}
const projects = async (db: NovaDb, count: number): Promise<string[]> => {
  const names = Array.from({ length: count }, (_, i) => `project${i}`);
  for (const name of names) await aProject(db, name, `manager-of-${name}`);
  return names;
};
const owners = async (db: NovaDb) => (await allNetworks(db)).map(({ project_id }) => project_id);
const FUTURE = '9999-01-01T00:00:00.000Z';
/** An instance of the project with an address of its network. */
async function aGuest(db: NovaDb, project_id: string): Promise<number> {
  const id = await anInstance(db, { project_id });
  const [network] = await claimNetwork(db, project_id);
  await claimFixedIp(db, claimRange(network), id, null);
  return id;
}
async function gone(db: NovaDb, id: number): Promise<void> {
  await releaseFixedIps(db, id, true);
  await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', id).execute();
}

/** What holds of projects' networks, on every database. */
export function projectNetworksContract(database: Database): void {
  const it = contractOf(database);

  it('forty first launches at once claim one network for each of four projects', async (db, all) => {
    await vlans(db, 6);
    const names = await projects(db, 4);

    const got = succeeded(await atOnce(all, 40, (on, i) => claimNetwork(on, names[i % 4] as string)));

    for (const [i, [network, ...others]] of got.entries()) {
      assert.equal(network.project_id, names[i % 4]);
      assert.deepEqual(others, []);
    }
    assert.equal(new Set(got.map(([{ id }]) => id)).size, 4);
    assert.equal((await owners(db)).filter((owner) => owner !== null).length, 4);
  });

  it('when none is free the last projects are told so, with what to do, and no network has two', async (db, all) => {
    await vlans(db, 3);
    const names = await projects(db, 8);

    const got = await atOnce(all, 8, (on, i) => claimNetwork(on, names[i] as string));

    assert.equal(succeeded(got, NoMoreNetworks).length, 3);
    assert.equal(new Set(await owners(db)).size, 3);
    const late = names.find((_, i) => got[i]?.status === 'rejected') as string;
    await assert.rejects(
      claimNetwork(db, late),
      (err) =>
        err instanceof NoMoreNetworks &&
        /all 3 VLAN networks belong to other projects.*network create.*project scrub/.test(err.message),
    );
  });

  it('a network goes with the last instance of its project, when no lease of it can be about', async (db) => {
    const [id] = (await vlans(db, 1)) as [number];
    await aProject(db, 'apollo');
    const guest = await aGuest(db, 'apollo');

    assert.deepEqual(await giveBackNetworks(db), []);
    await gone(db, guest);
    assert.deepEqual(await giveBackNetworks(db), [], 'its address is in quarantine');
    await endQuarantine(db, FUTURE);

    assert.deepEqual(
      (await giveBackNetworks(db)).map((network) => network.id),
      [id],
    );
    const { project_id, host, claimed_at } = await networkById(db, id);
    assert.deepEqual({ project_id, host, claimed_at }, { project_id: null, host: null, claimed_at: null });
  });

  it('while networks are given back, who launches has one that stays', async (db, all) => {
    await vlans(db, 2);
    await aProject(db, 'apollo');
    for (let round = 0; round < 5; round++) {
      const before = await aGuest(db, 'apollo');
      await gone(db, before);
      await endQuarantine(db, FUTURE);

      const [launched] = await Promise.all([
        atOnce(all, 4, async (on) => {
          // As nova-api does it: the project is locked while its instance is counted and written.
          const id = await anInstance(on, { project_id: 'apollo', task_state: 'networking' });
          for (;;)
            try {
              const [network] = await claimNetwork(on, 'apollo');
              return { id, ...(await claimFixedIp(on, claimRange(network), id, null)) };
            } catch (err) {
              if (!(err instanceof Conflict)) throw err;
            }
        }),
        atOnce(all, 4, (on) => giveBackNetworks(on)),
      ]);

      for (const { id, network_id } of succeeded(launched)) {
        assert.equal((await networkById(db, network_id)).project_id, 'apollo');
        await gone(db, id);
      }
    }
  });

  it('what an operator gave stays without instances, and is taken by him alone', async (db) => {
    const [id] = (await vlans(db, 1)) as [number];
    await aProject(db, 'apollo');
    await giveNetwork(db, id, 'apollo');
    await giveNetwork(db, id, 'apollo');

    assert.deepEqual(await giveBackNetworks(db), []);
    await assert.rejects(giveNetwork(db, id, (await projects(db, 1))[0] as string), NetworkInUse);
    const guest = await aGuest(db, 'apollo');
    const take = () => writing(db, (tx) => takeNetwork(tx, db.dialect, id));
    await assert.rejects(
      take(),
      (err) => err instanceof NetworkInUse && /addresses that are in use, by i-/.test(err.message),
    );
    await gone(db, guest);
    await assert.rejects(take(), (err) => err instanceof NetworkInUse && /waiting/.test(err.message));
    await endQuarantine(db, FUTURE);
    await take();
    await take();

    assert.deepEqual(await owners(db), [null]);
  });

  it('a network that is taken from its project in the moment of a claim gives no address', async (db) => {
    const [id] = (await vlans(db, 1)) as [number];
    await aProject(db, 'apollo');
    const [network] = await claimNetwork(db, 'apollo');
    await writing(db, (tx) => takeNetwork(tx, db.dialect, id));

    await assert.rejects(claimFixedIp(db, claimRange(network), await anInstance(db), null), Conflict);
    assert.deepEqual(await db.selectFrom('virtual_interfaces').selectAll().execute(), []);
  });

  it('a scrubbed or deleted project leaves its networks, at once or with their last lease', async (db) => {
    await vlans(db, 2);
    const [a, b] = (await projects(db, 2)) as [string, string];
    const scrub = () => writing(db, (tx) => scrubProjectNetworks(tx, db.dialect, a));
    const guest = await aGuest(db, a);
    const other = await aGuest(db, b);
    await gone(db, guest);
    await gone(db, other);

    assert.deepEqual(await scrub(), [{ cidr: '10.0.0.0/24', free: false }]);
    await writing(db, (tx) => deleteProject(tx, b));
    await endQuarantine(db, FUTURE);
    assert.deepEqual(await scrub(), [{ cidr: '10.0.0.0/24', free: true }]);
    await giveBackNetworks(db);

    assert.deepEqual(await owners(db), [null, null]);
    for (const { id } of await allNetworks(db)) await deleteNetwork(db, id);
  });
}
