import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { BackendUnavailable } from '../../src/common/errors.ts';
import { execute } from '../../src/common/execute.ts';
import { needs } from '../rigs/needs.ts';
import { atEnd, tempDir } from '../rigs/tmp.ts';
import { anExport, aSnapshot, aStore, aVolume, exported, Guest, never, qemuIo } from './a_store.ts';

const skip = needs('tgtd', 'qemu-io', 'setpriv');
/** A kernel's modules are loaded by the first mount, where there are any. */
const lacks = (file_system: string): string | false =>
  !readFileSync('/proc/filesystems', 'utf8').includes(`\t${file_system}\n`) &&
  !existsSync(`/lib/modules/${release()}/kernel/fs/${file_system}`) &&
  `needs a kernel with ${file_system}`;
const skip_mount =
  needs('root', 'tgtd', 'qemu-io', 'setpriv', 'losetup', 'mkfs.ext4') ||
  (!existsSync('/dev/loop-control') && 'needs loop devices');
const skip_btrfs = skip_mount || needs('mkfs.btrfs') || lacks('btrfs');
const MIB = 1024 * 1024;

/** A file system of its own. @returns its folder and its block device's name */
async function aFileSystem(
  t: TestContext,
  type: 'ext4' | 'btrfs',
  mb: number,
): Promise<{ path: string; device: string }> {
  const dir = tempDir(t, 'fs');
  const image = join(dir, 'image');
  writeFileSync(image, '');
  truncateSync(image, mb * MIB);
  await execute([`mkfs.${type}`, '-q', image]);
  const { stdout } = await execute(['losetup', '--find', '--show', image]);
  const device = stdout.trim();
  const path = join(dir, 'mounted');
  await mkdir(path);
  atEnd(t, async () => void (await execute(['losetup', '-d', device])));
  await execute(['mount', device, path]);
  atEnd(t, async () => void (await execute(['umount', path])));
  return { path, device: device.replace('/dev/', '') };
}
/** Without the tokens of whose they are, which stay until a row is deleted. */
const files = (path: string): string[] =>
  (readdirSync(path, { recursive: true }) as string[]).filter((name) => !/(^|\/)owners/.test(name)).sort();
const heldMb = (path: string): number => (statSync(path).blocks * 512) / MIB;

test('a volume holds no more of the disk than was written, and a size of 0 is 100 MB', { skip }, async (t) => {
  const store = await aStore(t, { volume_overcommit_ratio: 1000 });
  const [large, empty] = [aVolume({ size: 500 }), aVolume({ size: 0 })];
  await store.driver.createVolume(large, never);
  await store.driver.createVolume(empty, never);
  await qemuIo(t, await exported(store.driver, anExport(large)), 'write -P 0x41 499G 1M', 'flush');

  const path = (name: string) => join(store.dir, 'volumes', name);
  assert.equal(statSync(path(large.name)).size, 500 * 1024 * MIB);
  assert.ok(heldMb(path(large.name)) < 2);
  assert.equal(statSync(path(empty.name)).size, 100 * MIB);
  assert.equal(statSync(path(empty.name)).mode & 0o077, 0);
});

test('a snapshot of a resting volume is exact, whatever the volume gets later', { skip }, async (t) => {
  const { driver, dir } = await aStore(t);
  const volume = aVolume();
  await driver.createVolume(volume, never);
  await qemuIo(t, await exported(driver, anExport(volume)), 'write -P 0x41 0 1M', 'write -P 0x42 1023M 1M', 'flush');
  await driver.removeExport(volume, volume.id, never);
  const snapshot = aSnapshot(volume);

  await driver.createSnapshot(snapshot, null, never);
  await driver.createSnapshot(snapshot, null, never); // again changes nothing
  await qemuIo(t, await exported(driver, anExport(volume)), 'write -P 0x58 0 1M', 'write -P 0x58 1023M 1M', 'flush');
  await driver.deleteVolume(volume, never);

  const larger = aVolume({ size: 2 });
  await driver.createVolumeFromSnapshot(larger, snapshot, never);
  const commands = ['read -P 0x41 0 1M', 'read -P 0 1M 1022M', 'read -P 0x42 1023M 1M', 'read -P 0 1024M 1024M'];
  await qemuIo(t, await exported(driver, anExport(larger)), ...commands);
  assert.ok(heldMb(join(dir, 'volumes', larger.name)) < 3);
  assert.deepEqual(await driver.inventory(), {
    volumes: [larger.name],
    snapshots: [snapshot.name],
    exports: [larger.name],
    half_made: { volumes: [], snapshots: [] },
  });
  await driver.deleteSnapshot(snapshot, never);
  await driver.deleteSnapshot(snapshot, never);
  assert.deepEqual((await driver.inventory()).snapshots, []);
});

test('where blocks cannot be shared, who writes stands still while the copy is made', { skip }, async (t) => {
  const { driver } = await aStore(t, { volumes_path: join(tempDir(t, 'ext4'), 'v') });
  const volume = aVolume();
  await driver.createVolume(volume, never);
  const guest = await Guest.start(t, await exported(driver, anExport(volume)), 'h1');
  await guest.run('write -P 0x41 0 8M');
  const order: string[] = [];
  const still = () => {
    order.push('still');
    return Promise.resolve(async () => {
      await guest.run('write -P 0x58 0 8M');
      order.push('goes on');
    });
  };
  const snapshot = aSnapshot(volume);
  await driver.createSnapshot(snapshot, still, never);

  const copy = aVolume();
  await driver.createVolumeFromSnapshot(copy, snapshot, never);
  await qemuIo(t, await exported(driver, anExport(copy)), 'read -P 0x41 0 8M');
  assert.deepEqual(order, ['still', 'goes on']);
});

test('who stood still goes on when the copy fails', { skip }, async (t) => {
  const { driver, dir } = await aStore(t);
  const volume = aVolume();
  await driver.createVolume(volume, never);
  const given_up = new AbortController();
  let goes_on = false;
  const still = () => {
    given_up.abort(new Error('deleted'));
    return Promise.resolve(() => Promise.resolve(void (goes_on = true)));
  };

  await assert.rejects(driver.createSnapshot(aSnapshot(volume), still, given_up.signal), /deleted/);

  assert.ok(goes_on);
  assert.deepEqual(files(join(dir, 'volumes')), ['snapshots', volume.name]);
});

test('on btrfs a snapshot shares its blocks and is taken while a guest writes', { skip: skip_btrfs }, async (t) => {
  const { path } = await aFileSystem(t, 'btrfs', 400);
  const { driver } = await aStore(t, { volumes_path: path, volume_overcommit_ratio: 2 });
  const volume = aVolume({ size: 0 });
  await driver.createVolume(volume, never);
  const guest = await Guest.start(t, await exported(driver, anExport(volume)), 'h1');
  await guest.run('write -P 0x41 0 80M');
  await guest.run('flush');
  const snapshots = [aSnapshot(volume), aSnapshot(volume), aSnapshot(volume), aSnapshot(volume)];

  for (const snapshot of snapshots)
    // 4 x 80 MB would not fit
    await driver.createSnapshot(snapshot, () => Promise.reject(new Error('nobody needs to stand still')), never);
  await guest.run('write -P 0x58 0 80M');

  const copy = aVolume({ size: 0 });
  await driver.createVolumeFromSnapshot(copy, snapshots[0]!, never);
  await qemuIo(t, await exported(driver, anExport(copy)), 'read -P 0x41 0 80M', 'read -P 0 80M 20M');
});

test(
  'beside others’ files on btrfs, what files share is not counted as room twice',
  { skip: skip_btrfs },
  async (t) => {
    const { path } = await aFileSystem(t, 'btrfs', 800);
    await execute(['dd', 'if=/dev/urandom', `of=${join(path, 'other')}`, 'bs=1M', 'count=250', 'conv=fsync']);
    const { driver } = await aStore(t, { volumes_path: join(path, 'volumes') });
    const volume = aVolume({ size: 0 });
    await driver.createVolume(volume, never);
    const limitMb = async () => {
      const asked = driver.createVolume(aVolume({ size: 100 }), never);
      const err = await asked.then(
        () => assert.fail('there is no room for 100 GB'),
        (reason: unknown) => reason,
      );
      assert.ok(err instanceof BackendUnavailable);
      return Number((err.details as { limit: number }).limit) / MIB;
    };
    await qemuIo(t, await exported(driver, anExport(volume)), 'write -P 0x41 0 100M', 'flush');
    await driver.removeExport(volume, volume.id, never);
    await execute(['sync', '-f', path]);
    const before = await limitMb();

    for (let made = 0; made < 3; made++) await driver.createSnapshot(aSnapshot(volume), null, never);
    await execute(['sync', '-f', path]);

    const after = await limitMb();
    assert.ok(after < before + 50, `3 snapshots of 100 MB made ${before} MB of room ${after}`);
  },
);

test(
  'a copy that does not fit into what is free is refused, whatever was promised',
  { skip: skip_mount },
  async (t) => {
    const { path } = await aFileSystem(t, 'ext4', 300);
    const { driver } = await aStore(t, { volumes_path: path, volume_overcommit_ratio: 10 });
    const volume = aVolume({ size: 0 });
    await driver.createVolume(volume, never);
    await qemuIo(t, await exported(driver, anExport(volume)), 'write -P 0x41 0 100M', 'flush');
    await driver.removeExport(volume, volume.id, never);
    const snapshot = aSnapshot(volume);
    await driver.createSnapshot(snapshot, null, never);
    const before = files(path);

    const stands = () => Promise.reject(new Error('nobody has to stand still for it'));
    const wanted = /no room for \S+, a copy of 0\.10 GB: the file system of --volumes_path=\S+ has 0\.0\d GB free/;
    await assert.rejects(driver.createSnapshot(aSnapshot(volume), stands, never), wanted);
    await assert.rejects(driver.createVolumeFromSnapshot(aVolume({ size: 0 }), snapshot, never), wanted);

    assert.deepEqual(files(path), before);
  },
);

test(
  'a store without room says so before it promises, with numbers, and leaves nothing',
  { skip: skip_mount },
  async (t) => {
    const { path } = await aFileSystem(t, 'ext4', 450);
    const { driver } = await aStore(t, { volumes_path: path, volume_reserved_mb: 50 });
    const volumes = [aVolume({ size: 0 }), aVolume({ size: 0 }), aVolume({ size: 0 })];
    for (const volume of volumes) await driver.createVolume(volume, never);
    const before = files(path);

    const one_more = driver.createVolume(aVolume({ size: 0 }), never);
    await assert.rejects(one_more, (err: Error) => {
      assert.ok(err instanceof BackendUnavailable);
      assert.match(err.message, /no room for volume-\w+ of 0\.10 GB: --volumes_path=\S+ has 0\.3\d GB for volumes/);
      assert.match(err.message, /--volume_reserved_mb=50 aside.*0\.29 GB are promised.*--volume_overcommit_ratio=1/);
      return true;
    });
    assert.deepEqual(files(path), before);
    await driver.deleteVolume(volumes[0]!, never);
    await driver.createVolume(aVolume({ size: 0 }), never);
  },
);

test('volumes asked for at once never get more room than there is', { skip: skip_mount }, async (t) => {
  const { path } = await aFileSystem(t, 'ext4', 450);
  const { driver } = await aStore(t, { volumes_path: path, volume_reserved_mb: 50 });

  const asked = await Promise.allSettled(
    Array.from({ length: 8 }, () => driver.createVolume(aVolume({ size: 0 }), never)),
  );

  assert.equal(asked.filter(({ status }) => status === 'fulfilled').length, 3);
  assert.equal((await driver.inventory()).volumes.length, 3);
});

test(
  'a disk that fills up while a snapshot is copied fails it, and leaves nothing of it',
  { skip: skip_mount },
  async (t) => {
    const { path } = await aFileSystem(t, 'ext4', 300);
    const { driver } = await aStore(t, { volumes_path: path, volume_overcommit_ratio: 3 });
    const volume = aVolume({ size: 0 });
    await driver.createVolume(volume, never);
    await qemuIo(t, await exported(driver, anExport(volume)), 'write -P 0x41 0 100M', 'flush');
    await driver.removeExport(volume, volume.id, never);
    const before = files(path);

    const fills_up = async () => {
      await execute(['fallocate', '-l', '120M', join(path, 'other')]);
      return async () => rmSync(join(path, 'other'));
    };
    const snapshot = driver.createSnapshot(aSnapshot(volume), fills_up, never);

    await assert.rejects(snapshot, /cannot be written: the file system of --volumes_path=\S+ is full .*delete volumes/);
    assert.deepEqual(files(path), before);
  },
);

test(
  'a guest that fills an over-committed store gets an error for its write, and tgtd lives',
  { skip: skip_mount },
  async (t) => {
    const { path } = await aFileSystem(t, 'ext4', 100);
    const { driver } = await aStore(t, { volumes_path: path, volume_overcommit_ratio: 3 });
    const volume = aVolume({ size: 0 });
    await driver.createVolume(volume, never);
    const guest = await Guest.start(t, await exported(driver, anExport(volume)), 'h1');
    await guest.run('write -P 0x41 0 10M');
    guest.say('write -P 0x42 10M 90M');
    await guest.prompt();

    assert.match(guest.said, /write failed: (Input\/output error|No space left)/);
    await guest.run('read -P 0x41 0 10M');
  },
);

test('what a deleted volume held is not in the next one', { skip: skip_mount }, async (t) => {
  const { path } = await aFileSystem(t, 'ext4', 150);
  const { driver } = await aStore(t, { volumes_path: path });
  for (let round = 0; round < 3; round++) {
    const volume = aVolume({ size: 0 });
    await driver.createVolume(volume, never);
    const connection = await exported(driver, anExport(volume)); // most of the disk: the same blocks come again
    await qemuIo(
      t,
      connection,
      'read -P 0 0 100M',
      'write -P 0x53 0 50M',
      'read -P 0 50M 50M',
      'write -P 0x53 50M 50M',
    );
    await driver.deleteVolume(volume, never);
    assert.deepEqual(
      files(path).filter((name) => name.startsWith('volume')),
      [],
    );
  }
});

test('what a guest flushed is on the disk, not in a cache', { skip: skip_mount }, async (t) => {
  const { path, device } = await aFileSystem(t, 'ext4', 300);
  const { driver } = await aStore(t, { volumes_path: path });
  const volume = aVolume({ size: 0 });
  await driver.createVolume(volume, never);
  const guest = await Guest.start(t, await exported(driver, anExport(volume)), 'h1');
  const writtenMb = () => Number(readFileSync(`/sys/block/${device}/stat`, 'utf8').trim().split(/\s+/)[6]) / 2048;
  await execute(['sync', '-f', path]);
  const before = writtenMb();

  await guest.run('write -P 0x41 0 64M');
  await guest.run('flush');

  assert.ok(writtenMb() - before >= 64, `${writtenMb() - before} MB of 64 were written to ${device}`);
});

test('a half-made volume is not taken for one, and is made anew', { skip }, async (t) => {
  const { driver, dir } = await aStore(t);
  const volume = aVolume({ size: 0 });
  writeFileSync(join(dir, 'volumes', `${volume.name}.new`), 'half');

  const { volumes, half_made } = await driver.inventory();
  assert.deepEqual([volumes, half_made.volumes], [[], [volume.name]]);
  await driver.createVolume(volume, never);

  await qemuIo(t, await exported(driver, anExport(volume)), 'read -P 0 0 100M');
  assert.ok(!existsSync(join(dir, 'volumes', `${volume.name}.new`)));
});

test('a folder that cannot be written to is named with its flag at the start', { skip }, async (t) => {
  const file = join(tempDir(t, 'no-folder'), 'file');
  writeFileSync(file, '');

  await assert.rejects(aStore(t, { volumes_path: file }), new RegExp(`cannot write to --volumes_path=${file}`));
});
