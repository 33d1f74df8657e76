import assert from 'node:assert/strict';
import { constants, createCipheriv, createHash, generateKeyPairSync, publicEncrypt, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { RequestContext } from '../../../src/common/context.ts';
import { connectDb, writing, type NovaDb } from '../../../src/common/db/connect.ts';
import { castJob } from '../../../src/common/db/jobs.ts';
import { syncDb } from '../../../src/common/db/migrate.ts';
import type { Image } from '../../../src/common/db/images.ts';
import {
  BucketNotFound,
  ImageNotFound,
  InvalidInput,
  KeyNotFound,
  NotAuthorized,
  UnsupportedOperation,
} from '../../../src/common/errors.ts';
import { Flags } from '../../../src/common/flags.ts';
import { imageFetcher } from '../../../src/common/image/fetch.ts';
import { imagePath } from '../../../src/common/image/store.ts';
import { silentLog } from '../../../src/common/log.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { publishCasts } from '../../../src/common/service.ts';
import { runManage } from '../../../src/manage/run.ts';
import { ImageApi } from '../../../src/objectstore/api.ts';
import { openStore, type Store } from '../../../src/objectstore/drivers/store.ts';
import { start } from '../../../src/objectstore/main.ts';
import { objectstoreClient } from '../../../src/objectstore/rpc.ts';
import { aContext, anImage, aProject } from '../../builders.ts';
import { needs } from '../../rigs/needs.ts';
import { freePort } from '../../rigs/free_port.ts';
import { atEnd, tempDir, type Scope } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';
import { run } from './an_object_store.ts';

interface Rig {
  dir: string;
  port: number;
  db: NovaDb;
  bus: MemoryBus;
  api: ImageApi;
  /** The buckets, without a request. */
  store: Store;
  images_path: string;
}

/** nova-objectstore as its main starts it, with the bus in this process, and the part of it that runs in nova-api. */
async function aDaemon(t: Scope): Promise<Rig> {
  const dir = tempDir(t, 'images');
  const port = await freePort();
  const flags = Flags.of({
    state_path: dir,
    s3_listen: '127.0.0.1',
    s3_host: '127.0.0.1',
    s3_port: port,
    job_poll_interval: 1,
  });
  const db = await connectDb(`sqlite:///${dir}/nova.sqlite`);
  atEnd(t, () => db.destroy());
  await syncDb(db);
  await aProject(db, 'apollo', 'ann');
  await aProject(db, 'gemini', 'bob');
  const bus = new MemoryBus();
  publishCasts(db, bus, silentLog);
  const running = await start({ flags, log: silentLog, db, bus, host: 'node1' });
  atEnd(t, async () => {
    await running.stop();
    await bus.close();
  });
  const store = openStore(join(dir, 'buckets'));
  for (const [bucket, project_id, user_id] of [
    ['web', 'apollo', 'ann'],
    ['bobs', 'gemini', 'bob'],
  ] as const)
    await store.buckets.create(bucket, { project_id, user_id });
  const former = { project_id: 'apollo', project_created_at: '2011-04-15T00:00:00.000Z', user_id: 'ann' };
  await store.buckets.create('of-a-former', former);
  return { dir, port, db, bus, store, api: new ImageApi({ db, bus }), images_path: join(dir, 'images') };
}

async function putObject({ store }: Rig, bucket: string, key: string, bytes: Buffer): Promise<void> {
  async function* chunks(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
  }
  await store.objects.put(bucket, key, chunks(), { content_type: null, headers: {}, conditions: null });
}

/** Waits until the image is no longer on its way. */
async function settled({ api }: Rig, ctx: RequestContext, id: number): Promise<Image> {
  let last = '';
  const look = async () => {
    const image = await api.show(ctx, id);
    const { image_state } = JSON.parse(image.properties) as { image_state: string };
    last = `${image.status}, ${image_state}`;
    return /^(active, available$|error, failed)/.test(last) && image;
  };
  return until(`image ${id} is settled`, look, () => `it is ${last}`);
}

const ann = aContext();
const bob = aContext({ user_id: 'bob', project_id: 'gemini' });
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

test('an uploaded disk is registered, answered at once, active soon, and reaches a compute host byte for byte', async (t) => {
  const rig = await aDaemon(t);
  const bytes = randomBytes(3_000_000);
  await putObject(rig, 'web', 'disks/tiny.img', bytes);

  const registered = await rig.api.register(ann, { location: 'web/disks/tiny.img', description: 'a disk' });

  assert.deepEqual([registered.status, registered.name, registered.is_public], ['queued', 'tiny.img', 0]);
  const image = await settled(rig, ann, registered.id);
  assert.deepEqual(
    [image.status, image.checksum, image.size_bytes, image.container_format, image.disk_format, image.location],
    ['active', sha256(bytes), bytes.length, 'bare', 'raw', 'web/disks/tiny.img'],
  );
  assert.ok(readFileSync(imagePath(rig.images_path, image.id)).equals(bytes));

  const flags = Flags.of({ s3_host: '127.0.0.1', s3_port: rig.port, images_path: join(rig.dir, 'other') });
  const elsewhere = imageFetcher({ flags, log: silentLog });
  const wanted = { id: image.id, checksum: sha256(bytes), size_bytes: bytes.length };
  await elsewhere(wanted, join(rig.dir, 'fetched'), t.signal);
  assert.ok(readFileSync(join(rig.dir, 'fetched')).equals(bytes));
});

test("a location that is wrong, or not the caller's, is refused before there is an image", async (t) => {
  const rig = await aDaemon(t);
  for (const bucket of ['bobs', 'of-a-former']) await putObject(rig, bucket, 'disk', Buffer.from('x'));
  const refused = (location: string, error: new (message: string) => Error) =>
    assert.rejects(rig.api.register(ann, { location }), error, location);

  await refused('nowhere/disk', BucketNotFound);
  await refused('web/no-such-disk', KeyNotFound);
  await refused('bobs/disk', NotAuthorized);
  await refused('of-a-former/disk', NotAuthorized);
  await refused('web', InvalidInput);
  await refused('../etc/passwd', InvalidInput);

  assert.deepEqual(await rig.api.list(ann), []);
});

test('qcow2 is recognised, kernel and ramdisk must be what they are called', async (t) => {
  const rig = await aDaemon(t);
  await putObject(rig, 'web', 'disk', Buffer.concat([Buffer.from('514649fb', 'hex'), Buffer.alloc(500)]));
  await putObject(rig, 'web', 'vmlinuz', Buffer.from('kernel'));
  const { id: kernel_id } = await rig.api.register(ann, { location: 'web/vmlinuz', container_format: 'aki' });

  const { id } = await rig.api.register(ann, { location: 'web/disk', kernel_id });

  const image = await settled(rig, ann, id);
  assert.deepEqual([image.disk_format, image.container_format, image.kernel_id], ['qcow2', 'ami', kernel_id]);
  await assert.rejects(rig.api.register(ann, { location: 'web/disk', ramdisk_id: kernel_id }), /is no ramdisk/);
  await assert.rejects(rig.api.register(ann, { location: 'web/disk', kernel_id: 999 }), ImageNotFound);
});

test('an empty object never becomes active, and says why', async (t) => {
  const rig = await aDaemon(t);
  await putObject(rig, 'web', 'empty', Buffer.alloc(0));
  const { id } = await rig.api.register(ann, { location: 'web/empty' });

  const image = await settled(rig, ann, id);

  assert.deepEqual([image.status, image.checksum], ['error', null]);
  assert.match(image.fault ?? '', /empty/);
  assert.equal(existsSync(imagePath(rig.images_path, id)), false);
});

test('deregistering takes record and bytes, also while the bytes still come', async (t) => {
  const rig = await aDaemon(t);
  await putObject(rig, 'web', 'disk', randomBytes(30_000_000));
  const first = await rig.api.register(ann, { location: 'web/disk' });
  await settled(rig, ann, first.id);
  const second = await rig.api.register(ann, { location: 'web/disk' });

  for (const { id } of [first, second]) await rig.api.deregister(ann, id);

  await assert.rejects(rig.api.show(ann, first.id), ImageNotFound);
  await assert.rejects(rig.api.deregister(ann, first.id), ImageNotFound);
  const folders = [first, second].map(({ id }) => join(imagePath(rig.images_path, id), '..'));
  await until(
    'the bytes of the deleted images are gone',
    async () => !folders.some((folder) => existsSync(folder)) && (await unfinished(rig)) === 0,
  );
});

const unfinished = async ({ db }: Rig): Promise<number> =>
  (await db.selectFrom('jobs').select('id').where('state', 'in', ['queued', 'running']).execute()).length;

test('a project sees its own images and the public ones, and changes only its own', async (t) => {
  const rig = await aDaemon(t);
  const own = await anImage(rig.db, { is_public: 0 });
  const shared = await anImage(rig.db, { is_public: 1 });

  assert.deepEqual(
    (await rig.api.list(bob)).map((image) => image.id),
    [shared],
  );
  await assert.rejects(rig.api.show(bob, own), ImageNotFound);
  await assert.rejects(rig.api.setPublic(bob, shared, false), NotAuthorized);
  await assert.rejects(rig.api.deregister(bob, shared), NotAuthorized);
  await rig.api.setPublic(ann, own, true);
  assert.equal((await rig.api.show(bob, own)).is_public, 1);
  const updated = await rig.api.update(ann, own, { name: 'new', properties: { a: '1', b: '2' } });
  assert.deepEqual([updated.name, updated.properties], ['new', '{"a":"1","b":"2"}']);
  assert.equal((await rig.api.update(ann, own, { properties: { a: null } })).properties, '{"b":"2"}');
  assert.deepEqual((await rig.api.list(aContext({ is_admin: true, project_id: 'other' }), [own])).length, 1);
});

// ---------------------------------------------------------------------------------------------------------- bundles

interface Bundle {
  image: Buffer;
  /** What stands in `machine_configuration`. */
  machine?: string;
  key?: { public_key: string };
}

/** What ec2-bundle-image makes: a gzipped tar, AES-128-CBC, in parts, key and iv as hex text encrypted to the cloud. */
async function aBundle(rig: Rig, name: string, { image, machine = '', key }: Bundle): Promise<string> {
  writeFileSync(join(rig.dir, `${name}.img`), image);
  const tarred = await run('tar', ['-czSf', join(rig.dir, `${name}.tgz`), '-C', rig.dir, `${name}.img`]);
  assert.equal(tarred.code, 0, tarred.stderr);
  const [secret, iv] = [randomBytes(16), randomBytes(16)];
  const cipher = createCipheriv('aes-128-cbc', secret, iv);
  const bytes = Buffer.concat([cipher.update(readFileSync(join(rig.dir, `${name}.tgz`))), cipher.final()]);
  const size = Math.ceil(bytes.length / 3);
  const parts = [0, 1, 2].map((i) => bytes.subarray(i * size, (i + 1) * size));
  for (const [i, part] of parts.entries()) await putObject(rig, 'web', `${name}.part.${i}`, part);
  const wrap = (plain: Buffer): string =>
    publicEncrypt(
      {
        key: key?.public_key ?? readFileSync(join(rig.dir, 'creds/cacert.pem'), 'utf8'),
        padding: constants.RSA_PKCS1_PADDING,
      },
      Buffer.from(plain.toString('hex')),
    ).toString('hex');
  const manifest = `<?xml version="1.0" ?><manifest><version>2007-10-10</version>
    <machine_configuration><architecture>i386</architecture>${machine}</machine_configuration>
    <image><name>${name}</name><size>${image.length}</size>
    <ec2_encrypted_key algorithm="AES-128-CBC">${wrap(secret)}</ec2_encrypted_key><ec2_encrypted_iv>${wrap(iv)}</ec2_encrypted_iv>
    <parts count="3">${parts.map((_, i) => `<part index="${i}"><filename>${name}.part.${i}</filename></part>`).join('')}</parts>
    </image><signature>not looked at</signature></manifest>`;
  await putObject(rig, 'web', `${name}.manifest.xml`, Buffer.from(manifest));
  return `web/${name}.manifest.xml`;
}

/** What a user bundles with: the cloud's CA, which the command makes. */
async function cloudKey(rig: Rig): Promise<void> {
  const file = join(rig.dir, 'nova.zip');
  const said: string[] = [];
  const io = { out: (line: string) => void said.push(line), warn: (line: string) => void said.push(line) };
  assert.equal(await runManage([`--state_path=${rig.dir}`, 'project', 'zipfile', 'apollo', 'ann', file], io), 0);
  assert.match(said.join('\n'), /^the cloud's CA was made: /);
  const unpacked = await run('unzip', ['-q', file, '-d', join(rig.dir, 'creds')]);
  assert.equal(unpacked.code, 0, unpacked.stderr);
}

test(
  'bundles become kernel, ramdisk and machine image, each byte for byte, sparse or not',
  { skip: needs('tar', 'openssl', 'unzip') },
  async (t) => {
    const rig = await aDaemon(t);
    await cloudKey(rig);
    const image = Buffer.alloc(4_000_000); // with holes, which tar -S leaves out
    randomBytes(100_000).copy(image, 1_500_000);
    const kernel = await aBundle(rig, 'kernel', { image: randomBytes(50_000), machine: '<kernel_id>true</kernel_id>' });
    const ramdisk = await aBundle(rig, 'ramdisk', {
      image: randomBytes(50_000),
      machine: '<ramdisk_id>true</ramdisk_id>',
    });
    const { id: kernel_id, container_format: aki } = await rig.api.register(ann, { location: kernel });
    const { id: ramdisk_id, container_format: ari } = await rig.api.register(ann, { location: ramdisk });
    const hex = (id: number): string => id.toString(16).padStart(8, '0');
    const machine = `<kernel_id>aki-${hex(kernel_id)}</kernel_id><ramdisk_id>ari-${hex(ramdisk_id)}</ramdisk_id>`;

    const { id } = await rig.api.register(ann, { location: await aBundle(rig, 'disk', { image, machine }) });

    const done = await settled(rig, ann, id);
    assert.deepEqual([aki, ari, done.container_format], ['aki', 'ari', 'ami']);
    assert.deepEqual(
      [done.fault, done.kernel_id, done.ramdisk_id, done.architecture],
      [null, kernel_id, ramdisk_id, 'i386'],
    );
    assert.ok(readFileSync(imagePath(rig.images_path, id)).equals(image));
    assert.equal((await settled(rig, ann, kernel_id)).size_bytes, 50_000);
  },
);

test(
  'nokernel in a manifest, and no kernel asked for, mean a disk that boots by itself',
  { skip: needs('tar', 'openssl', 'unzip') },
  async (t) => {
    const rig = await aDaemon(t);
    await cloudKey(rig);
    const image = randomBytes(50_000);
    const raw = await aBundle(rig, 'raw', { image, machine: '<kernel_id>nokernel</kernel_id>' });
    const other = await aBundle(rig, 'other', { image, machine: '<kernel_id>aki-00000063</kernel_id>' });

    assert.equal((await rig.api.register(ann, { location: raw })).kernel_id, null);
    assert.equal((await rig.api.register(ann, { location: other, kernel_id: null })).kernel_id, null);
    await assert.rejects(rig.api.register(ann, { location: other }), ImageNotFound);
  },
);

test(
  'a bundle for another cloud, a damaged one and one without a part fail with the reason',
  { skip: needs('tar', 'openssl', 'unzip') },
  async (t) => {
    const rig = await aDaemon(t);
    await cloudKey(rig);
    const image = randomBytes(200_000);
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const public_key = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const outcome = async (location: string) => {
      const { id } = await rig.api.register(ann, { location });
      const { status, fault, properties } = await settled(rig, ann, id);
      assert.equal(existsSync(imagePath(rig.images_path, id)), false);
      return { status, fault, state: (JSON.parse(properties) as { image_state: string }).image_state };
    };

    const foreign = await outcome(await aBundle(rig, 'foreign', { image, key: { public_key } }));
    assert.deepEqual([foreign.status, foreign.state], ['error', 'failed_decrypt']);
    assert.match(foreign.fault ?? '', /this cloud's key: bundle it with the cloud's certificate/);

    const damaged = await aBundle(rig, 'damaged', { image });
    await putObject(rig, 'web', 'damaged.part.1', randomBytes(60_000));
    assert.match((await outcome(damaged)).state, /^failed_(decrypt|untar)$/);

    const lost = await aBundle(rig, 'lost', { image });
    await rig.store.objects.remove('web', 'lost.part.2');
    await assert.rejects(rig.api.register(ann, { location: lost }), KeyNotFound);

    await putObject(rig, 'web', 'odd.manifest.xml', Buffer.from('<manifest/>'));
    await assert.rejects(rig.api.register(ann, { location: 'web/odd.manifest.xml' }), InvalidInput);
  },
);

test(
  'a bundle is refused while the cloud has no key to open it, and one whose key went away fails at once, with the reason',
  { skip: needs('tar', 'openssl', 'unzip') },
  async (t) => {
    const rig = await aDaemon(t);
    await cloudKey(rig);
    const location = await aBundle(rig, 'disk', { image: randomBytes(50_000) });
    rmSync(join(rig.dir, 'CA/private/cakey.pem'));

    const says = /private key of the cloud's CA was not read: .*cakey\.pem.*nova-manage project zipfile .* makes it/;
    await assert.rejects(rig.api.register(ann, { location }), (err: Error) => {
      assert.ok(err instanceof UnsupportedOperation, err.stack ?? '');
      assert.match(err.message, says);
      return true;
    });
    assert.deepEqual(await rig.api.list(ann), []);

    const image_id = await anImage(rig.db, { status: 'queued', location, is_public: 0 });
    await writing(rig.db, (tx) => castJob(tx, ann, objectstoreClient(rig.bus).registerImage, { image_id }));
    const { status, fault, properties } = await settled(rig, ann, image_id);
    assert.deepEqual([status, JSON.parse(properties)], ['error', { image_state: 'failed_decrypt' }]);
    assert.match(fault ?? '', says);
  },
);
