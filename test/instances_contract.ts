import assert from 'node:assert/strict';
import { claimCapacity, computeNodeOf } from '../src/common/db/compute_nodes.ts';
import { writing, type NovaDb } from '../src/common/db/connect.ts';
import { createInstanceType, deleteInstanceType, listInstanceTypes } from '../src/common/db/instance_types.ts';
import {
  failedLaunchesOfHost,
  finishDelete,
  insertInstance,
  instanceById,
  instanceUsage,
  lockInstance,
  moveInstance,
  overdueInstances,
  releaseClaim,
  visibleInstance,
} from '../src/common/db/instances.ts';
import { InstanceBusy, InstanceNotFound, InstanceTypeExists } from '../src/common/errors.ts';
import { adminContext } from '../src/common/context.ts';
import { aComputeHost, aContext, anInstance } from './builders.ts';
import { atOnce, contractOf, succeeded, type Connections, type Database } from './databases.ts';

const ONE_TO_ONE = { cpu: 1, ram: 1, disk: 1 };
const claimOf = (vcpus: number, memory_mb = 0, local_gb = 0) => ({ vcpus, memory_mb, local_gb });
const used = async (db: NovaDb, host = 'node1') => {
  const { vcpus_used, memory_mb_used, local_gb_used } = await computeNodeOf(db, host);
  return [vcpus_used, memory_mb_used, local_gb_used];
};
const stateOf = async (db: NovaDb, id: number) => {
  const { vm_state, task_state, host, deleted } = await instanceById(db, id, { deleted: true });
  return { vm_state, task_state, host, deleted };
};

/** What holds of instances' states and of what hosts give to them, on every database. */
export function instancesContract(database: Database): void {
  const it = contractOf(database);

  // ------------------------------------------------------------------ states

  it('of sixteen who move an instance from one state at once, one does, and the others are told who won', async (db, all) => {
    const id = await anInstance(db);

    const moves = await atOnce(all, 16, (on, i) =>
      writing(on, (tx) => moveInstance(tx, id, { from: [null], to: { task_state: 'rebooting', fault: `by ${i}` } })),
    );

    const won = moves.findIndex((move) => move.status === 'fulfilled');
    assert.equal(succeeded(moves, InstanceBusy).length, 1);
    assert.equal((await instanceById(db, id)).fault, `by ${won}`);
    const { reason } = moves.find((move) => move.status === 'rejected') as PromiseRejectedResult;
    assert.deepEqual((reason as InstanceBusy).details, { state: 'active/rebooting', host: 'node1' });
  });

  it('a move is made from the states it names, on the host it names, and while the instance lives', async (db) => {
    const id = await anInstance(db, { task_state: 'networking', vm_state: 'building' });
    const move = (from: (string | null)[], host?: string) =>
      moveInstance(db, id, { from, to: { task_state: 'spawning' }, ...(host === undefined ? {} : { host }) });

    await assert.rejects(move([null]), /^InstanceBusy: i-\w+ is building\/networking$/);
    await assert.rejects(move(['rebooting', null]), InstanceBusy);
    await assert.rejects(move(['networking'], 'node2'), InstanceBusy);
    assert.deepEqual(await stateOf(db, id), {
      vm_state: 'building',
      task_state: 'networking',
      host: 'node1',
      deleted: 0,
    });

    await move(['rebooting', 'networking'], 'node1');
    assert.equal((await stateOf(db, id)).task_state, 'spawning');
    await move([null, 'spawning']);

    await db.updateTable('instances').set({ deleted: 1 }).execute();
    await assert.rejects(move(['spawning']), /is deleted$/);
    await assert.rejects(moveInstance(db, 999, { from: [null], to: { task_state: null } }), /is unknown$/);
  });

  it('a task under way has its deadline, an idle instance has none, and the sweep sees those that are late', async (db) => {
    const [a, b, c] = [await anInstance(db), await anInstance(db), await anInstance(db)];

    await moveInstance(db, a, { from: [null], to: { task_state: 'rebooting' }, deadline_s: -10 });
    await moveInstance(db, b, { from: [null], to: { task_state: 'rebooting' }, deadline_s: -20 });
    await moveInstance(db, c, { from: [null], to: { task_state: 'rebooting' }, deadline_s: 60 });
    assert.deepEqual(
      (await overdueInstances(db, 10)).map((row) => row.id),
      [b, a],
    );
    assert.equal((await overdueInstances(db, 1)).length, 1);
    await moveInstance(db, b, { from: ['rebooting'], to: { task_state: null } });

    assert.equal((await instanceById(db, b)).task_deadline, null);
    assert.deepEqual(
      (await overdueInstances(db, 10)).map((row) => row.id),
      [a],
    );
  });

  it('whoever locks an instance reads what those before wrote', async (db, all) => {
    const id = await anInstance(db, { display_description: '0' });

    const counts = await atOnce(all, 24, (on) =>
      writing(on, async (tx) => {
        const row = await lockInstance(tx, on.dialect, id);
        const next = Number(row?.display_description) + 1;
        await tx
          .updateTable('instances')
          .set({ display_description: String(next) })
          .where('id', '=', id)
          .execute();
        return next;
      }),
    );

    assert.deepEqual(
      succeeded(counts).toSorted((a, b) => a - b),
      Array.from({ length: 24 }, (_, i) => i + 1),
    );
    await db.updateTable('instances').set({ deleted: 1 }).execute();
    assert.equal(await writing(db, (tx) => lockInstance(tx, db.dialect, id)), undefined);
  });

  // ---------------------------------------------------------------- deletion

  it('an instance is deleted once however many do it at once, and gives its claim back once', async (db, all) => {
    await aComputeHost(db, 'node1', { vcpus_used: 5, memory_mb_used: 4096, local_gb_used: 50 });
    const id = await writing(db, (tx) =>
      insertInstance(tx, [7], { role: 'web' }, 'web', {
        user_id: 'ann',
        project_id: 'apollo',
        reservation_id: 'r-1',
        launch_index: 0,
        image_id: 1,
        instance_type_id: 1,
        memory_mb: 1024,
        vcpus: 2,
        local_gb: 20,
        host: 'node1',
        display_description: '',
      }),
    );
    const row = await instanceById(db, id);

    const ended = await atOnce(all, 16, (on) => writing(on, (tx) => finishDelete(tx, row)));

    assert.equal(succeeded(ended).filter(Boolean).length, 1);
    assert.deepEqual(await used(db), [3, 3072, 30]);
    assert.deepEqual(await stateOf(db, id), { vm_state: 'deleted', task_state: null, host: 'node1', deleted: 1 });
    for (const table of ['instance_metadata', 'security_group_instance_association'] as const)
      assert.deepEqual(await db.selectFrom(table).select('deleted').execute(), [{ deleted: 1 }]);
    await assert.rejects(instanceById(db, id), InstanceNotFound);
  });

  it('a deletion that is rolled back has taken nothing away', async (db) => {
    await aComputeHost(db, 'node1', { vcpus_used: 1 });
    const row = await instanceById(db, await anInstance(db, { memory_mb: 0 }));

    await assert.rejects(
      writing(db, async (tx) => {
        await finishDelete(tx, row);
        throw new Error('after all not');
      }),
      /after all not/,
    );

    assert.deepEqual(await used(db), [1, 0, 0]);
    assert.equal((await stateOf(db, row.id)).deleted, 0);
  });

  // ---------------------------------------------------------------- capacity

  it('32 launches at once never take more of a host than it has', async (db, all) => {
    await aComputeHost(db, 'node1', { vcpus: 10, memory_mb: 100_000, local_gb: 1000 });

    const claims = await atOnce(all, 32, (on) =>
      writing(on, (tx) => claimCapacity(tx, 'node1', claimOf(1, 512, 10), ONE_TO_ONE)),
    );

    assert.equal(succeeded(claims).filter(Boolean).length, 10);
    assert.deepEqual(await used(db), [10, 5120, 100]);
  });

  it('claims of unlike size at once fit together, and what is given back is there for the next', async (db, all) => {
    await aComputeHost(db, 'node1', { vcpus: 100, memory_mb: 10_000, local_gb: 1000 });
    const sizes = Array.from({ length: 32 }, (_, i) => claimOf(1 + (i % 3), 300 + 100 * (i % 7), i % 5));

    const claims = await atOnce(all, 32, async (on, i) => {
      const size = sizes[i] ?? claimOf(0);
      const got = await writing(on, (tx) => claimCapacity(tx, 'node1', size, ONE_TO_ONE));
      if (!got || i % 2 === 0) return got ? size : claimOf(0);
      await writing(on, (tx) => releaseClaim(tx, { host: 'node1', ...size }));
      return claimOf(0);
    });

    const kept = succeeded(claims);
    const sum = (of: (size: (typeof kept)[number]) => number) => kept.reduce((total, size) => total + of(size), 0);
    const wanted = [sum((s) => s.vcpus), sum((s) => s.memory_mb), sum((s) => s.local_gb)];
    assert.deepEqual(await used(db), wanted);
    assert.ok(sum((s) => s.memory_mb) <= 10_000);
  });

  for (const [what, claim] of [
    ['processors', claimOf(9)],
    ['memory', claimOf(1, 16_385)],
    ['disk', claimOf(1, 1, 101)],
  ] as const)
    it(`a host that is short of ${what} gives nothing of the rest either`, async (db) => {
      await aComputeHost(db, 'node1');

      const got = await writing(db, (tx) => claimCapacity(tx, 'node1', claim, ONE_TO_ONE));

      assert.equal(got, false);
      assert.deepEqual(await used(db), [0, 0, 0]);
    });

  it('the ratios stretch a host, also by fractions, up to the exact edge', async (db) => {
    await aComputeHost(db, 'node1', { vcpus: 2, memory_mb: 1000 });
    const claim = (vcpus: number, memory_mb: number) =>
      writing(db, (tx) => claimCapacity(tx, 'node1', claimOf(vcpus, memory_mb), { cpu: 16, ram: 1.5, disk: 1 }));

    assert.deepEqual(
      [await claim(31, 1499), await claim(2, 1), await claim(1, 2), await claim(1, 1), await claim(0, 1)],
      [true, false, false, true, false],
    );
    assert.equal(await writing(db, (tx) => claimCapacity(tx, 'node9', claimOf(0), ONE_TO_ONE)), false);
  });

  it('placing and deleting at once leaves as much claimed as live instances have', async (db, all) => {
    await aComputeHost(db, 'node1', { vcpus: 12, memory_mb: 100_000, local_gb: 1000 });
    const ids: number[] = [];
    for (let i = 0; i < 24; i++) ids.push(await anInstance(db, { host: null, task_state: 'scheduling', vcpus: 1 }));

    await placeAndDelete(all, ids);

    const { vcpus, memory_mb } = await db
      .selectFrom('instances')
      .select((e) => [e.fn.sum('vcpus').as('vcpus'), e.fn.sum('memory_mb').as('memory_mb')])
      .where('host', '=', 'node1')
      .where('deleted', '=', 0)
      .executeTakeFirstOrThrow();
    assert.deepEqual(await used(db), [Number(vcpus ?? 0), Number(memory_mb ?? 0), 0]);
  });

  it('an instance without a host has nothing to give back', async (db) => {
    await aComputeHost(db, 'node1', { vcpus_used: 3 });

    await writing(db, (tx) => releaseClaim(tx, { host: null, ...claimOf(2) }));

    assert.deepEqual(await used(db), [3, 0, 0]);
  });

  // ------------------------------------------------------------------- reads

  it('usage counts the live instances of the project alone', async (db) => {
    await anInstance(db, { vcpus: 2, memory_mb: 100 });
    await anInstance(db, { vcpus: 3, memory_mb: 200, vm_state: 'error' });
    await anInstance(db, { vcpus: 9, memory_mb: 900, deleted: 1 });
    await anInstance(db, { vcpus: 9, memory_mb: 900, project_id: 'gemini' });

    assert.deepEqual(await instanceUsage(db, 'apollo'), { instances: 2, cores: 5, ram: 300 });
    assert.deepEqual(await instanceUsage(db, 'nobody'), { instances: 0, cores: 0, ram: 0 });
  });

  it('failed launches of a host are its own, idle and alive', async (db) => {
    const failed = await anInstance(db, { vm_state: 'error' });
    await anInstance(db, { vm_state: 'error', host: 'node2' });
    await anInstance(db, { vm_state: 'error', task_state: 'deleting' });
    await anInstance(db, { vm_state: 'error', deleted: 1 });
    await anInstance(db);

    assert.deepEqual(
      (await failedLaunchesOfHost(db, 'node1')).map((row) => row.id),
      [failed],
    );
  });

  it('an instance is seen by number and by uuid, by its project and by administrators', async (db) => {
    const id = await anInstance(db);
    const { uuid } = await instanceById(db, id);
    const stranger = aContext({ project_id: 'gemini' });

    assert.equal((await visibleInstance(db, aContext(), id)).uuid, uuid);
    assert.equal((await visibleInstance(db, aContext(), uuid)).id, id);
    assert.equal((await visibleInstance(db, adminContext(), id)).id, id);
    await assert.rejects(visibleInstance(db, stranger, id), /there is no instance i-0000000/);
    await assert.rejects(visibleInstance(db, stranger, uuid), InstanceNotFound);
    await assert.rejects(visibleInstance(db, aContext({ project_id: null }), id), InstanceNotFound);
  });

  // ---------------------------------------------------------- instance types

  it('a second instance type of the same name or flavorid is refused until the first is deleted', async (db) => {
    const type = { name: 'm1.x', memory_mb: 64, vcpus: 1, local_gb: 0, flavorid: 9 };
    await createInstanceType(db, type);

    await assert.rejects(createInstanceType(db, { ...type, flavorid: 10 }), InstanceTypeExists);
    await assert.rejects(createInstanceType(db, { ...type, name: 'm1.y' }), InstanceTypeExists);
    await deleteInstanceType(db, 'm1.x');
    await createInstanceType(db, { ...type, vcpus: 2 });

    const live = await listInstanceTypes(db);
    assert.equal(live.length, 6);
    assert.equal(live.find((one) => one.name === 'm1.x')?.vcpus, 2);
    assert.equal((await listInstanceTypes(db, { deleted: true })).length, 7);
  });
}

/** Half of the instances are placed, and all are deleted meanwhile but every third. */
async function placeAndDelete(all: Connections, ids: readonly number[]): Promise<void> {
  const place = (on: NovaDb, id: number) =>
    writing(on, async (tx) => {
      const row = await instanceById(tx, id);
      if (!(await claimCapacity(tx, 'node1', row, ONE_TO_ONE))) return;
      await moveInstance(tx, id, { from: ['scheduling'], to: { task_state: 'networking', host: 'node1' } });
    });
  const end = (on: NovaDb, id: number) =>
    writing(on, async (tx) => {
      const row = await lockInstance(tx, on.dialect, id);
      if (row) await finishDelete(tx, row);
    });
  const results = await atOnce(all, ids.length * 2, (on, i) => {
    const id = ids[i >> 1] as number;
    return i % 2 === 0 ? place(on, id) : (i >> 1) % 3 === 0 ? Promise.resolve() : end(on, id);
  });
  succeeded<void>(results, InstanceBusy, InstanceNotFound);
}
