import { spawn } from 'node:child_process';
import { mkdir, open, readFile, rename, rm, stat, truncate, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '../../../common/clock.ts';
import { BackendUnavailable, errorText } from '../../../common/errors.ts';
import type { Log } from '../../../common/log.ts';
import { askTgtd, TgtdGone, TgtError, type TgtRequest } from './protocol.ts';
import { parsePortals } from './targets.ts';

export interface TgtdSettings {
  /** Of its control socket, log and pid file. */
  folder: string;
  /** Dotted IPv4 or bracketed IPv6. */
  address: string;
  port: number;
}

const LOG_LIMIT_BYTES = 1024 * 1024;
const START_MS = 30_000;
const LOOK_EVERY_MS = 250;
/** The kernel's, for unix sockets. */
const SOCKET_PATH_MAX = 107;

/**
 * The one tgtd of this nova-volume, never the machine's own: it has a control socket in a folder of ours. It outlives
 * nova-volume, so that guests do not notice a restart; a new nova-volume finds it by that socket.
 */
export class Tgtd {
  readonly #settings: TgtdSettings;
  readonly #log: Log;

  constructor(settings: TgtdSettings, log: Log) {
    this.#settings = settings;
    this.#log = log;
  }

  get portal(): string {
    return `${this.#settings.address}:${this.#settings.port}`;
  }
  get #socket(): string {
    return join(this.#settings.folder, 'ctl.0');
  }
  get #logfile(): string {
    return join(this.#settings.folder, 'tgtd.log');
  }
  get #pidfile(): string {
    return join(this.#settings.folder, 'tgtd.pid');
  }

  /** @throws TgtError, TgtdGone, BackendUnavailable */
  ask(request: TgtRequest): Promise<string> {
    return askTgtd(this.#socket, request);
  }

  async runs(): Promise<boolean> {
    try {
      await this.ask({ mode: 'portal', op: 'show' });
      return true;
    } catch (err) {
      if (err instanceof TgtdGone) return false;
      throw err;
    }
  }

  /** Starts it where it does not run, and has it listen where the flags say. @returns whether it is a new one, without exports */
  async ensure(): Promise<boolean> {
    const started = !(await this.runs());
    if (started) await this.#start();
    else await this.#listenAsFlagsSay();
    return started;
  }

  async #start(): Promise<void> {
    const log = await this.#openLog();
    try {
      // --pid-file does nothing in the foreground; it tells whose process this is, to people and to us.
      const argv = ['-f', '-C', '0', '--pid-file', this.#pidfile, '--iscsi', `portal=${this.portal}`];
      const child = spawn('tgtd', argv, {
        detached: true,
        cwd: '/',
        stdio: ['ignore', log.fd, log.fd],
        env: {
          PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
          TGT_IPC_SOCKET: join(this.#settings.folder, 'ctl'),
        },
      });
      let ended: string | undefined;
      child.on('error', (err) => (ended = err.message));
      child.on('exit', (code, signal) => (ended ??= `it ended with ${code ?? signal}`));
      child.unref();
      for (const deadline = Date.now() + START_MS; !(await this.runs()); await sleep(10))
        if (ended !== undefined || Date.now() > deadline)
          throw new BackendUnavailable(
            `tgtd did not start on ${this.portal}: ${ended ?? `no answer in ${START_MS / 1000} s`}${await this.#lastWords()}`,
          );
      if (ended === undefined && child.pid !== undefined) await writeFile(this.#pidfile, `${child.pid}\n`);
      await this.#listenAsFlagsSay().catch(async (err: unknown) => {
        await this.end(); // else it would stay and listen nowhere
        throw err;
      });
      this.#log.info({ pid: child.pid, portal: this.portal }, 'tgtd started');
    } finally {
      await log.close();
    }
  }

  async #openLog(): Promise<FileHandle> {
    const { folder } = this.#settings;
    if (Buffer.byteLength(this.#socket) > SOCKET_PATH_MAX)
      throw new BackendUnavailable(
        `the path of tgtd's socket, ${this.#socket}, has more than ${SOCKET_PATH_MAX} bytes: set --tgt_path to a shorter folder`,
      );
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await rename(this.#logfile, `${this.#logfile}.1`).catch(ifMissing);
      return await open(this.#logfile, 'a', 0o600);
    } catch (err) {
      throw new BackendUnavailable(`nova-volume cannot write to --tgt_path=${folder}: ${errorText(err)}`, {
        cause: err,
      });
    }
  }

  async #lastWords(): Promise<string> {
    const said = (await readFile(this.#logfile, 'utf8').catch(() => '')).trim().split('\n');
    // Of a normal start: no RDMA hardware, and limits that only root may raise.
    const told = said.filter((line) => line !== '' && !/iser_|can't adjust|work_timer|bs_init/.test(line));
    return told.length > 0 ? `; it said: ${told.slice(-3).join('; ')}` : '';
  }

  /** An adopted one may listen where other flags said; sessions that came by that portal stay. */
  async #listenAsFlagsSay(): Promise<void> {
    const portals = parsePortals(await this.ask({ mode: 'portal', op: 'show' }));
    // Again for a second: one that was killed may still hold the port.
    for (let attempt = 1, listens = portals.includes(this.portal); !listens; attempt++)
      try {
        await this.ask({ mode: 'portal', op: 'new', params: `portal=${this.portal}` });
        listens = true;
      } catch (err) {
        if (!(err instanceof TgtError)) throw err;
        if (attempt === 10)
          throw new BackendUnavailable(
            `tgtd cannot listen on ${this.portal}${await this.#lastWords()}: see --iscsi_ip_address and --iscsi_port. ` +
              "If it is Debian's own tgtd: systemctl disable --now tgt",
            { cause: err },
          );
        await sleep(100);
      }
    for (const other of portals.filter((portal) => portal !== this.portal))
      await this.ask({ mode: 'portal', op: 'delete', params: `portal=${other}` });
  }

  /**
   * Calls back once when it has ended, whatever ended it. It looks again and again: a connection kept open would tell at
   * once, but tgtd does not notice that the other side of one without a request went away, and reads from it for ever.
   */
  watch(gone: () => void, signal: AbortSignal): void {
    const look = async (): Promise<void> => {
      const there = await this.#isThere().catch(() => true); // not to be told now: the next look tells
      if (signal.aborted) return;
      if (there) again();
      else gone();
    };
    const again = (): void => void setTimeout(() => void look(), LOOK_EVERY_MS).unref();
    if (!signal.aborted) again();
  }

  async #isThere(): Promise<boolean> {
    const pid = await this.#pid();
    return pid === null ? this.runs() : isRunning(pid);
  }

  /** A guest whose disk is full could write it on and on. */
  async trimLog(): Promise<void> {
    const { size } = await stat(this.#logfile).catch(() => ({ size: 0 }));
    if (size > LOG_LIMIT_BYTES) await truncate(this.#logfile);
  }

  /** Ends it; it must have no targets. @throws BackendUnavailable when it stays */
  async end(): Promise<void> {
    const pid = await this.#pid();
    try {
      await this.ask({ mode: 'system', op: 'delete' });
    } catch (err) {
      if (!(err instanceof TgtdGone)) throw err;
    }
    for (let waits = 0; pid !== null && (await isRunning(pid)); waits++) {
      if (waits > 400) throw new BackendUnavailable(`tgtd ${pid} was told to end and still runs`);
      await sleep(25);
    }
    for (const name of ['ctl.0', 'ctl.0.lock', 'tgtd.pid'])
      await rm(join(this.#settings.folder, name), { force: true });
    this.#log.info({ pid }, 'tgtd ended');
  }

  /** Numbers are used again after a restart of the host: it counts only when that process is this tgtd. */
  async #pid(): Promise<number | null> {
    const pid = Number((await textOf(this.#pidfile)).trim());
    if (!Number.isInteger(pid) || pid <= 1) return null;
    const words = (await textOf(`/proc/${pid}/cmdline`)).split('\0');
    return words.includes(this.#pidfile) ? pid : null;
  }
}

async function isRunning(pid: number): Promise<boolean> {
  return /^State:\t[^ZX]/m.test(await textOf(`/proc/${pid}/status`));
}

/** Empty: it is not there. */
async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (err) {
    if (!['ENOENT', 'ESRCH'].includes((err as NodeJS.ErrnoException).code ?? '')) throw err;
    return '';
  }
}

function ifMissing(err: NodeJS.ErrnoException): void {
  if (err.code !== 'ENOENT') throw err;
}
