import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventsOf } from '../../../src/common/db/events.ts';
import { instanceById } from '../../../src/common/db/instances.ts';
import { listJobs } from '../../../src/common/db/jobs.ts';
import { insertKeyPair } from '../../../src/common/db/key_pairs.ts';
import { groupsOfProject } from '../../../src/common/db/security_groups.ts';
import {
  Conflict,
  ImageNotFound,
  InstanceBusy,
  InstanceLimitExceeded,
  InstanceNotFound,
  InstanceTypeNotFound,
  InvalidInput,
  KeyPairNotFound,
  RpcUnavailable,
  SecurityGroupNotFound,
} from '../../../src/common/errors.ts';
import { aComputeHost, aContext, anImage, anInstance } from '../../builders.ts';
import { anApi, assertNothing } from './a_compute_api.ts';

// ------------------------------------------------------------------ what a launch is

test('only an admin names the host of a launch; of anybody else its zone is heard', async (t) => {
  const { db, launch } = await anApi(t);
  await aComputeHost(db, 'node2');

  const availability_zone = 'nova:node2';
  await launch({ availability_zone });
  await launch({ availability_zone }, aContext({ is_admin: true }));

  const rows = await db.selectFrom('instances').select('availability_zone').orderBy('id').execute();
  assert.deepEqual(rows, [{ availability_zone: 'nova' }, { availability_zone }]);
});

test('a launch is rows and a job for the scheduler for each instance, in the order they were asked for', async (t) => {
  const { db, launch } = await anApi(t);

  const { reservation_id, instances } = await launch({ min_count: 2, max_count: 2 });

  assert.match(reservation_id, /^r-[0-9a-z]{8}$/);
  assert.deepEqual(
    instances.map(({ launch_index, vm_state, task_state, host, instance_type, memory_mb }) => [
      launch_index,
      vm_state,
      task_state,
      host,
      instance_type,
      memory_mb,
    ]),
    [0, 1].map((index) => [index, 'building', 'scheduling', null, 'm1.tiny', 512]),
  );
  const jobs = (await listJobs(db, {})).toReversed();
  assert.deepEqual(
    jobs.map(({ topic, host, method, resource }) => [topic, host, method, resource]),
    instances.map(({ id }) => ['scheduler', null, 'run_instance', `instance:${id}`]),
  );
  assert.ok(instances.every(({ reservation_id: its }) => its === reservation_id));
});

test('an instance without a name is called Server and its number, on its own network too', async (t) => {
  const { launch } = await anApi(t);

  const [first] = (await launch()).instances;
  const [named] = (await launch({ display_name: 'My Web_Server №1', display_description: 'for the web' })).instances;
  const [odd] = (await launch({ display_name: '№№' })).instances;

  assert.deepEqual([first?.display_name, first?.hostname], [`Server ${first?.id}`, `server-${first?.id}`]);
  assert.deepEqual([named?.hostname, named?.display_description], ['my-web-server-1', 'for the web']);
  assert.deepEqual([odd?.display_name, odd?.hostname], ['№№', `server-${odd?.id}`]);
});

test("the project's default group is made with its first launch and holds every instance that names none", async (t) => {
  const { db, launch } = await anApi(t);

  await launch();
  const { instances } = await launch({ security_groups: [] });
  const twice = await launch({ security_groups: ['default', 'default'] });

  assert.deepEqual(instances[0]?.security_groups, [{ id: 1, name: 'default' }]);
  assert.deepEqual(twice.instances[0]?.security_groups, [{ id: 1, name: 'default' }]);
  assert.deepEqual(
    (await groupsOfProject(db, 'apollo')).map(({ name, user_id }) => [name, user_id]),
    [['default', 'ann']],
  );
});

test('an instance keeps the public key that its key pair had at the launch', async (t) => {
  const { db, launch } = await anApi(t);
  await insertKeyPair(db, { user_id: 'ann', name: 'laptop', fingerprint: 'f', public_key: 'ssh-rsa AAAA ann' });

  const [made] = (await launch({ key_name: 'laptop' })).instances;

  const { key_name, key_data } = await instanceById(db, made?.id ?? 0);
  assert.deepEqual([key_name, key_data], ['laptop', 'ssh-rsa AAAA ann']);
});

test('the story of a launch begins with who asked, from where, for what', async (t) => {
  const { db, launch } = await anApi(t);

  const [made] = (await launch({}, aContext({ remote_address: '192.0.2.9', request_id: 'req-7' }))).instances;

  const [{ event, request_id, user_id, details } = assert.fail()] = await eventsOf(db, `instance:${made?.id}`);
  assert.deepEqual([event, request_id, user_id], ['asked for', 'req-7', 'ann']);
  assert.deepEqual(JSON.parse(details), { image: 'ami-00000001', instance_type: 'm1.tiny', from: '192.0.2.9' });
});

// ------------------------------------------------------------------ counts and quotas

test('from min_count to max_count instances are launched, as many as the quota has left', async (t) => {
  const { launch } = await anApi(t, { quota_instances: 5 });

  const counts = [];
  for (const [min_count, max_count] of [
    [1, 3],
    [1, 10],
  ] as const)
    counts.push((await launch({ min_count, max_count })).instances.length);

  assert.deepEqual(counts, [3, 2]);
});

test('a count that is none is refused, before anything is looked up', async (t) => {
  const { db, launch } = await anApi(t, { max_instances_per_request: 20 });

  for (const [min_count, max_count] of [
    [0, 1],
    [2, 1],
    [-1, 1],
    [1.5, 2],
    [1, Number.NaN],
  ] as const)
    await assert.rejects(launch({ min_count, max_count, image_id: 99 }), {
      name: 'InvalidInput',
      message: `${min_count} to ${max_count} is no count of instances: 1 <= MinCount <= MaxCount`,
    });
  await assert.rejects(
    launch({ min_count: 21, max_count: 30 }),
    /^InvalidInput: 21 instances in one request; at most 20/,
  );
  await assertNothing(db);
});

test('a request for very many is a request for as many as one may ask for', async (t) => {
  const { launch, quota } = await anApi(t, { max_instances_per_request: 3, quota_cores: -1 });
  await quota('instances', null);

  assert.equal((await launch({ max_count: 1_000_000 })).instances.length, 3);
});

for (const [resource, limit, spec, message] of [
  [
    'instances',
    2,
    { min_count: 2, max_count: 4 },
    '1 of 2 instances fit into the quota of project apollo (instances: 1 of 2 in use, 4 more asked for).',
  ],
  [
    'cores',
    3,
    { instance_type: 'm1.medium', min_count: 2, max_count: 2 },
    '1 of 2 instances fit into the quota of project apollo (cores: 1 of 3 in use, 4 more asked for).',
  ],
  [
    'ram',
    1000,
    {},
    '0 of 1 instances fit into the quota of project apollo (ram (MB): 512 of 1000 in use, 512 more asked for).',
  ],
  [
    'instances',
    0,
    {},
    '0 of 1 instances fit into the quota of project apollo (instances: 1 of 0 in use, 1 more asked for).',
  ],
] as const)
  test(`a quota of ${limit} ${resource} says how much is in use, how much was asked for and what to do`, async (t) => {
    const { db, launch, quota } = await anApi(t);
    await launch();
    await quota(resource, limit);

    await assert.rejects(launch(spec), (err) => {
      assert.ok(err instanceof InstanceLimitExceeded);
      assert.equal(err.message, `${message} Terminate some, ask for fewer, or have the quota raised`);
      return true;
    });

    assert.equal((await db.selectFrom('instances').select('id').execute()).length, 1);
  });

test('an instance counts until it is deleted, and one of another project never', async (t) => {
  const { db, api, launch } = await anApi(t, { quota_instances: 1 });
  await anInstance(db, { project_id: 'gemini' });
  const [first] = (await launch()).instances;
  await assert.rejects(launch(), InstanceLimitExceeded);

  await api.terminate(aContext(), first?.id ?? 0);

  await launch();
});

// ------------------------------------------------------------------ refusals

test('what a launch names and nobody has is refused by its own error, and nothing is left of it', async (t) => {
  const { db, launch } = await anApi(t);
  const hidden = await anImage(db, { project_id: 'gemini', is_public: 0 });

  await assert.rejects(launch({ image_id: 99 }), ImageNotFound);
  await assert.rejects(launch({ image_id: hidden }), ImageNotFound);
  await assert.rejects(launch({ kernel_id: 98 }), ImageNotFound);
  await assert.rejects(launch({ instance_type: 'm9.huge' }), InstanceTypeNotFound);
  await assert.rejects(launch({ instance_type: { flavorid: 77 } }), InstanceTypeNotFound);
  await assert.rejects(launch({ key_name: 'lost' }), KeyPairNotFound);
  await assert.rejects(launch({ security_groups: ['default', 'attic'] }), SecurityGroupNotFound);
  await assert.rejects(launch({}, aContext({ user_id: null })), Conflict);
  await assert.rejects(launch({}, aContext({ project_id: null })), Conflict);
  await assertNothing(db);
});

test('metadata beyond the quota or of impossible form is refused', async (t) => {
  const { db, launch, quota } = await anApi(t);
  await quota('metadata_items', 1);

  await assert.rejects(launch({ metadata: { a: '1', b: '2' } }), /2 metadata pairs; an instance holds at most 1/);
  await assert.rejects(launch({ metadata: { '': '1' } }), /a key has 1 to 255 characters/);
  await assert.rejects(launch({ metadata: { ['k'.repeat(256)]: '1' } }), InvalidInput);
  await assert.rejects(launch({ metadata: { a: 'v'.repeat(256) } }), InvalidInput);
  await assertNothing(db);
  assert.deepEqual((await launch({ metadata: { a: 'v'.repeat(255) } })).instances[0]?.metadata, {
    a: 'v'.repeat(255),
  });
});

test('a client token tells its launch again when its instances are gone and the quota is used up', async (t) => {
  const { api, launch, quota } = await anApi(t);
  const first = await launch({ client_token: 'once' });
  await api.terminate(aContext(), first.instances[0]?.id ?? 0);
  await quota('instances', 0);

  const again = await launch({ client_token: 'once' });

  assert.equal(again.reservation_id, first.reservation_id);
  assert.deepEqual(
    again.instances.map(({ id, deleted }) => [id, deleted]),
    [[first.instances[0]?.id, true]],
  );
});

// ------------------------------------------------------------------ terminate

for (const [host, vm_state, task_state] of [
  [null, 'building', 'scheduling'],
  [null, 'error', null],
  ['node1', 'building', 'networking'],
  ['node1', 'building', 'spawning'],
  ['node1', 'active', null],
  ['node1', 'active', 'rebooting'],
  ['node1', 'stopped', null],
  ['node1', 'error', null],
] as const)
  test(`an instance that is ${vm_state}/${task_state ?? 'idle'} ${host === null ? 'and has no host is gone at once' : 'is deleted by its host'}`, async (t) => {
    const { db, api } = await anApi(t);
    await aComputeHost(db, 'node1', { vcpus_used: 3 });
    const id = await anInstance(db, { host, vm_state, task_state });

    const [before] = await Promise.all([1, 2, 3].map(() => api.terminate(aContext(), id)));

    assert.deepEqual([before?.vm_state, before?.task_state], [vm_state, task_state]);
    const row = await instanceById(db, id, { deleted: true });
    const jobs = (await listJobs(db, {})).map((job) => [job.topic, job.host, job.method, job.resource]);
    const [node] = await db.selectFrom('compute_nodes').select('vcpus_used').execute();
    assert.equal(node?.vcpus_used, 3, 'its host gives the claim back, once the guest is gone');
    if (host === null) {
      assert.deepEqual([row.deleted, row.vm_state, row.task_state, jobs], [1, 'deleted', null, []]);
      await assert.rejects(api.terminate(aContext(), id), InstanceNotFound);
    } else {
      assert.deepEqual([row.deleted, row.vm_state, row.task_state], [0, vm_state, 'deleting']);
      assert.ok(row.task_deadline);
      assert.deepEqual(jobs, [['compute', 'node1', 'terminate_instance', `instance:${id}`]]);
      assert.equal((await api.terminate(aContext(), id)).task_state, 'deleting');
    }
  });

test("a stranger's instance is not there to terminate, to reboot or to look at", async (t) => {
  const { db, api } = await anApi(t);
  const id = await anInstance(db, { project_id: 'gemini' });

  for (const ask of ['terminate', 'reboot', 'get', 'consoleOutput'] as const)
    await assert.rejects(api[ask](aContext(), id), InstanceNotFound, ask);
  assert.deepEqual(await api.list(aContext()), []);
  assert.equal((await instanceById(db, id)).task_state, null);
  assert.equal((await api.get(aContext({ is_admin: true }), id)).id, id);
});

// ------------------------------------------------------------------ reboot, console

test('an instance that runs or is stopped is rebooted, once for however many ask', async (t) => {
  const { db, api } = await anApi(t);

  for (const vm_state of ['active', 'stopped']) {
    const id = await anInstance(db, { vm_state });
    await Promise.all([1, 2, 3].map(() => api.reboot(aContext(), id, 'HARD')));

    assert.equal((await instanceById(db, id)).task_state, 'rebooting');
    const jobs = await listJobs(db, { resource: `instance:${id}` });
    assert.deepEqual(
      jobs.map((job) => [job.host, job.method, JSON.parse(job.args) as unknown]),
      [['node1', 'reboot_instance', { instance_id: id, reboot_type: 'HARD' }]],
    );
  }
});

for (const [vm_state, task_state, why] of [
  ['building', 'scheduling', 'it is building; only an active or stopped one can be rebooted'],
  ['building', 'spawning', 'it is building; only an active or stopped one can be rebooted'],
  ['error', null, 'it is error; only an active or stopped one can be rebooted'],
  ['active', 'deleting', 'it is being deleted'],
] as const)
  test(`an instance that is ${vm_state}/${task_state ?? 'idle'} is not rebooted, and says why`, async (t) => {
    const { db, api } = await anApi(t);
    const id = await anInstance(db, { vm_state, task_state });

    await assert.rejects(api.reboot(aContext(), id), (err) => {
      assert.ok(err instanceof InstanceBusy);
      assert.equal(err.message, `instance ${id} cannot be rebooted: ${why}`);
      return true;
    });

    assert.deepEqual(await listJobs(db, {}), []);
  });

test('the console is empty before there is a host, and asked for there afterwards', async (t) => {
  const { db, api, bus } = await anApi(t);
  const [without, on_host, on_dead] = [
    await anInstance(db, { host: null }),
    await anInstance(db),
    await anInstance(db, { host: 'node9' }),
  ];
  await bus.consume('compute', 'node1', async ({ method, args }) => `${method} ${JSON.stringify(args)}`);

  assert.equal(await api.consoleOutput(aContext(), without), '');
  assert.equal(await api.consoleOutput(aContext(), on_host), `get_console_output {"instance_id":${on_host}}`);
  await assert.rejects(api.consoleOutput(aContext(), on_dead), RpcUnavailable);
});
