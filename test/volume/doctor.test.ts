import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { nowText } from '../../src/common/clock.ts';
import { adminContext } from '../../src/common/context.ts';
import { connectDb, writing, type NovaDb } from '../../src/common/db/connect.ts';
import { castJob } from '../../src/common/db/jobs.ts';
import { reportRoom } from '../../src/common/db/volume_nodes.ts';
import { volumeById } from '../../src/common/db/volumes.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { execute } from '../../src/common/execute.ts';
import { silentLog } from '../../src/common/log.ts';
import { castClient } from '../../src/common/rpc/contract.ts';
import { tgtFlags } from '../../src/volume/drivers/tgt/tgt.ts';
import { takeAwayLeftOvers } from '../../src/volume/manager/left_overs.ts';
import { StoreNames } from '../../src/volume/manager/names.ts';
import { volumeContract } from '../../src/volume/rpc.ts';
import { takeDownVolumes } from '../../src/volume/take_down.ts';
import { anInstance } from '../builders.ts';
import { flagFileText } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { atEnd, projectRoot, type Scope } from '../rigs/tmp.ts';
import { aStore, aVolume, anExport, killTgtd, never } from './a_store.ts';

const skip = needs('root', 'tgtd');

/** A database and a store of one host, and nova-manage with their flags; nova-volume does not run. */
async function aHost(t: Scope) {
  const store = await aStore(t);
  const sql_connection = `sqlite:///${join(store.dir, 'nova.sqlite')}`;
  const db = await connectDb(sql_connection);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  const driver = 'nova.volume.driver.FileISCSIDriver';
  await reportRoom(db, 'store1', { total_gb: 100, free_gb: 100, overcommit_ratio: 1, driver });
  const flagfile = join(store.dir, 'nova.flags');
  const { iscsi_port } = store.flags.read(tgtFlags);
  const flags = { state_path: store.dir, host: 'store1', sql_connection, iscsi_ip_address: '127.0.0.1' };
  writeFileSync(flagfile, flagFileText({ ...flags, iscsi_port, volume_reserved_mb: 0 }));
  const doctor = async (...words: string[]) => {
    const argv = [process.execPath, join(projectRoot(), 'bin/nova-manage'), `--flagfile=${flagfile}`];
    const { stdout, exit_code } = await execute([...argv, 'volume', 'doctor', ...words], { ok: [0, 1] });
    return { said: stdout, code: exit_code };
  };
  return { ...store, db, doctor };
}

async function aVolumeRow(db: NovaDb, over: { status: string; deleted?: number }): Promise<number> {
  const { id } = await db
    .insertInto('volumes')
    .values({
      user_id: 'ann',
      project_id: 'apollo',
      host: 'store1',
      size: 1,
      availability_zone: 'nova',
      display_name: '',
      display_description: '',
      epoch: 1,
      created_at: nowText(),
      ...over,
    })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}
const attach = (db: NovaDb, volume_id: number, instance_id: number, device = '/dev/vdc') =>
  db
    .insertInto('volume_attachments')
    .values({
      volume_id,
      instance_id,
      epoch: 1,
      status: 'attached',
      device,
      auth_username: `user${volume_id}`,
      auth_password: 'secretsecret12',
      created_at: nowText(),
    })
    .execute();

test(
  'doctor tells what differs between rows, files, exports and attachments, and --apply puts it right',
  { skip },
  async (t) => {
    const { db, doctor, driver, dir, flags } = await aHost(t);
    assert.deepEqual(await doctor(), { said: 'nothing differs\n', code: 0 });

    const instance = await anInstance(db);
    const gone = await anInstance(db, { deleted: 1, vm_state: 'deleted' });
    const names = new StoreNames(flags);
    const bytes = async (id: number) =>
      driver.createVolume(names.volume(await volumeById(db, id, { deleted: true })), never);
    const open = await aVolumeRow(db, { status: 'available' });
    await bytes(open);
    await driver.ensureExport(anExport(aVolume({ id: open })), never);
    const deleted = await aVolumeRow(db, { status: 'deleting', deleted: 1 });
    await bytes(deleted);
    const lost = await aVolumeRow(db, { status: 'available' });
    const void_attachment = await aVolumeRow(db, { status: 'in-use' });
    await bytes(void_attachment);
    await attach(db, void_attachment, gone);
    const held_by_none = await aVolumeRow(db, { status: 'in-use' });
    await bytes(held_by_none);
    const shut = await aVolumeRow(db, { status: 'in-use' });
    await bytes(shut);
    await attach(db, shut, instance);
    const held = await aVolumeRow(db, { status: 'available' });
    await bytes(held);
    await attach(db, held, instance, '/dev/vdd');
    await driver.createVolume(aVolume({ id: 99 }), never);

    const name = (id: number) => aVolume({ id }).name;
    const found = await doctor();
    assert.equal(found.code, 1);
    for (const words of [
      `export of ${name(open)}\n    expected: none, since nothing has the volume\n    found:    open\n    --apply:  closes it\n`,
      `${name(deleted)}\n    expected: nothing: it was deleted\n    found:    its bytes are left\n    --apply:  deletes them\n`,
      `${name(lost)}\n    expected: its bytes at the store of store1, since it is available\n    found:    none\n    to do:    put them back`,
      `${name(void_attachment)}\n    expected: attached to no instance that is gone\n    found:    attached at i-0000000${gone}, which is gone\n    --apply:  ends the attachment\n`,
      `${name(held_by_none)}\n    expected: available, since nothing has it\n    found:    in-use\n    --apply:  makes it available\n`,
      `export of ${name(shut)}\n    expected: open to i-0000000${instance}\n    found:    none\n    --apply:  opens it\n`,
      `${name(held)}\n    expected: in-use, since it is attached at i-0000000${instance}\n    found:    available\n    --apply:  makes it in-use\n`,
      `${name(99)}\n    expected: a volume of this database\n    found:    bytes that no row ever named\n    to do:`,
    ])
      assert.ok(found.said.includes(words), `${words} in\n${found.said}`);
    assert.equal(found.said.match(/expected:/g)?.length, 8, found.said);
    assert.doesNotMatch(found.said, /secretsecret/);

    const applied = await doctor('--apply');
    assert.equal(applied.code, 1, 'two are a person’s to decide');
    assert.match(applied.said, /2 differences are left:\n/);
    const there = await driver.inventory();
    assert.deepEqual(there.exports, [name(shut), name(held)]);
    assert.ok(!existsSync(join(dir, 'volumes', name(deleted))));
    const statuses = await db.selectFrom('volumes').select(['id', 'status']).where('deleted', '=', 0).execute();
    assert.deepEqual(Object.fromEntries(statuses.map((row) => [row.id, row.status])), {
      [open]: 'available',
      [lost]: 'available',
      [void_attachment]: 'available',
      [held_by_none]: 'available',
      [shut]: 'in-use',
      [held]: 'in-use',
    });

    rmSync(join(dir, 'volumes', name(99)));
    await bytes(lost);
    assert.deepEqual(await doctor(), { said: 'nothing differs\n', code: 0 });
  },
);

test(
  'what is half made of a deleted row is taken away, if it is this cloud’s and no job is at work on it',
  { skip },
  async (t) => {
    const { db, driver, dir, flags } = await aHost(t);
    const names = new StoreNames(flags);
    const halfMade = async (deleted: number, token?: string) => {
      const id = await aVolumeRow(db, { status: 'creating', deleted });
      const spec = names.volume(await volumeById(db, id, { deleted: true }));
      const path = join(dir, 'volumes', `${spec.name}.new`);
      writeFileSync(path, 'half');
      writeFileSync(join(dir, 'volumes', 'owners', spec.name), token ?? spec.token);
      return { id, there: () => existsSync(path) };
    };
    const [live, gone, busy, theirs] = [
      await halfMade(0),
      await halfMade(1),
      await halfMade(1),
      await halfMade(1, 'nova-0'),
    ];
    const { createVolume } = castClient(volumeContract).at('store1');
    await writing(db, (tx) => castJob(tx, adminContext(), createVolume, { volume_id: busy.id }));

    await takeAwayLeftOvers({ db, log: silentLog, host: 'store1', driver, names }, never);

    assert.deepEqual(
      [live, gone, busy, theirs].map(({ there }) => there()),
      [true, false, true, true],
    );
    await db.updateTable('jobs').set({ state: 'done' }).execute();
    await takeAwayLeftOvers({ db, log: silentLog, host: 'store1', driver, names }, never);
    assert.equal(busy.there(), false);
  },
);

test('where no tgtd runs the doctor says so and starts none; a repair does', { skip }, async (t) => {
  const { db, doctor, driver, dir, flags, stop } = await aHost(t);
  const volume_id = await aVolumeRow(db, { status: 'in-use' });
  await driver.createVolume(new StoreNames(flags).volume(await volumeById(db, volume_id)), never);
  await attach(db, volume_id, await anInstance(db));
  stop();
  assert.deepEqual(await takeDownVolumes({ flags, log: silentLog }), []);
  const says = 'no tgtd runs on store1, so nothing is exported: nova-volume starts it\n';
  const left = readdirSync(join(dir, 'tgt')); // a tgtd that was started leaves a socket and a log, also when it was killed

  const found = await doctor();

  assert.equal(found.code, 1);
  assert.ok(found.said.startsWith(says), found.said);
  assert.match(found.said, /export of volume-00000001\n.*\n +found: +none\n +--apply: +opens it\n$/);
  assert.deepEqual(readdirSync(join(dir, 'tgt')), left);

  const applied = await doctor('--apply');
  assert.match(applied.said, /put right: nothing differs any more\n$/);
  assert.ok(readdirSync(join(dir, 'tgt')).includes('ctl.0'));

  await killTgtd(dir);
  await db.deleteFrom('volume_attachments').execute();
  await db.deleteFrom('iscsi_targets').execute();
  await db.updateTable('volumes').set({ status: 'available' }).execute();
  assert.deepEqual(await doctor(), { said: `${says}nothing differs\n`, code: 0 });
});
