import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminContext } from '../../../../src/common/context.ts';
import { instanceById } from '../../../../src/common/db/instances.ts';
import { BackendAway, ProcessExecutionError } from '../../../../src/common/errors.ts';
import { PowerState } from '../../../../src/compute/logic/power_state.ts';
import { aContext } from '../../../builders.ts';
import { aSmallCloud } from '../../../small_cloud.ts';

const guestOf = (id: number): string => `instance-${id.toString(16).padStart(8, '0')}`;

test('a left-over guest that cannot be destroyed keeps its host neither from starting nor from its periodic work', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager, stop } = await cloud.computeHost('node1');
  const [stuck, gone, lives] = [await cloud.launch(), await cloud.launch(), await cloud.launch()];
  for (const id of [stuck, gone, lives]) await cloud.until(id, 'active');
  const deleted = { deleted: 1, vm_state: 'deleted' };
  await cloud.db.updateTable('instances').set(deleted).where('id', 'in', [stuck, gone]).execute();
  const destroy = driver.destroy.bind(driver);
  driver.destroy = async (name, signal, uuid) => {
    if (name === guestOf(stuck))
      throw new ProcessExecutionError('Failed to terminate process: Device or resource busy');
    await destroy(name, signal, uuid);
  };
  const hypervisorFault = async () => {
    const { fault } = await cloud.db.selectFrom('compute_nodes').select('fault').executeTakeFirstOrThrow();
    return fault;
  };
  driver.away = true;
  await assert.rejects(manager.periodicTasks(adminContext()), BackendAway);
  assert.notEqual(await hypervisorFault(), null);

  driver.away = false;
  await manager.periodicTasks(adminContext());
  assert.equal(await hypervisorFault(), null);
  assert.deepEqual([...driver.guests.keys()], [guestOf(stuck), guestOf(lives)]);

  await stop();
  const again = await cloud.computeHost('node1', {}, driver);
  await cloud.api.terminate(aContext(), lives);
  await cloud.until(lives, 'deleted');

  driver.destroy = destroy;
  await again.manager.periodicTasks(adminContext());
  assert.deepEqual([...driver.guests.keys()], []);
  assert.equal((await cloud.story(stuck)).at(-1), 'left-over guest taken away');
});

test('a hypervisor that goes away while a left-over guest is destroyed counts as away', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const id = await cloud.launch();
  await cloud.until(id, 'active');
  await cloud.db.updateTable('instances').set({ deleted: 1, vm_state: 'deleted' }).where('id', '=', id).execute();
  driver.destroy = async () => {
    throw new BackendAway('libvirtd does not answer');
  };

  await assert.rejects(manager.periodicTasks(adminContext()), BackendAway);
});

test('a row stays as it is while its guest cannot be looked at, and so does the guest', async (t) => {
  const cloud = await aSmallCloud(t);
  const { driver, manager } = await cloud.computeHost('node1');
  const [lives, deleted] = [await cloud.launch(), await cloud.launch()];
  for (const id of [lives, deleted]) await cloud.until(id, 'active');
  const gone = { deleted: 1, vm_state: 'deleted' };
  await cloud.db.updateTable('instances').set(gone).where('id', '=', deleted).execute();
  driver.listInstances = async () =>
    [lives, deleted].map((id) => ({ name: guestOf(id), uuid: null, state: PowerState.NOSTATE }));

  await manager.periodicTasks(adminContext());

  const { vm_state, power_state } = await instanceById(cloud.db, lives);
  assert.deepEqual([vm_state, power_state], ['active', PowerState.RUNNING]);
  assert.deepEqual([...driver.guests.keys()], [guestOf(lives), guestOf(deleted)]);
});
