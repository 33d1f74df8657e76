import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { nowText } from '../../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../../src/common/db/connect.ts';
import { eventsOf } from '../../../src/common/db/events.ts';
import { syncDb } from '../../../src/common/db/migrate.ts';
import { reportRoom } from '../../../src/common/db/volume_nodes.ts';
import { execute } from '../../../src/common/execute.ts';
import { Flags } from '../../../src/common/flags.ts';
import { FakeVolumeDriver } from '../../../src/volume/drivers/fake.ts';
import { anInstance, aSnapshot, aStorageHost } from '../../builders.ts';
import { flagFileText } from '../../rigs/daemon.ts';
import { atEnd, projectRoot, tempDir, type Scope } from '../../rigs/tmp.ts';
import { aVolume as volumeSpec } from '../../volume/a_store.ts';

async function aHost(t: Scope, more: Record<string, unknown> = {}) {
  const dir = tempDir(t, 'manage');
  const sql_connection = `sqlite:///${join(dir, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  const flagfile = join(dir, 'nova.flags');
  writeFileSync(flagfile, flagFileText({ state_path: dir, sql_connection, ...more }));
  const manage = async (...words: string[]) => {
    const argv = [process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${flagfile}`];
    const { stdout, stderr, exit_code } = await execute([...argv, 'volume', ...words], { ok: [0, 1, 2] });
    return { code: exit_code, said: stdout + stderr };
  };
  return { db, manage };
}

async function aVolume(db: NovaDb, over: { status: string; host: string | null }): Promise<number> {
  const rest = { user_id: 'ann', project_id: 'apollo', size: 2, availability_zone: 'nova', epoch: 1 };
  const { id } = await db
    .insertInto('volumes')
    .values({ ...rest, display_name: 'data', display_description: '', created_at: nowText(), ...over })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}
const attach = (db: NovaDb, volume_id: number, instance_id: number) =>
  db
    .insertInto('volume_attachments')
    .values({
      volume_id,
      instance_id,
      epoch: 1,
      status: 'attached',
      device: '/dev/vdc',
      auth_username: 'user',
      auth_password: 'secretsecret12',
      created_at: nowText(),
    })
    .execute();
const jobs = (db: NovaDb) => db.selectFrom('jobs').select(['topic', 'host', 'method', 'args']).orderBy('id').execute();

test('volumes are listed with what has them, deleted, and given to their instance again', async (t) => {
  const { db, manage } = await aHost(t);
  await aStorageHost(db);
  const unscheduled = await aVolume(db, { status: 'error', host: null });
  const resting = await aVolume(db, { status: 'available', host: 'store1' });
  const held = await aVolume(db, { status: 'in-use', host: 'store1' });
  const instance_id = await anInstance(db);
  await attach(db, held, instance_id);

  const { said } = await manage('list');
  const lines = said.split('\n').map((line) => line.replace(/ +/g, ' '));
  assert.equal(lines[0], 'id status GiB type host zone project attached to device name fault');
  assert.equal(lines[3], 'vol-00000003 in-use 2 None store1 nova apollo i-00000001 /dev/vdc data');
  assert.doesNotMatch(said, /secret/);
  assert.equal((await manage('list', '--host=store2')).said.trim().split('\n').length, 1);

  assert.deepEqual(await manage('delete', 'vol-00000001'), { code: 0, said: 'vol-00000001 deleted\n' });
  assert.deepEqual(await manage('delete', String(resting)), {
    code: 0,
    said: 'vol-00000002 is being deleted by nova-volume on store1\n',
  });
  const refused = await manage('delete', 'vol-00000003');
  assert.equal(refused.code, 1);
  assert.match(refused.said, /vol-00000003 is in-use at \/dev\/vdc of i-[0-9a-f]{8}: detach it first/);
  const again = await manage('reattach', 'vol-00000003');
  assert.deepEqual(again, { code: 0, said: 'nova-compute on node1 gives it to i-00000001 at /dev/vdc\n' });
  assert.match(
    (await manage('reattach', 'vol-00000002')).said,
    /is deleting; only one that is in-use is attached again/,
  );
  assert.match((await manage('delete', 'vol-00000009')).said, /there is no volume vol-00000009/);

  const { deleted } = await db.selectFrom('volumes').select('deleted').where('id', '=', unscheduled).executeTakeFirstOrThrow(); // prettier-ignore
  assert.equal(deleted, 1);
  assert.deepEqual(await jobs(db), [
    { topic: 'volume', host: 'store1', method: 'delete_volume', args: JSON.stringify({ volume_id: resting }) },
    {
      topic: 'compute',
      host: 'node1',
      method: 'attach_volume',
      args: JSON.stringify({ instance_id, volume_id: held, mountpoint: '/dev/vdc' }),
    },
  ]);
});

test('volumes and snapshots of a storage host that never comes back are deleted without it', async (t) => {
  const { db, manage } = await aHost(t);
  await aStorageHost(db, 'dead1');
  const id = await aVolume(db, { status: 'in-use', host: 'dead1' });
  const alone = await aVolume(db, { status: 'available', host: 'dead1' });
  for (const volume_id of [id, alone, alone]) await aSnapshot(db, volume_id, { host: 'dead1' });
  const instance_id = await anInstance(db);
  await attach(db, id, instance_id);

  for (const words of [
    ['delete', `${id}`],
    ['delete_snapshot', '1'],
  ]) {
    const early = await manage(...words, '--host_is_gone');
    assert.equal(early.code, 1);
    assert.match(early.said, /nova-volume on dead1 is up, so it deletes (vol|snap)-00000001 itself/);
  }
  await db.updateTable('services').set({ updated_at: '2011-04-15T00:00:00.000Z' }).execute();

  const waits = (await manage('delete_snapshot', 'snap-00000003')).said;
  assert.match(waits, /^snap-00000003 is deleting, which waits. nova-volume on dead1 is down \(last report .* ago\)/);
  assert.match(waits, /nova-manage volume delete_snapshot snap-00000003 --host_is_gone\n$/);
  assert.equal((await manage('delete_snapshot', 'snap-00000003', '--host_is_gone')).said, 'snap-00000003 deleted\n');
  assert.equal((await manage('delete_snapshot', '2', '--host_is_gone')).said, 'snap-00000002 deleted\n');
  assert.match((await manage('delete', `${alone}`)).said, /nova-manage volume delete vol-00000002 --host_is_gone\n$/);
  assert.equal((await manage('delete', `${alone}`, '--host_is_gone')).said, 'vol-00000002 deleted\n');
  assert.deepEqual(await manage('delete', `${id}`, '--host_is_gone'), {
    code: 0,
    said: 'vol-00000001 deleted, and with it its attachment to i-00000001 at /dev/vdc, snap-00000001\n',
  });

  for (const table of ['volumes', 'snapshots', 'volume_attachments'] as const)
    assert.deepEqual(await db.selectFrom(table).select('id').where('deleted', '=', 0).execute(), [], table);
  for (const resource of ['volume:1', 'snapshot:1', 'instance:1'])
    assert.match(
      (await eventsOf(db, resource)).at(-1)?.event ?? '',
      /deleted by an operator: its storage host is gone/,
    );
});

test('volume types are made with properties, listed and forgotten', async (t) => {
  const { manage } = await aHost(t);
  assert.equal((await manage('type_create', 'fast', 'media=ssd,rpm=0')).said, 'fast created with the number 1\n');
  assert.match((await manage('type_create', 'fast')).said, /there is a volume type fast/);
  assert.match((await manage('type_create', 'slow', 'rpm')).said, /'rpm' is no key=value/);
  assert.match((await manage('type_list')).said, /^id +name +properties\n +1 +fast +media=ssd,rpm=0\n$/);
  assert.equal((await manage('type_delete', 'fast')).said, 'fast deleted\n');
  assert.match((await manage('type_delete', 'fast')).said, /there is no volume type fast/);
});

test('the doctor looks into the file of a fake store, tries every repair, and says that a store in memory cannot be compared', async (t) => {
  const fake = 'nova.volume.driver.FakeISCSIDriver';
  const in_memory = await aHost(t, { host: 'store1' });
  await reportRoom(in_memory.db, 'store1', { total_gb: 9, free_gb: 9, overcommit_ratio: 1, driver: fake });
  const refused = await in_memory.manage('doctor');
  assert.equal(refused.code, 1);
  assert.match(refused.said, /fake volume driver of store1 .* give it --fake_volume_state=FILE/);

  const fake_volume_state = join(tempDir(t, 'fake'), 'volumes.json');
  const failing = { fake_volume_failure_rate: 1, fake_volume_failing: 'delete' };
  const { db, manage } = await aHost(t, { host: 'store1', fake_volume_state, ...failing });
  await reportRoom(db, 'store1', { total_gb: 9, free_gb: 9, overcommit_ratio: 1, driver: fake });
  const driver = new FakeVolumeDriver({ flags: Flags.of({ fake_volume_state }) });
  const whole = await aVolume(db, { status: 'available', host: 'store1' });
  const gone = await aVolume(db, { status: 'deleting', host: 'store1' });
  for (const id of [whole, gone]) await driver.createVolume(volumeSpec({ id, size: 2 }), new AbortController().signal);
  assert.deepEqual(await manage('doctor'), { code: 0, said: 'nothing differs\n' });

  await db.updateTable('volumes').set({ deleted: 1 }).where('id', '=', gone).execute();
  await aVolume(db, { status: 'in-use', host: 'store1' }); // its bytes are gone, and nothing has it
  const { code, said } = await manage('doctor', '--apply');

  assert.equal(code, 1);
  assert.match(said, /volume-00000002: 'deletes them' failed: delete of volume-00000002 failed, as --fake/);
  assert.match(said, /2 differences are left:/);
  const third = await db.selectFrom('volumes').select('status').where('id', '=', 3).executeTakeFirstOrThrow();
  assert.equal(third.status, 'available');
});
