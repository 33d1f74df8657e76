import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import type { NovaDb } from '../src/common/db/connect.ts';
import { writing } from '../src/common/db/connect.ts';
import {
  claimHostIp,
  endQuarantine,
  fixedIpsOfInstance,
  hostIp,
  leftoverInstanceIds,
  releaseAddress,
  releaseFixedIps,
  releaseHostIps,
  setLeased,
  type ClaimRange,
} from '../src/common/db/fixed_ips.ts';
import { reserveFixedIp, unreserveFixedIp } from '../src/common/db/operator_fixed_ips.ts';
import { allNetworks, deleteNetwork } from '../src/common/db/networks.ts';
import { addFixedIp, removeFixedIp } from '../src/common/db/more_fixed_ips.ts';
import { lockInstance, moveInstance } from '../src/common/db/instances.ts';
import { cardsOfInstance, dhcpGuests } from '../src/common/db/virtual_interfaces.ts';
import {
  Aborted,
  Conflict,
  FixedIpNotFound,
  InstanceBusy,
  InvalidInput,
  NetworkInUse,
  NoMoreAddresses,
} from '../src/common/errors.ts';
import { anInstance, aNetwork } from './builders.ts';
import { atOnce, contractOf, succeeded, type Connections, type Database } from './databases.ts';
import { claimFixedIp } from './claim_fixed_ip.ts';

const ranges = (network_id: number, first = 2, last = 254): ClaimRange => ({
  network_id,
  cidr: '10.0.0.0/24',
  first,
  last,
  except: null,
  format: (number) => `10.0.0.${number}`,
  makeMac: () => `02:16:3e:${[1, 2, 3].map(() => randomInt(256).toString(16).padStart(2, '0')).join(':')}`,
});
async function instances(db: NovaDb, count: number): Promise<number[]> {
  const ids: number[] = [];
  for (let i = 0; i < count; i++) ids.push(await anInstance(db, { task_state: 'networking' }));
  return ids;
}
/** Rows that claim an address for an instance, and cards, which have to be as many. */
async function inUse(db: NovaDb): Promise<string[]> {
  const rows = await db.selectFrom('fixed_ips').select('address').where('allocated', '=', 1).execute();
  const cards = await db.selectFrom('virtual_interfaces').select('id').execute();
  assert.equal(cards.length, rows.length);
  assert.equal(new Set(rows.map((row) => row.address)).size, rows.length);
  return rows.map((row) => row.address);
}
const claimAll = (all: Connections, range: ClaimRange, ids: readonly number[]) =>
  atOnce(all, ids.length, (on, i) => claimFixedIp(on, range, ids[i] as number, null));

/** What holds of addresses, on every database. */
export function fixedIpsContract(database: Database): void {
  const it = contractOf(database);

  it('forty instances that ask at once have forty addresses and forty cards', async (db, all) => {
    const range = ranges(await aNetwork(db));
    const got = succeeded(await claimAll(all, range, await instances(db, 40)));

    assert.equal(new Set(got.map((ip) => ip.address)).size, 40);
    assert.equal(new Set(got.map((ip) => ip.mac)).size, 40);
    assert.equal((await inUse(db)).length, 40);
  });

  it('of more who ask at once than there are addresses, as many as there are get one', async (db, all) => {
    const range = ranges(await aNetwork(db), 2, 11);

    const claims = await claimAll(all, range, await instances(db, 24));

    assert.equal(succeeded(claims, NoMoreAddresses).length, 10);
    assert.equal((await inUse(db)).length, 10);
  });

  it('one instance that asks many times at once has one address', async (db, all) => {
    const [id = 0] = await instances(db, 1);
    const range = ranges(await aNetwork(db));

    const got = succeeded(await atOnce(all, 12, (on) => claimFixedIp(on, range, id, 'node1')));

    assert.equal(new Set(got.map((ip) => `${ip.address} ${ip.mac}`)).size, 1);
    assert.equal((await inUse(db)).length, 1);
    assert.equal((await cardsOfInstance(db, id))[0]?.host, 'node1');
  });

  it('addresses that come and go in a network that is nearly full are neither doubled nor lost', async (db, all) => {
    const range = ranges(await aNetwork(db), 2, 13);
    const ids = await instances(db, 16);

    const rounds = await atOnce(all, ids.length, async (on, i) => {
      const id = ids[i] as number;
      for (let round = 0; round < 4; round++) {
        const claimed = await Promise.allSettled([claimFixedIp(on, range, id, null)]);
        succeeded(claimed, NoMoreAddresses);
        if (round < 3 || i % 2 === 0) await releaseFixedIps(on, id, false);
      }
    });

    succeeded(rounds);
    await inUse(db);
    for (const [i, id] of ids.entries()) if (i % 2 === 0) assert.deepEqual(await fixedIpsOfInstance(db, id), []);
    for (const id of ids) await releaseFixedIps(db, id, false);
    assert.deepEqual(await db.selectFrom('fixed_ips').selectAll().execute(), []);
    assert.equal(succeeded(await claimAll(all, range, ids.slice(0, 12))).length, 12);
  });

  it('an instance that is deleted while it asks keeps no address', async (db, all) => {
    const range = ranges(await aNetwork(db));
    const ids = await instances(db, 16);

    const results = await atOnce<unknown>(all, 32, async (on, i) => {
      const id = ids[i >> 1] as number;
      if (i % 2 === 0) return claimFixedIp(on, range, id, null);
      await writing(on, (tx) => moveInstance(tx, id, { from: ['networking'], to: { task_state: 'deleting' } }));
      return releaseFixedIps(on, id, false);
    });

    succeeded(results, Aborted, InstanceBusy);
    assert.deepEqual(await inUse(db), []);
  });

  it("a host's questions for its own address on a network at once are one, and hosts have their own", async (db, all) => {
    const network_id = await aNetwork(db);

    const got = succeeded(await atOnce(all, 16, (on, i) => claimHostIp(on, ranges(network_id), `node${i % 2}`)));

    assert.equal(new Set(got).size, 2);
    assert.deepEqual([await hostIp(db, network_id, 'node0'), await hostIp(db, network_id, 'node1')], got.slice(0, 2));
    assert.equal(await hostIp(db, network_id, 'node9'), null);
  });

  it('an address is reserved or claimed, whoever comes first, and never both', async (db, all) => {
    const network_id = await aNetwork(db);
    const range = ranges(network_id, 2, 9);
    const ids = await instances(db, 8);

    const results = await atOnce<unknown>(all, 16, (on, i) => {
      const number = 2 + (i >> 1);
      if (i % 2 === 0) return claimFixedIp(on, range, ids[i >> 1] as number, null);
      return reserveFixedIp(on, { network_id, address: range.format(number), address_number: number });
    });

    succeeded(results, NoMoreAddresses, Conflict);
    const rows = await db.selectFrom('fixed_ips').select(['address', 'allocated', 'reserved']).execute();
    assert.equal(rows.length, 8);
    assert.ok(rows.every((row) => row.allocated + row.reserved === 1));
    for (const row of rows.filter((one) => one.reserved === 1)) await unreserveFixedIp(db, row.address);
    assert.equal((await inUse(db)).length, rows.filter((row) => row.allocated === 1).length);
  });

  it('an address is given up once, and is free when its lease or its quarantine ends', async (db, all) => {
    const network_id = await aNetwork(db);
    const range = ranges(network_id, 2, 3);
    const [a = 0, b = 0, c = 0] = await instances(db, 3);
    const first = await claimFixedIp(db, range, a, null);
    await claimFixedIp(db, range, b, null);

    const released = succeeded(await atOnce(all, 8, (on) => releaseAddress(on, first.address, true)));
    assert.equal(released.filter((row) => row !== undefined).length, 1);
    await releaseFixedIps(db, b, true);
    await assert.rejects(claimFixedIp(db, range, c, null), NoMoreAddresses);
    await setLeased(db, network_id, first.address, false);

    assert.equal((await claimFixedIp(db, range, c, null)).address, first.address);
    assert.equal(await endQuarantine(db, '2011-04-15T00:00:00.000Z'), 0);
    assert.equal(await endQuarantine(db, '9999-01-01T00:00:00.000Z'), 1);
    assert.equal((await inUse(db)).length, 1);
    await assert.rejects(unreserveFixedIp(db, '10.0.0.99'), FixedIpNotFound);
  });

  it('a card has further addresses, of which one stays, and goes with the last', async (db, all) => {
    const network_id = await aNetwork(db);
    const range = ranges(network_id, 2, 9);
    const [id = 0, other = 0] = await instances(db, 2);
    const add = (on: NovaDb, most = 4) => writing(on, async (tx) => (await lockInstance(tx, on.dialect, id)) && addFixedIp(tx, on.dialect, range, id, most)); // prettier-ignore
    const remove = (on: NovaDb, address: string) => writing(on, async (tx) => (await lockInstance(tx, on.dialect, id)) && removeFixedIp(tx, id, address, true)); // prettier-ignore
    await assert.rejects(add(db), InvalidInput); // no card there
    const first = await claimFixedIp(db, range, id, 'node1');

    const added = succeeded(await atOnce(all, 8, (on) => add(on)), Conflict);

    assert.equal(added.length, 3);
    const rows = await fixedIpsOfInstance(db, id);
    assert.deepEqual(rows.map(({ virtual_interface_id, host }) => [virtual_interface_id, host]), Array(4).fill([first.virtual_interface_id, 'node1'])); // prettier-ignore
    assert.equal((await claimFixedIp(db, range, id, 'node1')).address, first.address, 'asked again, it is the first');
    assert.deepEqual((await cardsOfInstance(db, id)).map(({ address }) => address), [first.address]); // prettier-ignore
    assert.deepEqual((await dhcpGuests(db, network_id, 'node1')).map(({ address }) => address), [first.address]); // prettier-ignore
    await assert.rejects(
      writing(db, (tx) => removeFixedIp(tx, other, first.address, true)),
      InvalidInput,
    );

    const outcomes = await atOnce(all, 4, (on, i) => remove(on, rows[i]?.address ?? ''));

    assert.equal(succeeded(outcomes, Conflict).length, 3);
    const [left, ...more] = await cardsOfInstance(db, id);
    assert.deepEqual([left?.mac, more], [first.mac, []]);
    await assert.rejects(remove(db, left?.address ?? ''), /only address of its card/);
    await releaseAddress(db, left?.address ?? '', true);
    assert.deepEqual(await db.selectFrom('virtual_interfaces').selectAll().execute(), []);
  });

  it('a network is deleted or has an address claimed, whoever comes first, and never both', async (db, all) => {
    const [id = 0, other = 0] = await instances(db, 2);
    for (let round = 0; round < 6; round++) {
      const network_id = await aNetwork(db);
      const range = ranges(network_id);

      const results = await atOnce<unknown>(all, 3, (on, i) => {
        if (i === 0) return deleteNetwork(on, network_id);
        return i === 1 ? claimFixedIp(on, range, id, null) : claimHostIp(on, range, 'node1');
      });

      succeeded(results, NetworkInUse, Conflict);
      const claimed = (await inUse(db)).length;
      assert.equal((await allNetworks(db)).length, claimed, 'the network is there where the address is');
      await assert.rejects(claimFixedIp(db, { ...range, network_id: 0 }, other, null), /was deleted in this moment/);
      await releaseFixedIps(db, id, false);
      if (claimed > 0) await deleteNetwork(db, network_id);
    }
  });

  it("a host's own address is guests' again when the host is gone, and not before", async (db) => {
    const range = ranges(await aNetwork(db, { multi_host: 1 }));
    const [own, other] = [await claimHostIp(db, range, 'node1'), await claimHostIp(db, range, 'node2')];
    await assert.rejects(unreserveFixedIp(db, own), FixedIpNotFound);
    await assert.rejects(unreserveFixedIp(db, own, 'node2'), FixedIpNotFound);

    await unreserveFixedIp(db, own, 'node1');
    await releaseHostIps(db, 'node2');

    assert.deepEqual(
      [await hostIp(db, range.network_id, 'node1'), await hostIp(db, range.network_id, 'node2')],
      [null, null],
    );
    assert.notEqual(own, other);
  });

  it('addresses of instances that are gone are found when they are gone for a while', async (db) => {
    const range = ranges(await aNetwork(db));
    const [gone = 0, lives = 0] = await instances(db, 2);
    for (const id of [gone, lives]) await claimFixedIp(db, range, id, null);
    await db
      .updateTable('instances')
      .set({ deleted: 1, deleted_at: '2011-04-15T12:00:00.000Z' })
      .where('id', '=', gone)
      .execute();

    assert.deepEqual(await leftoverInstanceIds(db, '2011-04-15T00:00:00.000Z'), []);
    assert.deepEqual(await leftoverInstanceIds(db, '2011-04-16T00:00:00.000Z'), [gone]);
  });
}
