import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { execute } from '../../src/common/execute.ts';
import { Flags } from '../../src/common/flags.ts';
import type { VolumeConnection } from '../../src/common/volume_connection.ts';
import type {
  SnapshotSpec,
  VolumeDriver,
  VolumeDriverClass,
  VolumeExport,
  VolumeSpec,
} from '../../src/volume/drivers/driver.ts';
import { FileISCSIDriver } from '../../src/volume/drivers/file.ts';
import { isAlive, readProc } from '../../scripts/proc.ts';
import { findProgram } from '../rigs/needs.ts';
import { freePort } from '../rigs/free_port.ts';
import { atEnd, tempDir, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';

let path_is_set = false;
/** tgtd is made to outlive who started it, but a test that is killed must leave none: this process' ends with it. */
function haveTgtdDieWithUs(): void {
  if (path_is_set) return;
  path_is_set = true;
  const bin = tempDir({ after: (end) => process.once('exit', () => void end()) }, 'bin');
  const tgtd = `#!/bin/sh\nexec setpriv --pdeathsig KILL ${findProgram('tgtd') ?? 'tgtd'} "$@"\n`;
  writeFileSync(join(bin, 'tgtd'), tgtd, { mode: 0o755 });
  process.env['PATH'] = `${bin}:${process.env['PATH'] ?? ''}`;
}

export type Iscsi = Extract<VolumeConnection, { driver_volume_type: 'iscsi' }>;

/** A driver as one nova-volume has it, over a folder of its own and a tgtd of its own, which ends with the scope. */
export interface AStore {
  driver: VolumeDriver;
  dir: string;
  /** What the next nova-volume with these flags has; the one before is to be stopped. */
  another(over?: Record<string, unknown>): Promise<VolumeDriver>;
  /** nova-volume ends, tgtd does not. */
  stop(): void;
  flags: Flags;
  logged(): string;
  tgtdLog(): string;
  tgtdPid(): number;
  /** SIGKILL to tgtd, if there is one now. */
  kill(): Promise<void>;
}

export async function aStore(
  scope: Scope,
  over: Record<string, unknown> = {},
  Driver: VolumeDriverClass = FileISCSIDriver,
): Promise<AStore> {
  haveTgtdDieWithUs();
  const dir = tempDir(scope, 'store');
  const lines: string[] = [];
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.push(String(chunk));
      done();
    },
  });
  const log = pino({ level: 'trace' }, sink);
  const all = {
    state_path: dir,
    iscsi_ip_address: '127.0.0.1',
    iscsi_port: await freePort(),
    volume_reserved_mb: 0,
    ...over,
  };
  let alive = new AbortController();
  const make = async (more: Record<string, unknown> = {}): Promise<VolumeDriver> => {
    alive = new AbortController();
    const driver = new Driver({ flags: Flags.of({ ...all, ...more }), log });
    await driver.initHost(alive.signal);
    return driver;
  };
  const tgtdPid = () => Number(readFileSync(join(dir, 'tgt', 'tgtd.pid'), 'utf8'));
  atEnd(scope, async () => {
    alive.abort();
    await killTgtd(dir);
  });
  return {
    driver: await make(),
    dir,
    another: make,
    stop: () => alive.abort(),
    flags: Flags.of(all),
    logged: () => lines.join(''),
    tgtdLog: () => readFileSync(join(dir, 'tgt', 'tgtd.log'), 'utf8'),
    tgtdPid,
    kill: () => killTgtd(dir),
  };
}

/** SIGKILL to the tgtd of this folder, if there is one, and waits for its end. */
export async function killTgtd(dir: string): Promise<void> {
  const pid = Number(await readFile(join(dir, 'tgt', 'tgtd.pid'), 'utf8').catch(() => '0'));
  if (!readProc(pid, 'cmdline').includes(dir)) return;
  process.kill(pid, 'SIGKILL');
  await until(`tgtd ${pid} has ended`, () => !isAlive(pid)); // its command line goes before its files are closed
}

let last_id = 0;
const anOwner = () => ({ token: `nova-${randomBytes(16).toString('hex')}`, made: false });
export function aVolume(over: Partial<VolumeSpec> = {}): VolumeSpec {
  const id = over.id ?? ++last_id;
  return { id, name: `volume-${id.toString(16).padStart(8, '0')}`, size: 1, ...anOwner(), ...over };
}
export function aSnapshot(volume: VolumeSpec): SnapshotSpec {
  const id = ++last_id;
  return { id, name: `snapshot-${id.toString(16).padStart(8, '0')}`, volume, size: volume.size, ...anOwner() };
}
/** Of one attachment; its secret is of no use for another. */
export function anExport(volume: VolumeSpec): VolumeExport & { access: { username: string; password: string } } {
  const access = { username: `vol-e${++last_id}`, password: randomBytes(12).toString('hex') };
  return { volume, target_num: volume.id, access };
}

export const never = new AbortController().signal;

/** @returns how a hypervisor reaches it */
export async function exported(driver: VolumeDriver, wanted: VolumeExport): Promise<Iscsi> {
  const connection = await driver.ensureExport(wanted, never);
  assert.ok(connection?.driver_volume_type === 'iscsi');
  return connection;
}

/** QEMU's words for a disk, with the secret in a file, since command lines are open to all. */
function imageOptions(scope: Scope, connection: Iscsi, name: string): string[] {
  const { target_portal, target_iqn, target_lun, auth_username, auth_password } = connection;
  const file = join(tempDir(scope, 'secret'), 'chap');
  writeFileSync(file, auth_password, { mode: 0o600 });
  const options =
    `driver=iscsi,transport=tcp,portal=${target_portal},target=${target_iqn},lun=${target_lun},` +
    `initiator-name=iqn.2008-11.org.linux-kvm:${name}` +
    (auth_username === '' ? '' : `,user=${auth_username},password-secret=chap`);
  return ['--object', `secret,id=chap,file=${file}`, '--image-opts', options];
}

/** Runs qemu-io's commands over iSCSI. @returns what it said. @throws Error with what it said when it cannot log in */
export async function qemuIo(scope: Scope, connection: Iscsi, ...commands: string[]): Promise<string> {
  const words = commands.flatMap((command) => ['-c', command]);
  const { stdout, stderr, exit_code } = await execute(
    ['qemu-io', ...words, ...imageOptions(scope, connection, 'once')],
    { ok: [0, 1], timeout_ms: 120_000 },
  );
  const said = stdout + stderr;
  if (exit_code !== 0 || /Pattern verification failed/.test(said)) throw new Error(said);
  return said;
}

/** A guest's disk, in place of the guest: one session that stays. */
export class Guest {
  readonly #child: ChildProcess;
  #said = '';
  constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (data: Buffer) => (this.#said += String(data)));
  }

  static async start(scope: Scope, connection: Iscsi, name: string): Promise<Guest> {
    // As libvirt's cache='none': what the guest does not flush need not be on the disk.
    const qemu = ['qemu-io', '-t', 'none', ...imageOptions(scope, connection, name)];
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...qemu]);
    const guest = new Guest(child);
    atEnd(scope, () => guest.end());
    await guest.prompt();
    return guest;
  }

  async prompt(): Promise<void> {
    const answered = () => {
      assert.equal(this.#child.exitCode, null, `qemu-io ended: ${this.#said}`);
      return this.answered;
    };
    await until('qemu-io answers', answered, () => this.#said);
  }

  /** Without waiting: one that cannot log in any more tries for ever. */
  say(command: string): void {
    this.#said = '';
    this.#child.stdin?.write(`${command}\n`);
  }

  /** @returns what it said */
  async run(command: string): Promise<string> {
    this.say(command);
    await this.prompt();
    assert.doesNotMatch(this.#said, /failed/);
    return this.#said;
  }

  get answered(): boolean {
    return this.#said.endsWith('qemu-io> ');
  }
  get said(): string {
    return this.#said;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
