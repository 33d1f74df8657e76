import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { readProc } from '../proc.ts';
import { StartError } from './start_error.ts';

/** How guests run. */
export type Mode =
  /** Real guests on a bridge with DHCP; libvirtd is the machine's, or one of our own that ends with us. */
  | { driver: 'libvirt'; accel: 'kvm' | 'tcg'; libvirtd: 'machine' | 'own' }
  /** Real guests as processes of this user, each with a network of its own. */
  | { driver: 'qemu'; accel: 'kvm' | 'tcg' }
  /** No guests at all. */
  | { driver: 'fake' };

/** What is up, or was when an earlier run was killed: enough to end it. Ports are chosen anew each time. */
export interface Run {
  mode: Mode;
  network: { cidr: string; bridge: string };
  /** Kernel settings as they were before, by name. */
  sysctls: Record<string, string>;
}

export const projectRoot = join(import.meta.dirname, '..', '..', '..');

/**
 * The one folder that holds all of `npm start`: `.state/start` of the project, or $NOVA_STATE_DIR. It stays for the next
 * start, which is then quick.
 *
 *   start.pid    who runs here, so that there is only one
 *   run.json     what is up; gone when everything has ended in order
 *   nova.flags   the flagfile, written at each start
 *   nova.sqlite  novarc  start.pem  secret  logs/  images/  instances/  networks/  libvirt/
 */
export class StateFolder {
  readonly dir: string;

  /** @throws StartError when another start runs here, or the folder cannot be written */
  constructor(dir = resolve(process.env['NOVA_STATE_DIR'] ?? join(projectRoot, '.state', 'start'))) {
    this.dir = dir;
    try {
      mkdirSync(this.path('logs'), { recursive: true });
      this.#claim();
    } catch (err) {
      const { code } = err as NodeJS.ErrnoException;
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
        throw new StartError(
          `${dir} cannot be written (${code}): it may be of another user's start. Set NOVA_STATE_DIR to a folder of your own`,
        );
      throw err;
    }
    process.once('exit', () => this.#release());
  }

  path(...names: string[]): string {
    return join(this.dir, ...names);
  }

  #claim(): void {
    const file = this.path('start.pid');
    const [pid, started] = existsSync(file) ? readFileSync(file, 'utf8').trim().split(' ') : [];
    if (started !== undefined && pid !== String(process.pid) && started === startTime(Number(pid)))
      throw new StartError(
        `another npm start, process ${pid}, uses ${this.dir}: stop it (kill ${pid}), or set NOVA_STATE_DIR to another folder`,
      );
    writeFileSync(file, `${process.pid} ${startTime(process.pid)}\n`);
  }

  #release(): void {
    rmSync(this.path('start.pid'), { force: true });
  }

  /** What an earlier start left running, or undefined. */
  leftRun(): Run | undefined {
    const file = this.path('run.json');
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Run) : undefined;
  }

  /** Before the first thing is started, so that whatever happens the next start knows what to end. */
  writeRun(run: Run): void {
    this.write('run.json', JSON.stringify(run, null, 2));
  }

  forgetRun(): void {
    rmSync(this.path('run.json'), { force: true });
  }

  /** Whole or not at all; for its owner's eyes. */
  write(name: string, text: string): void {
    const file = this.path(name);
    writeFileSync(`${file}.new`, text, { mode: 0o600 });
    renameSync(`${file}.new`, file);
  }

  /** Makes the file, empty, if it is not there, and lets nobody else read it. */
  makePrivate(name: string): void {
    closeSync(openSync(this.path(name), 'a', 0o600));
    chmodSync(this.path(name), 0o600);
  }
}

/** When a process began, in the kernel's ticks: with the pid it names one process for ever. */
const startTime = (pid: number): string | undefined =>
  readProc(pid, 'stat')
    .replace(/^.*\) /s, '')
    .split(' ')[19];
