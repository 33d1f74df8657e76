import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { NovaDb } from '../../../../src/common/db/connect.ts';
import {
  endQuarantine,
  fixedIpsOfInstance,
  releaseFixedIps,
  setLeased,
  type ClaimRange,
} from '../../../../src/common/db/fixed_ips.ts';
import { Aborted, NoMoreAddresses } from '../../../../src/common/errors.ts';
import { aDatabase, anInstance, aNetwork } from '../../../builders.ts';
import { claimFixedIp } from '../../../claim_fixed_ip.ts';

const aRange = (over: Partial<ClaimRange> = {}): ClaimRange => {
  let cards = 0;
  return {
    network_id: 1,
    cidr: '10.0.0.0/29',
    first: 2,
    last: 6,
    except: null,
    format: (number) => `10.0.0.${number}`,
    makeMac: () =>
      `02:16:3e:00:${Math.floor(Math.random() * 256)
        .toString(16)
        .padStart(2, '0')}:${(cards++).toString(16).padStart(2, '0')}`,
    ...over,
  };
};
const instances = async (t: TestContext, count: number): Promise<{ db: NovaDb; ids: number[] }> => {
  const db = await aDatabase(t);
  await aNetwork(db);
  const ids: number[] = [];
  for (let i = 0; i < count; i++) ids.push(await anInstance(db, { task_state: 'networking' }));
  return { db, ids };
};

test('instances asking at once never get the same address, and an empty network says so', async (t) => {
  const { db, ids } = await instances(t, 6);
  const range = aRange();

  const got = await Promise.all(ids.slice(0, 5).map((id) => claimFixedIp(db, range, id, null)));

  assert.deepEqual(got.map((ip) => ip.address).toSorted(), [
    '10.0.0.2',
    '10.0.0.3',
    '10.0.0.4',
    '10.0.0.5',
    '10.0.0.6',
  ]);
  await assert.rejects(claimFixedIp(db, range, ids[5] ?? 0, null), (err: unknown) => {
    assert.ok(err instanceof NoMoreAddresses);
    assert.match(err.message, /10\.0\.0\.0\/29 has no free address: all 5/);
    return true;
  });
});

test('asking twice gives the same address and card', async (t) => {
  const { db, ids } = await instances(t, 1);

  const first = await claimFixedIp(db, aRange(), ids[0] ?? 0, null);
  const second = await claimFixedIp(db, aRange(), ids[0] ?? 0, null);

  assert.deepEqual(second, first);
});

test('a MAC that another card has is drawn again', async (t) => {
  const { db, ids } = await instances(t, 2);
  const drawn = ['02:16:3e:00:00:01', '02:16:3e:00:00:01', '02:16:3e:00:00:02'];
  const range = aRange({ makeMac: () => drawn.shift() ?? '' });

  const [first, second] = [
    await claimFixedIp(db, range, ids[0] ?? 0, null),
    await claimFixedIp(db, range, ids[1] ?? 0, null),
  ];

  assert.deepEqual([first.mac, second.mac], ['02:16:3e:00:00:01', '02:16:3e:00:00:02']);
});

test('a reserved address in the middle is never given', async (t) => {
  const { db, ids } = await instances(t, 4);
  const range = aRange();
  await db
    .insertInto('fixed_ips')
    .values({ address: '10.0.0.4', address_number: 4, network_id: 1, reserved: 1, created_at: '' })
    .execute();

  const got = await Promise.all(ids.map((id) => claimFixedIp(db, range, id, null)));

  assert.deepEqual(got.map((ip) => ip.address).toSorted(), ['10.0.0.2', '10.0.0.3', '10.0.0.5', '10.0.0.6']);
});

test('an address given up stays taken until its quarantine or its lease ends', async (t) => {
  const { db, ids } = await instances(t, 3);
  const range = aRange({ last: 3 });
  const [a = 0, b = 0, c = 0] = ids;
  await claimFixedIp(db, range, a, null);
  await claimFixedIp(db, range, b, null);

  await releaseFixedIps(db, a, true);
  await assert.rejects(claimFixedIp(db, range, c, null), NoMoreAddresses);
  assert.equal(await endQuarantine(db, '2000-01-01'), 0);
  await setLeased(db, 1, '10.0.0.2', false);

  assert.equal((await claimFixedIp(db, range, c, null)).address, '10.0.0.2');
  await releaseFixedIps(db, b, true);
  assert.equal(await endQuarantine(db, '9999-01-01'), 1);
});

test('without DHCP an address is free at once, and giving up nothing is no error', async (t) => {
  const { db, ids } = await instances(t, 1);
  const id = ids[0] ?? 0;
  await claimFixedIp(db, aRange(), id, null);

  assert.equal((await releaseFixedIps(db, id, false)).length, 1);
  assert.deepEqual(await releaseFixedIps(db, id, false), []);

  assert.deepEqual(await fixedIpsOfInstance(db, id), []);
  assert.deepEqual(await db.selectFrom('virtual_interfaces').selectAll().execute(), []);
});

test('a late request for an instance that is being deleted gets nothing', async (t) => {
  const db = await aDatabase(t);
  const id = await anInstance(db, { task_state: 'deleting' });

  await assert.rejects(claimFixedIp(db, aRange(), id, null), Aborted);

  assert.deepEqual(await db.selectFrom('fixed_ips').selectAll().execute(), []);
});
