import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registerService, setServiceDisabled, signOff } from '../../../../src/common/db/services.ts';
import { aSnapshot, aStorageHost, aVolume } from '../../../builders.ts';
import { needs } from '../../../rigs/needs.ts';
import { anApi } from './an_api.ts';
import { clientsOf } from './clients.ts';

test(
  'the cinder client of today lists, makes, shows, snapshots and deletes volumes, and reads types and limits',
  { skip: needs('cinder') },
  async (t) => {
    const { db, ...api } = await anApi(t);
    await aStorageHost(db);
    const data = await aVolume(db, { display_name: 'data' });
    await aSnapshot(db, data, { display_name: 'monday' });
    await db.insertInto('volume_types').values({ name: 'fast', created_at: '2011-04-15T00:00:00.000Z' }).execute();
    const { run } = clientsOf(api);
    const cinder = async (...words: string[]) => cells(await run('cinder', ...words));

    assert.deepEqual(
      (await cinder('list')).map(([id, status, name]) => [id, status, name]),
      [[String(data), 'available', 'data']],
    );
    const made = new Map((await cinder('create', '2', '--name', 'logs', '--volume-type', 'fast')).map(pair));
    assert.deepEqual([made.get('name'), made.get('size'), made.get('status')], ['logs', '2', 'creating']);
    const shown = new Map((await cinder('show', 'logs')).map(pair));
    assert.deepEqual([shown.get('id'), shown.get('volume_type')], [made.get('id'), 'fast']);
    await cinder('rename', 'data', 'notes');
    const snapshot = new Map((await cinder('snapshot-create', '--name', 'tuesday', 'notes')).map(pair));
    assert.deepEqual([snapshot.get('volume_id'), snapshot.get('status')], [String(data), 'creating']);
    assert.equal((await cinder('snapshot-list')).length, 2);
    await cinder('snapshot-delete', 'monday');
    await cinder('delete', 'logs');
    assert.deepEqual(
      (await cinder('type-list')).map(([, name]) => name),
      ['fast'],
    );
    assert.deepEqual(await cinder('quota-show', 'apollo'), [
      ['gigabytes', '1000'],
      ['volumes', '10'],
    ]);
    assert.deepEqual(
      (await cinder('quota-usage', 'apollo')).map(([name, used, , limit]) => [name, used, limit]),
      [
        ['gigabytes', '1', '1000'],
        ['volumes', '1', '10'],
      ],
    );
    assert.equal(new Map((await cinder('absolute-limits')).map(pair)).get('totalGigabytesUsed'), '1');
    assert.deepEqual(await cinder('availability-zone-list'), [['nova', 'available']]);
    await assert.rejects(cinder('service-list'), { stderr: /os-services is for administrators; ann is none/ });
  },
);

test('an administrator sees the hosts of volumes with cinder', { skip: needs('cinder') }, async (t) => {
  const { db, ...api } = await anApi(t);
  await db.updateTable('users').set({ is_admin: 1 }).where('id', '=', 'ann').execute();
  const rest = { availability_zone: 'nova', agreed_flags: {}, enabled: true };
  await registerService(db, { host: 'node1', binary: 'nova-compute', topic: 'compute', incarnation: 'a', ...rest });
  for (const host of ['store1', 'store2', 'store3'])
    await registerService(db, { host, binary: 'nova-volume', topic: 'volume', incarnation: 'a', ...rest });
  await setServiceDisabled(db, 'store2', 'nova-volume', true);
  await signOff(db, 'store3', 'nova-volume', 'a');
  const { run } = clientsOf(api);
  const services = async (...words: string[]) =>
    cells(await run('cinder', 'service-list', ...words)).map((row) => row.slice(0, 5));

  assert.deepEqual(await services(), [
    ['nova-volume', 'store1', 'nova', 'enabled', 'up'],
    ['nova-volume', 'store2', 'nova', 'disabled', 'up'],
    ['nova-volume', 'store3', 'nova', 'enabled', 'down'],
  ]);
  assert.equal((await services('--host', 'store2', '--binary', 'nova-volume')).length, 1);
});

/** The rows of a table that it prints, without the heading. */
const cells = (printed: string): string[][] =>
  printed
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(1)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );

const pair = ([name = '', value = '']: string[]): [string, string] => [name, value];
