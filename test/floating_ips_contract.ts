import assert from 'node:assert/strict';
import { writing, type NovaDb } from '../src/common/db/connect.ts';
import { releaseAddress, releaseFixedIps } from '../src/common/db/fixed_ips.ts';
import { createFloatingIps, deleteFloatingIps } from '../src/common/db/floating_pool.ts';
import {
  allocateFloatingIp,
  associateFloatingIp,
  autoAssignFloatingIp,
  disassociateFloatingIp,
  floatingIpsOfHost,
  listFloatingIps,
  releaseFloatingIp,
} from '../src/common/db/floating_ips.ts';
import { finishDelete, instanceById } from '../src/common/db/instances.ts';
import { viewInstances } from '../src/common/db/instance_views.ts';
import {
  Conflict,
  FloatingIpExists,
  FloatingIpInUse,
  FloatingIpLimitExceeded,
  FloatingIpNotFound,
  InstanceBusy,
  NoMoreFloatingIps,
  NotAuthorized,
} from '../src/common/errors.ts';
import { poolAddresses, poolBlocks } from '../src/network/logic/floating.ts';
import { aContext, aFixedIp, anInstance, aNetwork, aProject } from './builders.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

const ctx = aContext();
const create = (db: NovaDb, range: string) => createFloatingIps(db, () => poolAddresses(range, []));
const allocate = (db: NovaDb, project_id = 'apollo', limit: number | null = null) =>
  writing(db, (tx) => allocateFloatingIp(tx, db.dialect, { project_id, limit }));
const release = (db: NovaDb, of: string | number, as = ctx) =>
  writing(db, (tx) => releaseFloatingIp(tx, db.dialect, as, of));
const associate = (db: NovaDb, of: string, id: number, options = {}, as = ctx) =>
  writing(db, (tx) => associateFloatingIp(tx, db.dialect, as, of, id, options));
const disassociate = (db: NovaDb, of: string) => writing(db, (tx) => disassociateFloatingIp(tx, db.dialect, ctx, of));
const autoAssign = (db: NovaDb, id: number, limit: number | null = null) =>
  writing(db, (tx) => autoAssignFloatingIp(tx, db.dialect, id, async () => limit));
const addresses = async (db: NovaDb) => (await listFloatingIps(db)).map(({ address }) => address);

/** Instances of project apollo with 10.0.0.2 and up on a network of host net1. */
async function instances(db: NovaDb, count: number, over = {}): Promise<number[]> {
  await aProject(db);
  const network_id = await aNetwork(db, { host: 'net1', ...over });
  const ids: number[] = [];
  for (let i = 0; i < count; i++) {
    const instance_id = await anInstance(db);
    await aFixedIp(db, { network_id, instance_id, address: `10.0.0.${i + 2}` });
    ids.push(instance_id);
  }
  return ids;
}

/** What holds of floating addresses, on every database. */
export function floatingIpsContract(database: Database): void {
  const it = contractOf(database);

  it('a pool is made of blocks and lists, all or none, and an address is in it once', async (db, all) => {
    await create(db, '203.0.113.0/29');
    await create(db, '203.0.113.32/31,198.51.100.7');
    assert.equal((await addresses(db)).join(' '), '198.51.100.7 203.0.113.1 203.0.113.2 203.0.113.3 203.0.113.4 203.0.113.5 203.0.113.6 203.0.113.32 203.0.113.33'); // prettier-ignore

    await assert.rejects(create(db, '203.0.113.4/30'), FloatingIpExists);
    assert.equal((await addresses(db)).length, 9);
    await create(db, '192.0.0.0/22');
    assert.equal((await addresses(db)).length, 9 + 1022);

    const twice = await atOnce(all, 8, (on) => create(on, '198.18.0.0/28'));
    assert.equal(succeeded(twice, FloatingIpExists).length, 1);
    assert.equal((await addresses(db)).length, 9 + 1022 + 14);
  });

  it('an address that leads to an instance is not deleted, and one that was deleted can be made again', async (db) => {
    const [id = 0] = await instances(db, 1);
    await create(db, '203.0.113.0/30');
    const { address } = await allocate(db);
    await associate(db, address, id);

    await assert.rejects(deleteFloatingIps(db, poolBlocks('203.0.113.0/30')), FloatingIpInUse);
    assert.equal((await addresses(db)).length, 2);
    await disassociate(db, address);
    assert.deepEqual((await deleteFloatingIps(db, poolBlocks('203.0.113.0/30')))[0], { address, project_id: 'apollo' });

    assert.deepEqual(await addresses(db), []);
    await assert.rejects(deleteFloatingIps(db, poolBlocks('203.0.113.0/30')), FloatingIpNotFound);
    await create(db, '203.0.113.0/30');
    assert.equal((await allocate(db)).address, address);
  });

  it('of 32 who ask at once in two projects each has an address of its own, until there are none', async (db, all) => {
    await aProject(db);
    await aProject(db, 'gemini', 'bob');
    await create(db, '203.0.113.0/27');

    const got = await atOnce(all, 40, (on, i) => allocate(on, i % 2 === 0 ? 'apollo' : 'gemini'));

    const given = succeeded(got, NoMoreFloatingIps);
    assert.equal(given.length, 30);
    assert.equal(new Set(given.map(({ address }) => address)).size, 30);
    assert.equal((await listFloatingIps(db, { allocated: true })).length, 30);
  });

  it('a project that asks for many at once gets as many as its quota', async (db, all) => {
    await aProject(db);
    await create(db, '203.0.113.0/27');

    const got = await atOnce(all, 20, (on) => allocate(on, 'apollo', 7));

    assert.equal(succeeded(got, FloatingIpLimitExceeded).length, 7);
    await assert.rejects(allocate(db, 'apollo', 7), /has 7 floating ips and may have 7/);
  });

  it('an address is given back once, not while it leads somewhere, and by its own project only', async (db, all) => {
    const [id = 0] = await instances(db, 1);
    await create(db, '203.0.113.0/30');
    const { address } = await allocate(db);
    await associate(db, address, id);

    await assert.rejects(release(db, address), FloatingIpInUse);
    await assert.rejects(release(db, address, aContext({ project_id: 'gemini' })), FloatingIpNotFound);
    await disassociate(db, address);
    const released = await atOnce(all, 8, (on) => release(on, address));

    assert.equal(succeeded(released, FloatingIpNotFound).length, 1);
    assert.deepEqual(await listFloatingIps(db, { allocated: true }), []);
  });

  it('an address leads to one instance, moves to another when that is asked for, and twice is once', async (db) => {
    const [a = 0, b = 0] = await instances(db, 2);
    await create(db, '203.0.113.0/30');
    const { address } = await allocate(db);

    await associate(db, address, a);
    const again = await associate(db, address, a);
    assert.deepEqual(again.before, again.after);
    assert.deepEqual(await floatingIpsOfHost(db, 'net1'), [{ address, fixed: '10.0.0.2' }]);
    await assert.rejects(associate(db, address, b, { move: false }), FloatingIpInUse);
    const moved = await associate(db, address, b);

    assert.deepEqual([moved.before.instance_id, moved.after.instance_id], [a, b]);
    assert.deepEqual(await floatingIpsOfHost(db, 'net1'), [{ address, fixed: '10.0.0.3' }]);
    assert.deepEqual(await floatingIpsOfHost(db, 'net2'), []);
    const shown = (await viewInstances(db, ctx, {})).map((view) => view.addresses.map(({ floating }) => floating));
    assert.deepEqual(shown, [[[]], [[address]]]);
    await assert.rejects(associate(db, address, b, { fixed_address: '10.0.0.2' }), /has no fixed ip 10\.0\.0\.2/);
  });

  it('several addresses may lead to one instance, the oldest first', async (db) => {
    const [id = 0] = await instances(db, 1);
    await create(db, '203.0.113.0/29');
    const [one, two] = [await allocate(db), await allocate(db)];

    await associate(db, two.address, id);
    await associate(db, one.address, id);

    const [view] = await viewInstances(db, ctx, {});
    assert.deepEqual(view?.addresses.map(({ address, floating }) => [address, ...floating]), [['10.0.0.2', one.address, two.address]]); // prettier-ignore
    assert.deepEqual((await floatingIpsOfHost(db, 'net1')).map(({ address }) => address), [one.address, two.address]); // prettier-ignore
  });

  it('of a multi_host network the host of the instance answers', async (db) => {
    const [id = 0] = await instances(db, 1, { multi_host: 1, host: null });
    await db.updateTable('fixed_ips').set({ host: 'node7' }).execute();
    await create(db, '203.0.113.0/30');
    const { address } = await allocate(db);

    const { after } = await associate(db, address, id);

    assert.equal(after.host, 'node7');
    assert.deepEqual(await floatingIpsOfHost(db, 'node7'), [{ address, fixed: '10.0.0.2' }]);
  });

  it('nothing leads to an instance of another project, one that is being deleted, or one without an address', async (db) => {
    await instances(db, 1);
    await create(db, '203.0.113.0/30');
    const { address } = await allocate(db);
    const foreign = await anInstance(db, { project_id: 'gemini' });
    await aFixedIp(db, { network_id: 1, instance_id: foreign, address: '10.0.0.9' });
    const admin = aContext({ is_admin: true });

    await assert.rejects(associate(db, address, foreign, {}, admin), NotAuthorized);
    await assert.rejects(associate(db, address, await anInstance(db)), InstanceBusy);
    await assert.rejects(associate(db, address, await anInstance(db, { task_state: 'deleting' })), InstanceBusy);
    assert.deepEqual(await floatingIpsOfHost(db, 'net1'), []);
  });

  it('with its fixed ip, or its instance, an association ends, and no later holder of that ip gets it', async (db) => {
    const [a = 0, b = 0, c = 0] = await instances(db, 3);
    await create(db, '203.0.113.0/29');
    for (const id of [a, b, c]) await associate(db, (await allocate(db)).address, id);

    await releaseFixedIps(db, a, true);
    await releaseAddress(db, '10.0.0.3', false);
    const third = await instanceById(db, c);
    await writing(db, (tx) => finishDelete(tx, third));

    assert.deepEqual(await floatingIpsOfHost(db, 'net1'), []);
    await db.deleteFrom('fixed_ips').execute();
    await aFixedIp(db, { network_id: 1, instance_id: await anInstance(db), address: '10.0.0.2' });
    assert.deepEqual(await floatingIpsOfHost(db, 'net1'), []);
    assert.equal((await listFloatingIps(db, { project_id: 'apollo' })).length, 3);
  });

  it('whoever is first, an instance that is deleted while addresses are led to it keeps none', async (db, all) => {
    const ids = await instances(db, 12);
    await create(db, '203.0.113.0/27');
    const given: { id: number; address: string }[] = [];
    for (const id of ids) given.push({ id, address: (await allocate(db)).address });

    const results = await atOnce<unknown>(all, 24, async (on, i) => {
      const { id, address } = given[i >> 1] as (typeof given)[number];
      if (i % 2 === 0) return associate(on, address, id);
      await releaseFixedIps(on, id, true);
      const row = await instanceById(on, id);
      return writing(on, (tx) => finishDelete(tx, row));
    });

    succeeded(results, InstanceBusy);
    assert.deepEqual(await floatingIpsOfHost(db, 'net1'), []);
    const rows = await db.selectFrom('floating_ips').select('fixed_ip_id').execute();
    assert.ok(rows.every(({ fixed_ip_id }) => fixed_ip_id === null));
  });

  it('an address is released or led to an instance, whoever is first, and never both', async (db, all) => {
    const ids = await instances(db, 8);
    await create(db, '203.0.113.0/28');
    const given: string[] = [];
    for (let i = 0; i < 8; i++) given.push((await allocate(db)).address);

    const results = await atOnce<unknown>(all, 16, (on, i) =>
      i % 2 === 0 ? associate(on, given[i >> 1] ?? '', ids[i >> 1] ?? 0) : release(on, given[i >> 1] ?? ''),
    );

    succeeded(results, FloatingIpInUse, FloatingIpNotFound, Conflict);
    for (const one of await listFloatingIps(db)) assert.equal(one.fixed_ip_id === null, one.project_id === null || !given.includes(one.address)); // prettier-ignore
  });

  it('an address that came with an instance goes with it, once, and counts as the project’s', async (db, all) => {
    const [a = 0, b = 0] = await instances(db, 2);
    await create(db, '203.0.113.0/29');

    const got = succeeded(await atOnce(all, 8, (on) => autoAssign(on, a)));
    assert.equal(got.filter((address) => address !== null).length, 1);
    await assert.rejects(autoAssign(db, b, 1), FloatingIpLimitExceeded);
    await autoAssign(db, b);
    const kept = (await listFloatingIps(db, { instance_id: b }))[0]?.address ?? '';
    await associate(db, kept, a); // moved by its owner, it is an address like others

    await releaseFixedIps(db, a, true);

    const left = await listFloatingIps(db, { allocated: true });
    assert.deepEqual(left.map(({ address, fixed_ip_id }) => [address, fixed_ip_id]), [[kept, null]]); // prettier-ignore
  });
}
