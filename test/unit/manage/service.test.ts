import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock } from '../../../src/common/clock.ts';
import { heartbeat, registerService, signOff } from '../../../src/common/db/services.ts';
import { HostNotFound, ServiceNotFound } from '../../../src/common/errors.ts';
import { imageCommands } from '../../../src/manage/image.ts';
import { serviceCommands } from '../../../src/manage/service.ts';
import { vmCommands } from '../../../src/manage/vm.ts';
import { aComputeHost, aDatabase, anInstance } from '../../builders.ts';
import { run } from './a_manage.ts';

const aService = (host: string, binary = 'nova-compute') => ({
  host,
  binary,
  topic: binary.slice('nova-'.length),
  availability_zone: 'nova',
  incarnation: 'i1',
  agreed_flags: {},
  enabled: true,
});

test('service list shows :-) within 15 s of a heartbeat, XXX after it and after an orderly stop', async (t) => {
  const db = await aDatabase(t);
  let ms = Date.parse('2011-04-15T10:00:00.000Z');
  t.mock.method(clock, 'now', () => new Date(ms));
  for (const host of ['node1', 'node2', 'node3']) await registerService(db, aService(host));
  ms += 16_000;
  await heartbeat(db, aService('node1'), { service_down_time: 60, report_interval: 10 });
  await heartbeat(db, aService('node3'), { service_down_time: 60, report_interval: 10 });
  await signOff(db, 'node3', 'nova-compute', 'i1');
  ms += 15_000;

  const lines = await run(db, serviceCommands, 'list');

  assert.deepEqual(
    lines.map((line) => line.split(/ {2,}/)),
    [
      ['node1', 'nova-compute', 'enabled', ':-)', '2011-04-15T10:00:16.000Z', '15 s ago'],
      ['node2', 'nova-compute', 'enabled', 'XXX', '2011-04-15T10:00:00.000Z', '31 s ago'],
      ['node3', 'nova-compute', 'enabled', 'XXX', '2011-04-15T10:00:16.000Z', 'stopped'],
    ],
  );
});

test('service list is narrowed to a host and a service', async (t) => {
  const db = await aDatabase(t);
  for (const host of ['node1', 'node2'])
    for (const binary of ['nova-compute', 'nova-network']) await registerService(db, aService(host, binary));

  const lines = await run(db, serviceCommands, 'list', { host: 'node2', service: 'nova-network' });

  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /^node2 +nova-network /);
});

test('service disable and enable last, and name what is not there', async (t) => {
  const db = await aDatabase(t);
  await registerService(db, aService('node1'));
  const state = async () => (await run(db, serviceCommands, 'list'))[0]?.split(/ {2,}/)[2];

  await run(db, serviceCommands, 'disable', { host: 'node1', service: 'nova-compute' });
  await registerService(db, { ...aService('node1'), incarnation: 'i2' }); // a restart
  assert.equal(await state(), 'disabled');
  await run(db, serviceCommands, 'enable', { host: 'node1', service: 'nova-compute' });

  assert.equal(await state(), 'enabled');
  await assert.rejects(
    run(db, serviceCommands, 'disable', { host: 'node9', service: 'nova-compute' }),
    ServiceNotFound,
  );
});

test('service delete forgets what is down, refuses what reports, and a restart brings it back', async (t) => {
  const db = await aDatabase(t);
  let ms = Date.parse('2011-04-15T10:00:00.000Z');
  t.mock.method(clock, 'now', () => new Date(ms));
  for (const host of ['node1', 'node2', 'node3']) await registerService(db, aService(host));
  ms += 61_000;
  await heartbeat(db, aService('node2'), { service_down_time: 60, report_interval: 10 });
  await heartbeat(db, aService('node3'), { service_down_time: 60, report_interval: 10 });
  await signOff(db, 'node3', 'nova-compute', 'i1');
  const remove = (host: string) => run(db, serviceCommands, 'delete', { host, service: 'nova-compute' });

  await remove('node1');
  await remove('node3');
  await assert.rejects(remove('node2'), /nova-compute on node2 reports, last at .*: stop it there first/);
  await assert.rejects(remove('node1'), ServiceNotFound);

  assert.equal((await run(db, serviceCommands, 'list')).length, 1);
  await registerService(db, aService('node1'));
  assert.equal((await run(db, serviceCommands, 'list', { host: 'node1' })).length, 1);
});

test('service list names a host or a service that it never heard of', async (t) => {
  const db = await aDatabase(t);
  await registerService(db, aService('node1'));

  await assert.rejects(run(db, serviceCommands, 'list', { host: 'node9' }), /no service ever ran on a host node9/);
  await assert.rejects(run(db, serviceCommands, 'list', { service: 'nova-x' }), /no nova-x ever ran on any host/);
  await assert.rejects(run(db, vmCommands, 'list', { host: 'node9' }), /there is no host node9/);
  await assert.rejects(run(db, imageCommands, 'list', { project: 'web' }), /there is no project web/);
  assert.equal((await run(db, vmCommands, 'list', { host: 'node1' })).length, 1);
});

test('service describe_resource prints what a host has, what is used, and by which project', async (t) => {
  const db = await aDatabase(t);
  await aComputeHost(db, 'node1', { vcpus_used: 3, memory_mb_used: 1536 });
  for (const project_id of ['web', 'web', 'apollo']) await anInstance(db, { project_id });

  const lines = await run(db, serviceCommands, 'describe_resource', { host: 'node1' });

  assert.deepEqual(
    lines.map((line) => line.trim().split(/ {2,}/)),
    [
      ['HOST', 'PROJECT', 'cpu', 'mem(mb)', 'disk(gb)'],
      ['node1', '(total)', '8', '16384', '100'],
      ['node1', '(used)', '3', '1536', '0'],
      ['node1', 'apollo', '1', '512', '0'],
      ['node1', 'web', '2', '1024', '0'],
    ],
  );
  await assert.rejects(run(db, serviceCommands, 'describe_resource', { host: 'node9' }), HostNotFound);
});
