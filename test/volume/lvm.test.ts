import assert from 'node:assert/strict';
import { open, readFile, writeFile } from 'node:fs/promises';
import test from 'node:test';
import { BackendUnavailable, Conflict } from '../../src/common/errors.ts';
import { execute } from '../../src/common/execute.ts';
import { ISCSIDriver } from '../../src/volume/drivers/lvm.ts';
import { needs } from '../rigs/needs.ts';
import { aFakeLvm, type AFakeLvm } from './a_fake_lvm.ts';
import { anExport, aSnapshot, aStore, aVolume, exported, Guest, never, qemuIo, type AStore } from './a_store.ts';
import type { TestContext } from 'node:test';

const skip = needs('root', 'tgtd', 'qemu-io', 'setpriv');
const SAID = ' (no real volume group was used: LVM is played by a program over files)';

const anLvmStore = (t: TestContext, lvm: AFakeLvm, over: Record<string, unknown> = {}): Promise<AStore> =>
  aStore(t, { volume_group: lvm.group, ...over }, ISCSIDriver);

test(`a volume is Nova’s logical volume, reached over iSCSI, wiped and removed${SAID}`, { skip }, async (t) => {
  const lvm = aFakeLvm(t);
  const { driver } = await anLvmStore(t, lvm);
  const [one, empty] = [aVolume(), aVolume({ size: 0 })];
  await driver.createVolume(one, never);
  await driver.createVolume(empty, never);
  await driver.createVolume(empty, never);
  assert.deepEqual(lvm.changes(), [
    `lvcreate -L 1G --addtag ${one.token} -n ${one.name} ${lvm.group} --yes`,
    `lvcreate -L 100M --addtag ${empty.token} -n ${empty.name} ${lvm.group} --yes`,
  ]);
  assert.deepEqual(await driver.stats(), { total_gb: 4, free_gb: 2 });

  await qemuIo(t, await exported(driver, anExport(empty)), 'write -P 0x41 0 100M', 'flush');
  const file = await open(`/dev/${lvm.group}/${empty.name}`); // what was behind it stays readable when it is removed
  t.after(() => file.close());
  const last = async () => (await file.read(Buffer.alloc(4), 0, 4, 100 * 1024 * 1024 - 4)).buffer.toString('latin1');
  assert.equal(await last(), 'AAAA');
  await driver.deleteVolume(empty, never);
  await driver.deleteVolume(empty, never);

  assert.equal(await last(), '\0\0\0\0');
  assert.deepEqual(lvm.changes(), [`lvremove -f ${lvm.group}/${empty.name}`]);
  const half_made = { volumes: [], snapshots: [] };
  assert.deepEqual(await driver.inventory(), { volumes: [one.name], snapshots: [], exports: [], half_made });
});

test(`--volume_clear=none removes without wiping${SAID}`, { skip }, async (t) => {
  const lvm = aFakeLvm(t);
  const { driver } = await anLvmStore(t, lvm, { volume_clear: 'none' });
  const volume = aVolume({ size: 0 });
  await driver.createVolume(volume, never);
  await qemuIo(t, await exported(driver, anExport(volume)), 'write -P 0x41 0 1M', 'flush');
  const file = await open(`/dev/${lvm.group}/${volume.name}`);
  t.after(() => file.close());

  await driver.deleteVolume(volume, never);

  assert.equal((await file.read(Buffer.alloc(4), 0, 4, 0)).buffer.toString('latin1'), 'AAAA');
});

test(`a snapshot is taken while a guest writes, and becomes a volume${SAID}`, { skip }, async (t) => {
  const lvm = aFakeLvm(t);
  const { driver } = await anLvmStore(t, lvm);
  const volume = aVolume({ size: 0 });
  await driver.createVolume(volume, never);
  const guest = await Guest.start(t, await exported(driver, anExport(volume)), 'h1');
  await guest.run('write -P 0x41 0 2M');
  const snapshot = aSnapshot(volume);
  lvm.changes();

  const location = await driver.createSnapshot(
    snapshot,
    () => Promise.reject(new Error('LVM needs nobody to stand still')),
    never,
  );
  await guest.run('write -P 0x42 0 2M');
  const copy = aVolume({ size: 1 });
  await driver.createVolumeFromSnapshot(copy, snapshot, never);

  assert.equal(location, `${lvm.group}/_${snapshot.name}`);
  assert.deepEqual(lvm.changes(), [
    `lvcreate -L 102M --addtag ${snapshot.token} --name _${snapshot.name} --snapshot ${lvm.group}/${volume.name}`,
    `lvcreate -L 1G --addtag ${copy.token} -n ${copy.name}.new ${lvm.group} --yes`,
    `lvrename ${lvm.group} ${copy.name}.new ${copy.name}`,
  ]);
  await qemuIo(t, await exported(driver, anExport(copy)), 'read -P 0x41 0 2M', 'read -P 0 2M 98M');
  assert.deepEqual((await driver.inventory()).snapshots, [snapshot.name]);
  await assert.rejects(driver.deleteVolume(volume, never), Conflict);

  lvm.changes();
  const file = await open(`/dev/${lvm.group}/_${snapshot.name}`); // what was behind it stays readable when it is removed
  t.after(() => file.close());
  await driver.deleteSnapshot(snapshot, never);
  assert.equal((await file.read(Buffer.alloc(4), 0, 4, 0)).buffer.toString('latin1'), '\0\0\0\0');
  assert.equal((await file.stat()).size, 102 * 1024 * 1024);
  assert.deepEqual(lvm.changes(), [
    `lvconvert --splitsnapshot --yes ${lvm.group}/_${snapshot.name}`,
    `lvremove -f ${lvm.group}/_${snapshot.name}`,
  ]);
  await driver.deleteVolume(volume, never);
  assert.deepEqual((await driver.inventory()).volumes, [copy.name]);
});

test(
  `a copy of a snapshot that was killed midway is done anew in its place, so no bytes go unwiped${SAID}`,
  { skip },
  async (t) => {
    const lvm = aFakeLvm(t);
    const { driver } = await anLvmStore(t, lvm);
    const [volume, copy] = [aVolume({ size: 0 }), aVolume({ size: 0 })];
    const write = (name: string, text: string) => writeFile(`/dev/${lvm.group}/${name}`, text, { flag: 'r+' });
    await driver.createVolume(volume, never);
    await write(volume.name, 'what the tenant wrote');
    const snapshot = aSnapshot(volume);
    await driver.createSnapshot(snapshot, null, never);
    const aside = `${copy.name}.new`;
    await execute(['lvcreate', '-L', '100M', '--addtag', copy.token, '-n', aside, lvm.group, '--yes']);
    await write(aside, 'what the tenant');
    assert.deepEqual((await driver.inventory()).half_made.volumes, [copy.name]);
    lvm.changes();

    await driver.createVolumeFromSnapshot(copy, snapshot, never);

    assert.deepEqual(lvm.changes(), [`lvrename ${lvm.group} ${aside} ${copy.name}`]);
    const made = await readFile(`/dev/${lvm.group}/${copy.name}`);
    assert.equal(made.toString('latin1', 0, 25), 'what the tenant wrote\0\0\0\0');
  },
);

test(`a failed command is tried three times, and a full group at once${SAID}`, { skip }, async (t) => {
  const lvm = aFakeLvm(t);
  const { driver, logged } = await anLvmStore(t, lvm);

  lvm.failNext(2);
  await driver.createVolume(aVolume(), never);
  assert.equal(logged().split('an LVM command failed and is tried again').length - 1, 2);

  lvm.failNext(3);
  await assert.rejects(driver.createVolume(aVolume(), never), BackendUnavailable);
  await assert.rejects(
    driver.createVolume(aVolume({ size: 4 }), never),
    new RegExp(`no room for volume-\\w+ of 4 GB: volume group ${lvm.group} .--volume_group. has 3 GB free of 4 GB`),
  );
});

test(`nova-volume does not start without its volume group${SAID}`, { skip }, async (t) => {
  const lvm = aFakeLvm(t);

  await assert.rejects(
    anLvmStore(t, { ...lvm, group: 'missing' }),
    new RegExp(
      `no volume group missing .--volume_group.: make it by vgcreate.*This host has: other-group, ${lvm.group}`,
    ),
  );
});

test(`logical volumes that another row made are neither adopted nor removed${SAID}`, { skip }, async (t) => {
  const lvm = aFakeLvm(t);
  const { driver } = await anLvmStore(t, lvm);
  const theirs = aVolume({ size: 0 });
  const snapshot = aSnapshot(theirs);
  await driver.createVolume(theirs, never);
  await driver.createSnapshot(snapshot, null, never);
  const [ours, our_snapshot] = [aVolume({ id: theirs.id, size: 0 }), { ...aSnapshot(theirs), name: snapshot.name }];
  lvm.changes();

  await assert.rejects(driver.createVolume(ours, never), /at volume group \S+ already.* --volume_name_template/);
  await assert.rejects(driver.createVolumeFromSnapshot(ours, snapshot, never), Conflict);
  await assert.rejects(driver.createSnapshot(our_snapshot, null, never), /--snapshot_name_template/);
  assert.equal(await driver.deleteVolume({ ...ours, made: true }, never), false);
  assert.equal(await driver.deleteSnapshot(our_snapshot, never), false);

  assert.deepEqual(lvm.changes(), []);
  await driver.createSnapshot(snapshot, null, never); // its own, again
  assert.equal(await driver.deleteSnapshot(snapshot, never), true);
});
