import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import { createFloatingIps } from '../../../../src/common/db/floating_pool.ts';
import { networkById } from '../../../../src/common/db/networks.ts';
import { rowFaults } from '../../../../src/network/doctor/rows.ts';
import { poolAddresses } from '../../../../src/network/logic/floating.ts';
import { claimRange } from '../../../../src/network/manager/address_book.ts';
import { aDatabase, anInstance, aNetwork } from '../../../builders.ts';
import { claimFixedIp } from '../../../claim_fixed_ip.ts';

const faultsOf = (db: NovaDb) => rowFaults({ db, quarantine: true, service_down_time_s: 60 });

test("a guest that has its gateway's address is told, with what a person can do", async (t) => {
  const db = await aDatabase(t);
  const network = await networkById(db, await aNetwork(db));
  const instance_id = await anInstance(db);
  await claimFixedIp(db, claimRange(network), instance_id, null);
  assert.deepEqual(await faultsOf(db), []);

  await db.updateTable('networks').set({ gateway: '10.0.0.2' }).execute();

  const [fault, ...more] = await faultsOf(db);
  assert.deepEqual(more, []);
  assert.match(JSON.stringify(fault), /10\.0\.0\.2.*gateway of network 10\.0\.0\.0\/24.*terminate i-00000001/);
});

test('an instance whose network was deleted is told', async (t) => {
  const db = await aDatabase(t);
  const network = await networkById(db, await aNetwork(db));
  await claimFixedIp(db, claimRange(network), await anInstance(db), null);

  await db.updateTable('networks').set({ deleted: 1 }).execute();

  const [fault, ...more] = await faultsOf(db);
  assert.deepEqual(more, []);
  assert.match(JSON.stringify(fault), /10\.0\.0\.2.*i-00000001 on 10\.0\.0\.0\/24, which was deleted/);
});

test('floating addresses in a network are told', async (t) => {
  const db = await aDatabase(t);
  await createFloatingIps(db, () => poolAddresses('10.0.0.16/29', []));
  assert.deepEqual(await faultsOf(db), []);

  await aNetwork(db);

  const [fault, ...more] = await faultsOf(db);
  assert.deepEqual(more, []);
  assert.match(
    JSON.stringify(fault),
    /10\.0\.0\.17, 10\.0\.0\.18, 10\.0\.0\.19 and 3 more.*floating delete 10\.0\.0\.0\/24/,
  );
});
