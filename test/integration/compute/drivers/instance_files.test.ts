import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pino } from 'pino';
import { execute } from '../../../../src/common/execute.ts';
import { Aborted, Conflict, InvalidInput } from '../../../../src/common/errors.ts';
import { Flags } from '../../../../src/common/flags.ts';
import type { FetchImage, GuestImage } from '../../../../src/compute/drivers/driver.ts';
import { InstanceFiles } from '../../../../src/compute/drivers/instance_files.ts';
import { needs } from '../../../rigs/needs.ts';
import { tempDir } from '../../../rigs/tmp.ts';
import { aGuestSpec, aNic } from '../../../unit/compute/drivers/specs.ts';

const skip = needs('qemu-img', 'mke2fs', 'debugfs', 'e2fsck', 'resize2fs');
const never = new AbortController().signal;
const MIB = 1024 ** 2;
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

/** InstanceFiles over a folder of the test's own, and a store of images to fetch from. */
async function aRig(t: TestContext, flags: Record<string, unknown> = {}) {
  const dir = tempDir(t);
  const said: Record<string, unknown>[] = [];
  const log = pino(
    { level: 'warn' },
    { write: (line: string) => said.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const files = new InstanceFiles({ flags: Flags.of({ instances_path: join(dir, 'i'), ...flags }), log });
  await files.initHost(never);
  const fetched: number[] = [];
  const paths = new Map<number, string>();
  const fetch: FetchImage = async (image, path) => {
    fetched.push(image.id);
    await copyFile(paths.get(image.id) ?? '', path);
  };
  const image = (name: string, disk_format: string): GuestImage => {
    const path = join(dir, name);
    const id = paths.size + 1;
    paths.set(id, path);
    const checksum = createHash('sha256').update(readFileSync(path)).digest('hex');
    return { id, checksum, size_bytes: statSync(path).size, disk_format };
  };
  return { dir, files, fetch, fetched, image, said };
}

async function anExt4(dir: string, name: string, tree: (root: string) => void = () => undefined): Promise<void> {
  const root = join(dir, `${name}.tree`);
  mkdirSync(root);
  tree(root);
  await execute(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, join(dir, name), '8M'], { env: { PATH } });
}

const debugfs = async (disk: string, command: string): Promise<string> =>
  (await execute(['debugfs', '-R', command, disk], { env: { PATH } })).stdout;
const info = async (path: string) =>
  JSON.parse((await execute(['qemu-img', 'info', '--output=json', path])).stdout) as Record<string, unknown>;

test('a root disk shares the image and grows to its size; run again, it is the same disk', { skip }, async (t) => {
  const { dir, files, fetch, fetched, image } = await aRig(t);
  writeFileSync(join(dir, 'raw'), Buffer.alloc(3 * MIB, 1));
  const spec = aGuestSpec({ image: image('raw', 'raw'), root_gb: 2, ephemeral_gb: 1 });

  const made = await files.prepare(spec, fetch, never);
  const { ino } = statSync(made.root!.path);
  const again = await files.prepare(spec, fetch, never);

  assert.deepEqual(again, made);
  assert.equal(statSync(made.root!.path).ino, ino);
  assert.deepEqual(fetched, [1]);
  const disk = await info(made.root!.path);
  assert.equal(made.root!.format, 'qcow2');
  assert.equal(disk['format'], 'qcow2');
  assert.equal(disk['virtual-size'], 2 * 1024 * MIB);
  assert.equal(disk['backing-filename'], `../_base/${spec.image!.checksum}.raw`);
  assert.equal(statSync(made.ephemeral ?? '').size, 1024 * MIB);
  assert.ok(statSync(made.ephemeral ?? '').blocks * 512 < MIB, 'sparse');
});

test(
  'a raw ext4 image fills its disk, which guests of one size share, and the image stays as it was',
  { skip },
  async (t) => {
    const { dir, files, fetch, image, said } = await aRig(t);
    await anExt4(dir, 'root', (root) => writeFileSync(join(root, 'motd'), 'hello'));
    const root_image = image('root', 'ami');
    const nics = [aNic({ injected: false })];
    const prepare = async (name: string, root_gb: number) =>
      (await files.prepare(aGuestSpec({ name, image: root_image, root_gb, nics, key_data: null }), fetch, never)).root!;
    const blocks = async (disk: string) =>
      Number(/^Block count: *(\d+)/m.exec(await debugfs(disk, 'show_super_stats -h'))?.[1]);

    const small = await prepare('small', 0);
    const large = [await prepare('large1', 1), await prepare('large2', 1)];

    assert.equal((await info(small.path))['backing-filename'], `../_base/${root_image.checksum}.raw`);
    const grown = `${root_image.checksum}.1G.raw`;
    for (const { path } of large) assert.equal((await info(path))['backing-filename'], `../_base/${grown}`);
    const base = join(files.root, '_base', grown);
    assert.equal(await blocks(base), MIB); // of 1 KiB
    assert.equal(await debugfs(base, 'cat motd'), 'hello');
    await execute(['e2fsck', '-f', '-n', base], { env: { PATH } });
    assert.equal(await blocks(join(files.root, '_base', `${root_image.checksum}.raw`)), 8 * 1024);
    assert.deepEqual([readdirSync(join(files.root, '_base')).length, said], [2, []]);
  },
);

test('an ext4 image that cannot be grown boots as it is, with a warning that says why', { skip }, async (t) => {
  const { dir, files, fetch, image, said } = await aRig(t);
  await anExt4(dir, 'root');
  writeFileSync(join(dir, 'root'), readFileSync(join(dir, 'root')).fill(1, 2048)); // its super block is all there is
  const root_image = image('root', 'ami');

  const { root } = await files.prepare(aGuestSpec({ image: root_image, root_gb: 1, key_data: null }), fetch, never);

  assert.equal((await info(root!.path))['backing-filename'], `../_base/${root_image.checksum}.raw`);
  assert.equal(said[0]?.['msg'], 'root file system is not grown to its disk');
  assert.match(String(said[0]['reason']), /^e2fsck /);
  assert.deepEqual(readdirSync(join(files.root, '_base')), [`${root_image.checksum}.raw`]);
});

test('an image that is larger than the type keeps its size', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t);
  await execute(['qemu-img', 'create', '-q', '-f', 'qcow2', join(dir, 'big'), '3G']);

  const { root } = await files.prepare(aGuestSpec({ image: image('big', 'qcow2'), root_gb: 1 }), fetch, never);

  assert.equal((await info(root!.path))['virtual-size'], 3 * 1024 * MIB);
});

test('without copy-on-write a root disk is a raw copy of its own', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t, { use_cow_images: false });
  await execute(['qemu-img', 'create', '-q', '-f', 'qcow2', join(dir, 'disk'), '16M']);

  const { root } = await files.prepare(aGuestSpec({ image: image('disk', 'qcow2'), root_gb: 1 }), fetch, never);

  assert.equal(root!.format, 'raw');
  assert.equal(statSync(root!.path).size, 1024 * MIB);
  assert.equal((await info(root!.path))['backing-filename'], undefined);
});

test('an image that would read files of the host is refused, and nothing keeps it', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t);
  await execute(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', join(dir, 'backed')]);
  await execute([
    'qemu-img',
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    `data_file=${join(dir, 'x')}`,
    join(dir, 'apart'),
    '1M',
  ]);

  for (const name of ['backed', 'apart'])
    await assert.rejects(files.prepare(aGuestSpec({ image: image(name, 'qcow2') }), fetch, never), InvalidInput);

  assert.deepEqual(readdirSync(join(files.root, '_base')), []);
});

test('kernel and ramdisk lie beside the disk, and a guest folder goes as a whole', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t);
  for (const name of ['kernel', 'ramdisk', 'root']) writeFileSync(join(dir, name), Buffer.alloc(1024, name));
  const spec = aGuestSpec({
    image: image('root', 'ami'),
    kernel: image('kernel', 'aki'),
    ramdisk: image('ramdisk', 'ari'),
  });

  const made = await files.prepare(spec, fetch, never);

  assert.deepEqual(readFileSync(made.kernel ?? ''), readFileSync(join(dir, 'kernel')));
  assert.deepEqual(readFileSync(made.ramdisk ?? ''), readFileSync(join(dir, 'ramdisk')));
  await files.remove(spec.name);
  await files.remove(spec.name);
  assert.deepEqual(readdirSync(files.root), ['_base']);
});

test('a folder of another instance is refused, and stays when this one is removed', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t);
  writeFileSync(join(dir, 'raw'), Buffer.alloc(MIB));
  const spec = aGuestSpec({ image: image('raw', 'raw') });
  await files.prepare(spec, fetch, never);

  await assert.rejects(files.prepare({ ...spec, uuid: 'another' }, fetch, never), Conflict);
  await files.remove(spec.name, 'another');

  assert.ok(existsSync(files.path(spec.name, 'disk')));
});

test('a name that leads out of the folder is refused', () => {
  const files = new InstanceFiles({
    flags: Flags.of({ instances_path: '/dev/null/instances' }),
    log: pino({ level: 'silent' }),
  });

  for (const name of ['..', '../x', 'a/b', '', '_base', '.x'])
    assert.throws(() => files.path(name), InvalidInput, name);
});

const STATIC = aNic({ injected: true, dns: [] });

test('address and key are written into a raw ext4 image, whose base stays as it was', { skip }, async (t) => {
  const { dir, files, fetch, image, said } = await aRig(t);
  await anExt4(dir, 'root', (root) => {
    mkdirSync(join(root, 'root/.ssh'), { recursive: true });
    writeFileSync(join(root, 'root/.ssh/authorized_keys'), 'ssh-rsa OLD old');
  });
  const spec = aGuestSpec({ image: image('root', 'ami'), nics: [STATIC], key_data: 'ssh-rsa NEW new', root_gb: 1 });

  const { root } = await files.prepare(spec, fetch, never);

  assert.deepEqual(said, []);
  assert.equal(root!.format, 'raw');
  assert.equal(statSync(root!.path).size, 1024 * MIB);
  assert.match(
    await debugfs(root!.path, 'cat /etc/network/interfaces'),
    /iface eth0 inet static\n {4}address 10\.0\.0\.10\n/,
  );
  assert.equal(await debugfs(root!.path, 'cat /root/.ssh/authorized_keys'), 'ssh-rsa OLD old\nssh-rsa NEW new\n');
  assert.match(await debugfs(root!.path, 'stat /root/.ssh/authorized_keys'), /Mode: {2}0600 /);
  assert.match(await debugfs(root!.path, 'stat /root/.ssh'), /Mode: {2}0700 /);
  await execute(['e2fsck', '-fn', root!.path], { env: { PATH } });
  const base = createHash('sha256').update(readFileSync(join(files.root, '_base', `${spec.image!.checksum}.raw`)));
  assert.equal(base.digest('hex'), spec.image!.checksum);
});

test('a link in an image does not lead a write out of it', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t);
  const victim = join(dir, 'victim');
  writeFileSync(victim, 'untouched');
  await anExt4(dir, 'root');
  const links = ['mkdir /etc', 'mkdir /root', `symlink /root/.ssh ${dir}`, `mkdir /etc/network`].concat(
    `symlink /etc/network/interfaces ${victim}`,
  );
  writeFileSync(join(dir, 'links'), `${links.join('\n')}\n`);
  await execute(['debugfs', '-w', '-f', join(dir, 'links'), join(dir, 'root')], { env: { PATH } });
  const before = readdirSync(dir);

  await files.prepare(aGuestSpec({ image: image('root', 'ami'), nics: [STATIC], key_data: 'k' }), fetch, never);

  assert.equal(readFileSync(victim, 'utf8'), 'untouched');
  assert.deepEqual(readdirSync(dir), before);
});

test('an image that cannot take the files boots without them, with a warning that says why', { skip }, async (t) => {
  const { dir, files, fetch, image, said } = await aRig(t);
  writeFileSync(join(dir, 'partitioned'), Buffer.alloc(MIB));
  await anExt4(dir, 'broken');
  const broken = readFileSync(join(dir, 'broken'));
  broken.fill(0xff, 1024 + 100, 1024 + 1024); // the magic number stays, the rest makes no sense
  writeFileSync(join(dir, 'broken'), broken);

  for (const name of ['partitioned', 'broken']) {
    const spec = aGuestSpec({ name: `guest-${name}`, image: image(name, 'raw'), nics: [STATIC] });
    const { root } = await files.prepare(spec, fetch, never);
    assert.equal(root!.format, 'qcow2');
  }

  assert.match(
    String(said[0]?.['reason']),
    /^\/etc\/network\/interfaces not written into the disk: image 1 is raw and not/,
  );
  assert.match(String(said[1]?.['reason']), /^\/etc\/network\/interfaces not written into the disk: e2fsck/);
});

test('a prepare that was stopped anywhere is made whole by the next', { skip }, async (t) => {
  const { dir, files, fetch, image } = await aRig(t);
  await anExt4(dir, 'root');
  const spec = aGuestSpec({ image: image('root', 'ami'), nics: [STATIC], ephemeral_gb: 1 });

  for (let ms = 0; ms < 60; ms += 6) await files.prepare(spec, fetch, AbortSignal.timeout(ms)).catch(onlyAborted);
  const { root } = await files.prepare(spec, fetch, never);

  assert.match(await debugfs(root!.path, 'cat /etc/network/interfaces'), /10\.0\.0\.10/);
  assert.deepEqual(readdirSync(files.path(spec.name)).sort(), ['disk', 'disk.local', 'guest.json']);
});

function onlyAborted(err: unknown): void {
  assert.ok(err instanceof Aborted, String(err));
}

test('a start says what is wrong with its folder or its qemu-img', { skip }, async (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, 'file'), '');
  const start = (flags: Record<string, unknown>) =>
    new InstanceFiles({ flags: Flags.of(flags), log: pino({ level: 'silent' }) }).initHost(never);

  await assert.rejects(
    start({ instances_path: join(dir, 'file/i') }),
    /^BackendUnavailable: --instances_path=.*ENOTDIR/,
  );
  await assert.rejects(
    start({ instances_path: join(dir, 'i'), qemu_img: 'no-such-img' }),
    /--qemu_img=no-such-img: .*Install qemu-utils/,
  );
});
