import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { BackendUnavailable } from '../../src/common/errors.ts';
import { silentLog } from '../../src/common/log.ts';
import { takeDownVolumes } from '../../src/volume/take_down.ts';
import { allPids, readProc } from '../../scripts/proc.ts';
import { needs } from '../rigs/needs.ts';
import { tempDir } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { IscsiLogin } from './iscsi_login.ts';
import { anExport, aStore, aVolume, exported, Guest, never, qemuIo, type AStore } from './a_store.ts';

const skip = needs('tgtd', 'qemu-io', 'setpriv');
const MIB = 1024 * 1024;

/** What the store has, not asking tgtd. */
async function bytesAt({ dir }: AStore, name: string, offset: number): Promise<string> {
  const file = await open(join(dir, 'volumes', name));
  const { buffer } = await file.read(Buffer.alloc(16), 0, 16, offset);
  await file.close();
  return buffer.toString('hex');
}
const allOf = (byte: string): string => byte.repeat(16);

const sockets = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:')).length;

async function made(store: AStore) {
  const volume = aVolume();
  await store.driver.createVolume(volume, never);
  return volume;
}
const refused = (store: AStore, initiator: string) => () =>
  store.tgtdLog().includes(`No valid user/pass combination for initiator iqn.2008-11.org.linux-kvm:${initiator}`);

test('what an initiator writes is in the volume, and the next attachment reads it', { skip }, async (t) => {
  const store = await aStore(t);
  const volume = aVolume();
  const location = await store.driver.createVolume(volume, never);
  const first = await exported(store.driver, anExport(volume));

  await qemuIo(t, first, 'write -P 0x41 0 64k', 'write -P 0x42 1023M 1M', 'flush');

  assert.equal(location, `${first.target_portal},1 iqn.2010-10.org.openstack:${volume.name}`);
  assert.equal(await bytesAt(store, volume.name, 0), allOf('41'));
  const second = await exported(store.driver, anExport(volume));
  await qemuIo(t, second, 'read -P 0x41 0 64k', 'read -P 0x42 1023M 1M', 'read -P 0 1M 1M');
});

test('nobody gets in with a wrong secret, a wrong user or none', { skip }, async (t) => {
  const store = await aStore(t);
  const right = await exported(store.driver, anExport(await made(store)));

  for (const wrong of [{ auth_password: 'not-the-secret-1' }, { auth_username: 'somebody' }, { auth_username: '' }])
    await assert.rejects(qemuIo(t, { ...right, ...wrong }, 'read 0 4k'), /Authentication failure/);

  await qemuIo(t, right, 'read 0 4k');
});

test('a volume that nobody may reach lets nobody in, not even who could before', { skip }, async (t) => {
  const store = await aStore(t);
  await exported(store.driver, anExport(await made(store))); // another volume
  const volume = await made(store);
  const wanted = anExport(volume);
  const before = await exported(store.driver, wanted);
  const guest = await Guest.start(t, before, 'h1');
  await guest.run('write -P 0x41 0 4k');

  assert.equal(await store.driver.ensureExport({ ...wanted, access: null }, never), null);
  guest.say('write -P 0x58 0 4k');

  for (const someone of [before, { ...before, auth_username: '' }])
    await assert.rejects(qemuIo(t, someone, 'read 0 4k'), /Target not found/);
  assert.equal((await store.driver.inventory()).exports.includes(volume.name), false);
  const next = await exported(store.driver, anExport(volume));
  await until('the old one has tried to log in again, and was refused', refused(store, 'h1'));
  await qemuIo(t, next, 'read -P 0x41 0 4k');
  assert.equal(guest.answered, false);
});

test('a new access ends the old one’s session while it writes, and its secret is void', { skip }, async (t) => {
  const store = await aStore(t);
  const volume = await made(store);
  const old = await exported(store.driver, anExport(volume));
  const guest = await Guest.start(t, old, 'h1');
  await guest.run('write -P 0x41 0 4k');
  guest.say('write -P 0x58 1M 64M'); // under way, or about to be

  const now = await exported(store.driver, anExport(volume));
  await qemuIo(t, now, 'write -P 0x42 0 128M', 'flush');
  guest.say('write -P 0x58 0 128M');

  await until('the old host has tried to log in again, and was refused', refused(store, 'h1'));
  await assert.rejects(qemuIo(t, old, 'read 0 4k'), /Authentication failure/);
  await qemuIo(t, now, 'read -P 0x42 0 128M');
  assert.doesNotMatch(guest.said, /wrote/);
});

test('a login that began under the old access does not end under the new one', { skip }, async (t) => {
  const store = await aStore(t);
  const volume = await made(store);
  const old = await exported(store.driver, anExport(volume));
  const logins: IscsiLogin[] = [];
  t.after(() => logins.forEach((login) => login.close()));
  for (let i = 0; i < 2; i++) {
    const login = await IscsiLogin.connect(old);
    logins.push(login);
    await login.authenticate();
  }
  const [in_time, late] = logins;
  assert.equal(await in_time?.finish(), 0);

  await exported(store.driver, anExport(volume));

  const pid = store.tgtdPid();
  assert.notEqual(await late?.finish(), 0);
  await store.driver.inventory();
  assert.equal(store.tgtdPid(), pid, 'tgtd did not end over it');
});

test('asking for the same export again leaves its session alone', { skip }, async (t) => {
  const store = await aStore(t);
  const volume = await made(store);
  const wanted = anExport(volume);
  const guest = await Guest.start(t, await exported(store.driver, wanted), 'h1');
  await guest.run('write -P 0x41 0 4k');
  const log = store.tgtdLog();

  await exported(store.driver, wanted);
  store.stop();
  const next = await store.another(); // which does not know the secret that tgtd has
  await exported(next, wanted);

  await guest.run('read -P 0x41 0 4k');
  assert.equal(store.tgtdLog(), log); // no login, nothing closed
});

test('an adopted export takes the secret that it ought to have', { skip }, async (t) => {
  const store = await aStore(t);
  const wanted = anExport(await made(store));
  const old = await exported(store.driver, wanted);
  const pid = store.tgtdPid();
  store.stop();

  const next = await store.another();
  const now = await exported(next, { ...wanted, access: { ...wanted.access, password: 'another-secret-2' } });

  assert.equal(store.tgtdPid(), pid);
  await assert.rejects(qemuIo(t, old, 'read 0 4k'), /Authentication failure/);
  await qemuIo(t, now, 'read 0 4k');
});

test('tgtd is killed: a new one has all exports at once, and a guest’s write goes on', { skip }, async (t) => {
  const store = await aStore(t);
  const volumes = [await made(store), await made(store), await made(store)];
  const connections = [];
  for (const volume of volumes) connections.push(await exported(store.driver, anExport(volume)));
  const guests: Guest[] = [];
  for (const [i, connection] of connections.entries()) guests.push(await Guest.start(t, connection, `h${i}`));
  await Promise.all(guests.map((guest) => guest.run('write -P 0x41 0 1M')));

  for (let round = 1; round <= 3; round++) {
    const pid = store.tgtdPid();
    process.kill(pid, 'SIGKILL');
    await Promise.all(guests.map((guest) => guest.run(`write -P 0x4${round + 1} ${round}M 1M`)));
    assert.notEqual(store.tgtdPid(), pid);
  }

  for (const { name } of volumes) assert.equal(await bytesAt(store, name, 3 * MIB), allOf('44'));
  for (const connection of connections) await qemuIo(t, connection, 'read -P 0x41 0 1M', 'read -P 0x43 2M 1M');
  assert.match(store.logged(), /tgtd had ended: its exports are put back/);
});

test('tgtd is killed while nova-volume is away: the next one puts back what it is asked for', { skip }, async (t) => {
  const store = await aStore(t);
  const volume = await made(store);
  const wanted = anExport(volume);
  const guest = await Guest.start(t, await exported(store.driver, wanted), 'h1');
  store.stop();
  await store.kill();

  const next = await store.another();
  await exported(next, wanted);

  await guest.run('write -P 0x41 0 1M');
  assert.equal(await bytesAt(store, volume.name, 0), allOf('41'));
});

test(
  'tgtd is killed again and again while attachments come and go: in the end the last ones alone get in',
  { skip },
  async (t) => {
    const store = await aStore(t);
    let killing = true;
    const killer = (async () => {
      for (let i = 0; killing; i++) {
        await sleep((i * 37) % 200);
        await store.kill();
      }
    })();
    /** As a job does it: again while the store is away. */
    const persistently = async <T>(work: () => Promise<T>): Promise<T> => {
      for (;;)
        try {
          return await work();
        } catch (err) {
          if (!(err instanceof BackendUnavailable)) throw err;
        }
    };
    const lives = await Promise.all(
      Array.from({ length: 4 }, async (_, n) => {
        const volume = await made(store);
        const former = [];
        for (let round = 0; round < 10; round++) {
          const connection = await persistently(() => exported(store.driver, anExport(volume)));
          former.push(connection);
          if (round % 3 === n % 3) await persistently(() => store.driver.removeExport(volume, null, never));
        }
        return { volume, former };
      }),
    );
    killing = false;
    await killer;

    const attached = [lives[1], lives[2]]; // the last thing that happened to the others was a removal
    for (const { volume, former } of lives) {
      const there = (await store.driver.inventory()).exports.includes(volume.name);
      assert.equal(
        there,
        attached.some((one) => one?.volume === volume),
      );
      for (const old of there ? former.slice(0, -1) : former)
        await assert.rejects(qemuIo(t, old, 'read 0 4k'), /Authentication failure|Target not found/);
      if (there) await qemuIo(t, former.at(-1)!, 'write -P 0x41 0 4k', 'read -P 0x41 0 4k');
    }
  },
);

test('an adopted tgtd listens where the flags say now', { skip }, async (t) => {
  const store = await aStore(t);
  const wanted = anExport(await made(store));
  const old = await exported(store.driver, wanted);
  store.stop();

  const next = await store.another({ iscsi_ip_address: '127.0.0.2' });
  const now = await exported(next, wanted);

  assert.match(now.target_portal, /^127\.0\.0\.2:/);
  await qemuIo(t, now, 'read 0 4k');
  await assert.rejects(qemuIo(t, old, 'read 0 4k'), /Failed to connect/);
});

test(
  'an idle nova-volume keeps no connection open, which tgtd would read from for ever once it is killed',
  { skip },
  async (t) => {
    const store = await aStore(t);
    await exported(store.driver, anExport(await made(store)));

    // one for requests, one for initiators
    await until('only the two that it listens on are open', () => sockets(store.tgtdPid()) === 2);
  },
);

test('a port that another has is an error that names the flags', { skip }, async (t) => {
  const store = await aStore(t);
  const { target_portal } = await exported(store.driver, anExport(await made(store)));

  await assert.rejects(
    aStore(t, { iscsi_port: Number(target_portal.split(':')[1]) }),
    /tgtd cannot listen on 127\.0\.0\.1:\d+.*Address already in use.*--iscsi_ip_address and --iscsi_port/s,
  );
});

test('a folder for tgtd that cannot be used is named with its flag', { skip }, async (t) => {
  const long = join(tempDir(t, 'long'), 'x'.repeat(100));
  await assert.rejects(aStore(t, { tgt_path: long }), /more than 107 bytes: set --tgt_path to a shorter folder/);
  const file = join(tempDir(t, 'file'), 'file');
  writeFileSync(file, '');
  await assert.rejects(aStore(t, { tgt_path: file }), new RegExp(`cannot write to --tgt_path=${file}`));
});

test('hypervisors may reach it by IPv6', { skip }, async (t) => {
  const store = await aStore(t, { iscsi_ip_address: '::1' });
  const connection = await exported(store.driver, anExport(await made(store)));

  assert.match(connection.target_portal, /^\[::1\]:\d+$/);
  await qemuIo(t, connection, 'write -P 0x41 0 4k', 'read -P 0x41 0 4k');
});

test('secrets are on no command line, in no environment and in no log', { skip }, async (t) => {
  const store = await aStore(t);
  const volume = await made(store);
  const seen = new Set<string>();
  let polling = true;
  const look = () => {
    for (const pid of allPids()) for (const file of ['cmdline', 'environ']) seen.add(readProc(pid, file));
    if (polling) setImmediate(look);
  };
  look();

  const secrets: string[] = [];
  for (let round = 0; round < 10; round++) {
    const wanted = anExport(volume);
    secrets.push(wanted.access.password);
    const connection = await exported(store.driver, wanted);
    await qemuIo(t, connection, 'read 0 4k');
    await assert.rejects(qemuIo(t, { ...connection, auth_password: 'wrong-secret-1' }, 'read 0 4k'));
    if (round === 5) await store.kill();
  }
  polling = false;

  const places = [...seen].join('\n') + store.logged() + store.tgtdLog();
  assert.ok(places.includes('--pid-file'), 'tgtd itself was seen');
  for (const secret of secrets) assert.ok(!places.includes(secret));
});

test('taking down ends tgtd and its files, unless a guest has a volume', { skip }, async (t) => {
  const store = await aStore(t);
  const takeDown = () => takeDownVolumes({ flags: store.flags, log: silentLog });
  const connection = await exported(store.driver, anExport(await made(store)));
  const guest = await Guest.start(t, connection, 'h1');
  const pid = store.tgtdPid();
  store.stop();

  assert.deepEqual(await takeDown(), [connection.target_iqn]);
  await guest.run('write -P 0x41 0 4k');
  await guest.end();
  await until('its session has ended', async () => (await takeDown()).length === 0);

  assert.deepEqual(await takeDown(), []);
  assert.ok(!allPids().includes(pid));
  assert.deepEqual(readdirSync(join(store.dir, 'tgt')), ['tgtd.log']);
});
