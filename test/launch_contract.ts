import assert from 'node:assert/strict';
import { writing, type NovaDb } from '../src/common/db/connect.ts';
import { ec2InstanceId, instanceUsage } from '../src/common/db/instances.ts';
import { listJobs } from '../src/common/db/jobs.ts';
import { createProject, deleteProject, findProject } from '../src/common/db/projects.ts';
import { setQuota } from '../src/common/db/quotas.ts';
import { groupsOfProject } from '../src/common/db/security_groups.ts';
import {
  Conflict,
  IdempotentParameterMismatch,
  InstanceBusy,
  InstanceLimitExceeded,
  InstanceNotFound,
  ProjectNotFound,
} from '../src/common/errors.ts';
import { Flags } from '../src/common/flags.ts';
import { silentLog } from '../src/common/log.ts';
import { MemoryBus } from '../src/common/rpc/memory_bus.ts';
import { ComputeApi, type LaunchSpec } from '../src/compute/api.ts';
import { chance } from '../src/scheduler/logic/chance.ts';
import { simple } from '../src/scheduler/logic/simple.ts';
import { SchedulerManager } from '../src/scheduler/manager/scheduler.ts';
import { aComputeHost, aContext, anImage, aProject } from './builders.ts';
import { atOnce, contractOf, succeeded, type Database } from './databases.ts';

const bus = new MemoryBus();
const api = (db: NovaDb): ComputeApi => new ComputeApi({ db, flags: Flags.of({ quota_cores: -1 }), bus });
const scheduler = (db: NovaDb): SchedulerManager =>
  new SchedulerManager({ db, flags: Flags.of(), log: silentLog, bus, host: 'ctl', rule: chance });
/** One m1.tiny of the only image. */
const tiny = (over: Partial<LaunchSpec> = {}): LaunchSpec => ({
  image_id: 1,
  instance_type: 'm1.tiny',
  min_count: 1,
  max_count: 1,
  ...over,
});
async function aCloud(db: NovaDb): Promise<void> {
  await aProject(db);
  await anImage(db);
}

/** What holds of launches, also of those that come at once, on every database. */
export function launchContract(database: Database): void {
  const it = contractOf(database);

  it('a launch into a zone that no compute host is in is refused with the zones that there are', async (db) => {
    await aCloud(db);
    const launch = (availability_zone: string | null) => api(db).create(aContext(), tiny({ availability_zone }));
    await assert.rejects(launch('mars'), /no availability zone mars .*no nova-compute ever ran/);
    await aComputeHost(db, 'node1');

    await assert.rejects(launch('mars'), {
      name: 'InvalidInput',
      message: 'there is no availability zone mars for instances; there is nova',
    });
    await assert.rejects(launch('mars:node1'), /no availability zone mars/);
    for (const zone of ['nova', 'nova:node1', null]) assert.equal((await launch(zone)).instances.length, 1);
    assert.equal((await instanceUsage(db, 'apollo')).instances, 3);
  });

  it('user data is taken up to 48 KiB, whichever API it comes by', async (db) => {
    await aCloud(db);
    const launch = (bytes: number) => api(db).create(aContext(), tiny({ user_data: Buffer.alloc(bytes).toString('base64') })); // prettier-ignore

    await assert.rejects(launch(49153), {
      name: 'InvalidInput',
      message: 'the user data has 49153 bytes; at most 49152 are taken',
    });
    assert.equal((await launch(49152)).instances.length, 1);
  });

  it('one client token that comes many times at once is one launch', async (db, all) => {
    await aCloud(db);
    const spec = tiny({ client_token: 'once', min_count: 2, max_count: 2 });

    const made = succeeded(await atOnce(all, 16, (on) => api(on).create(aContext(), spec)));

    const seen = made.map(({ reservation_id, instances }) => [reservation_id, ...instances.map(({ id }) => id)]);
    assert.equal(new Set(seen.map(String)).size, 1);
    assert.equal((await instanceUsage(db, 'apollo')).instances, 2);
    assert.equal((await listJobs(db, {})).length, 2);
    assert.equal((await db.selectFrom('reservations').selectAll().execute()).length, 1);
  });

  it("a client token is its project's, and stands for one set of parameters", async (db) => {
    await aCloud(db);
    await writing(db, (tx) => createProject(tx, { name: 'gemini', manager: 'ann' }));
    const first = await api(db).create(aContext(), tiny({ client_token: 'once' }));

    const other = await api(db).create(aContext({ project_id: 'gemini' }), tiny({ client_token: 'once' }));

    assert.notEqual(other.reservation_id, first.reservation_id);
    await assert.rejects(
      api(db).create(aContext(), tiny({ client_token: 'once', max_count: 2 })),
      IdempotentParameterMismatch,
    );
    assert.equal((await instanceUsage(db, 'apollo')).instances, 1);
  });

  it('a client token that is used at once with two sets of parameters launches one of them', async (db, all) => {
    await aCloud(db);

    const made = await atOnce(all, 12, (on, i) =>
      api(on).create(aContext(), tiny({ client_token: 'once', user_data: i % 2 === 0 ? 'YQ==' : 'Yg==' })),
    );

    const reservations = succeeded(made, IdempotentParameterMismatch).map(({ reservation_id }) => reservation_id);
    assert.equal(reservations.length, 6);
    assert.equal(new Set(reservations).size, 1);
    assert.equal((await instanceUsage(db, 'apollo')).instances, 1);
  });

  it('32 launches at once stop at the quota, each whole or not at all', async (db, all) => {
    await aCloud(db);
    await writing(db, (tx) => setQuota(tx, 'apollo', 'instances', 11));

    const made = await atOnce(all, 32, (on) => api(on).create(aContext(), tiny({ min_count: 2, max_count: 2 })));

    const launched = succeeded(made, InstanceLimitExceeded);
    assert.equal(launched.length, 5);
    assert.ok(launched.every(({ instances }) => instances.length === 2));
    assert.equal((await instanceUsage(db, 'apollo')).instances, 10);
    assert.equal((await listJobs(db, {})).length, 10);
    assert.equal((await groupsOfProject(db, 'apollo')).length, 1);
  });

  it('a project that is deleted while it launches has instances or is gone, not both', async (db, all) => {
    await aCloud(db);
    for (let round = 0; round < 8; round++) {
      const project_id = `p${round}`;
      await writing(db, (tx) => createProject(tx, { name: project_id, manager: 'ann' }));

      const results = await atOnce<unknown>(all, 4, (on, i) =>
        i % 2 === round % 2
          ? api(on).create(aContext({ project_id }), tiny())
          : writing(on, (tx) => deleteProject(tx, project_id)),
      );

      succeeded(results, Conflict, ProjectNotFound);
      const { instances } = await instanceUsage(db, project_id);
      assert.equal(instances > 0, (await findProject(db, project_id)) !== undefined, `${project_id}: ${instances}`);
    }
  });

  it('launches that are scheduled at once fill the hosts to the edge, and the rest is told why not', async (db, all) => {
    await aCloud(db);
    await writing(db, (tx) => setQuota(tx, 'apollo', 'instances', null));
    for (const host of ['node1', 'node2', 'node3']) await aComputeHost(db, host, { memory_mb: 2048 }); // 3072: six tiny ones
    const { instances } = await api(db).create(aContext(), tiny({ min_count: 24, max_count: 24 }));

    succeeded(
      await atOnce(all, 48, (on, i) =>
        scheduler(on).runInstance(aContext(), { instance_id: instances[i >> 1]?.id ?? 0 }),
      ),
    );

    const views = await api(db).list(aContext());
    const on = (host: string | null) => views.filter((view) => view.host === host);
    assert.deepEqual([on('node1').length, on('node2').length, on('node3').length], [6, 6, 6]);
    assert.ok(on('node1').every((view) => view.task_state === 'networking'));
    assert.equal(on(null).length, 6);
    for (const { vm_state, fault } of on(null)) {
      assert.equal(vm_state, 'error');
      for (const host of ['node1', 'node2', 'node3'])
        assert.match(
          fault ?? '',
          new RegExp(`${host}: (memory_mb: 512 wanted, 0 free|its last free capacity was claimed)`),
        );
    }
    assert.equal((await listJobs(db, {})).filter((job) => job.topic === 'compute').length, 18);
    const nodes = await db.selectFrom('compute_nodes').select('memory_mb_used').execute();
    assert.deepEqual(nodes, [{ memory_mb_used: 3072 }, { memory_mb_used: 3072 }, { memory_mb_used: 3072 }]);
  });

  it('the simple rule places --max_cores on a host and not one more, also when launches come together', async (db, all) => {
    await aCloud(db);
    await writing(db, (tx) => setQuota(tx, 'apollo', 'instances', null));
    for (const host of ['node1', 'node2']) await aComputeHost(db, host);
    const { instances } = await api(db).create(aContext(), tiny({ min_count: 40, max_count: 40 }));
    const flags = Flags.of({ max_cores: 8 });
    const at = (on: NovaDb) => new SchedulerManager({ db: on, flags, log: silentLog, bus, host: 'ctl', rule: simple });

    succeeded(await atOnce(all, 40, (on, i) => at(on).runInstance(aContext(), { instance_id: instances[i]?.id ?? 0 })));

    const views = await api(db).list(aContext());
    const on = (host: string | null) => views.filter((view) => view.host === host);
    assert.deepEqual([on('node1').length, on('node2').length, on(null).length], [8, 8, 24]);
    for (const { vm_state, fault } of on(null)) {
      assert.equal(vm_state, 'error');
      for (const host of ['node1', 'node2'])
        assert.match(fault ?? '', new RegExp(`${host}: (vcpus: 8 placed, .* --max_cores=8|its last free capacity)`));
    }
    // Whom an administrator sends to a host, it takes as far as there is room.
    const asked = await api(db).create(aContext({ is_admin: true }), tiny({ availability_zone: 'nova:node1' }));
    await at(db).runInstance(aContext(), { instance_id: asked.instances[0]?.id ?? 0 });
    assert.equal((await api(db).list(aContext())).filter((view) => view.host === 'node1').length, 9);
  });

  it('an instance that is terminated while it is scheduled is gone or is being deleted, and claims nothing for nobody', async (db, all) => {
    await aCloud(db);
    await aComputeHost(db, 'node1');
    const { instances } = await api(db).create(aContext(), tiny({ min_count: 10, max_count: 10 }));

    const results = await atOnce<unknown>(all, 40, (on, i) => {
      const instance_id = instances[Math.floor(i / 4)]?.id ?? 0;
      if (i % 4 === 0) return scheduler(on).runInstance(aContext(), { instance_id });
      return api(on).terminate(aContext(), instance_id);
    });

    succeeded(results, InstanceNotFound, InstanceBusy);
    const rows = await db.selectFrom('instances').selectAll().execute();
    const jobs = (await listJobs(db, {})).filter((job) => job.method === 'terminate_instance');
    for (const { id, deleted, task_state, host } of rows) {
      const casts = jobs.filter((job) => job.resource === `instance:${id}`);
      const what = `${ec2InstanceId(id)} ${deleted} ${task_state} ${host}`;
      if (deleted === 1) assert.deepEqual([host, casts.length], [null, 0], what);
      else assert.deepEqual([task_state, host, casts.length], ['deleting', 'node1', 1], what);
    }
    const [{ memory_mb_used } = assert.fail()] = await db.selectFrom('compute_nodes').selectAll().execute();
    assert.equal(memory_mb_used, 512 * rows.filter((row) => row.deleted === 0).length);
  });
}
