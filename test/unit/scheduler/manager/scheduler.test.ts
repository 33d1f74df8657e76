import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { eventsOf } from '../../../../src/common/db/events.ts';
import { instanceById } from '../../../../src/common/db/instances.ts';
import { setServiceDisabled } from '../../../../src/common/db/services.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { chance } from '../../../../src/scheduler/logic/chance.ts';
import { SchedulerManager } from '../../../../src/scheduler/manager/scheduler.ts';
import { aComputeHost, aContext, aDatabase, anInstance } from '../../../builders.ts';

const aScheduler = (db: NovaDb) =>
  new SchedulerManager({ db, flags: Flags.of(), log: silentLog, bus: new MemoryBus(), host: 'ctl', rule: chance });

const toSchedule = { host: null, vm_state: 'building', task_state: 'scheduling' };

async function aCloud(t: TestContext): Promise<NovaDb> {
  const db = await aDatabase(t);
  await aComputeHost(db, 'node1');
  await aComputeHost(db, 'node2', { memory_mb: 256 });
  await aComputeHost(db, 'node3');
  await setServiceDisabled(db, 'node3', 'nova-compute', true);
  return db;
}

test('a launch tells which host was chosen of how many, and why the others were not', async (t) => {
  const db = await aCloud(t);
  const instance_id = await anInstance(db, toSchedule);

  await aScheduler(db).runInstance(aContext(), { instance_id });

  assert.equal((await instanceById(db, instance_id)).host, 'node1');
  const [event] = await eventsOf(db, `instance:${instance_id}`);
  assert.equal(event?.event, 'scheduled');
  assert.deepEqual(JSON.parse(event?.details ?? ''), {
    to: 'node1',
    hosts_that_fit: 1,
    hosts: { node2: 'memory_mb: 512 wanted, 384 free of 384', node3: 'disabled by the operator' },
  });
});

test('an instance that no host can take is in error, with the reason of each host', async (t) => {
  const db = await aCloud(t);
  const instance_id = await anInstance(db, { ...toSchedule, memory_mb: 32768 });

  await aScheduler(db).runInstance(aContext(), { instance_id });

  const { vm_state, task_state, fault } = await instanceById(db, instance_id);
  assert.deepEqual({ vm_state, task_state }, { vm_state: 'error', task_state: null });
  assert.match(fault ?? '', /memory_mb: 32768 wanted, 24576 free of 24576/);
});
