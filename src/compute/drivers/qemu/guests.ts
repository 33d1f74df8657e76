import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BackendUnavailable } from '../../../common/errors.ts';
import { clock } from '../../../common/clock.ts';
import type { Log } from '../../../common/log.ts';
import { PowerState } from '../../logic/power_state.ts';
import { pause } from '../aborted.ts';
import { errorCode, exists, writeWhole } from '../files.ts';
import { GUEST_NAME } from '../instance_files.ts';
import { pidFile, QMP_SOCKET } from './command_line.ts';
import { allCommandLines, endAll, processesWith } from './processes.ts';
import { powerState, qmp } from './qmp.ts';

/** The file that makes a folder a guest's: what its QEMU is started with, and found again by. */
export interface Definition {
  uuid: string;
  /** Guest's TCP port to port of 127.0.0.1; kept over reboots, so that what a user wrote down stays true. */
  forwards: Record<string, number>;
  /** Dotted: whom the metadata service is told about. Null: a guest without a card. */
  address: string | null;
  /** Arguments of guest_net.ts; null: a guest without a card. */
  network: string | null;
}

export interface QemuGuest {
  name: string;
  /** Null: it cannot be read now, and the state is not known. */
  definition: Definition | null;
  state: PowerState;
}

/**
 * The guests in the folders under `root`, and their processes: a QEMU each, known by its pid file's path among its
 * arguments, and a guest_net.ts, known by the folder. Neither belongs to this process, so nothing is remembered here.
 */
export class QemuGuests {
  readonly #root: string;
  readonly #network_program: string;
  readonly #log: Log;

  constructor(root: string, network_program: string, log: Log) {
    this.#root = root;
    this.#network_program = network_program;
    this.#log = log;
  }

  dir(name: string): string {
    return join(this.#root, name);
  }

  async definition(name: string): Promise<Definition | undefined> {
    try {
      return JSON.parse(await readFile(join(this.dir(name), 'qemu.json'), 'utf8')) as Definition;
    } catch (err) {
      if (errorCode(err) === 'ENOENT') return undefined;
      throw err;
    }
  }

  async define(name: string, definition: Definition): Promise<void> {
    await writeWhole(join(this.dir(name), 'qemu.json'), `${JSON.stringify(definition)}\n`);
  }

  /** All guests that were defined, from one look at the processes; those that run are asked how they are. */
  async list(): Promise<QemuGuest[]> {
    const names = await this.#folders();
    const lines = await allCommandLines();
    const running = new Set(lines.flatMap((argv) => qemuFolder(argv) ?? []));
    const guests: QemuGuest[] = [];
    for (const name of names) {
      const definition = await this.#readable(name);
      if (definition === undefined) continue;
      if (definition === null) guests.push({ name, definition, state: PowerState.NOSTATE });
      else
        guests.push({
          name,
          definition,
          state: running.has(this.dir(name)) ? await this.#askState(name) : PowerState.SHUTOFF,
        });
    }
    return guests;
  }

  /** Null: it cannot be read, which is no reason to look at none of the others. */
  async #readable(name: string): Promise<Definition | null | undefined> {
    try {
      return await this.definition(name);
    } catch (err) {
      this.#log.warn({ err, folder: this.dir(name) }, 'the folder of a guest cannot be read; left alone');
      return null;
    }
  }

  async find(name: string): Promise<(QemuGuest & { definition: Definition }) | undefined> {
    const definition = await this.definition(name);
    if (definition === undefined) return undefined;
    const state = (await this.isRunning(name)) ? await this.#askState(name) : PowerState.SHUTOFF;
    return { name, definition, state };
  }

  async isRunning(name: string): Promise<boolean> {
    return (await this.#qemus(name)).length > 0;
  }

  async hasNetwork(name: string): Promise<boolean> {
    return (await this.#networks(name)).length > 0;
  }

  /**
   * Whether its QEMU is up: one that still starts, waiting for a volume's target, has a process and does not answer.
   * @throws Aborted
   */
  async isUp(name: string, timeout_ms: number, signal: AbortSignal): Promise<boolean> {
    for (const deadline = clock.now().getTime() + timeout_ms; await this.isRunning(name);) {
      try {
        await qmp(this.dir(name), QMP_SOCKET, 'query-status');
        return true;
      } catch (err) {
        if (!(err instanceof BackendUnavailable)) throw err;
      }
      if (clock.now().getTime() >= deadline) return false;
      await pause(200, signal, `start of ${name}`);
    }
    return false;
  }

  /** Ends a guest's processes; QEMU first by its own command, so that it writes out what it holds of the disks. */
  async stop(name: string): Promise<void> {
    if ((await this.isRunning(name)) && (await exists(join(this.dir(name), QMP_SOCKET)))) await this.#quit(name);
    await endAll(() => this.#qemus(name), `guest ${name}`);
    await endAll(() => this.#networks(name), `network of guest ${name}`);
    for (const file of ['qemu.pid', QMP_SOCKET]) await rm(join(this.dir(name), file), { force: true });
  }

  async #quit(name: string): Promise<void> {
    try {
      await qmp(this.dir(name), QMP_SOCKET, 'quit', 3000);
    } catch (err) {
      if (!(err instanceof BackendUnavailable)) throw err; // it hangs, or was gone before it answered
    }
  }

  async #askState(name: string): Promise<PowerState> {
    try {
      return powerState(await qmp(this.dir(name), QMP_SOCKET, 'query-status', 1000));
    } catch (err) {
      if (!(err instanceof BackendUnavailable)) throw err;
      return PowerState.RUNNING; // it has a process; busy, or starting, or ending
    }
  }

  async #folders(): Promise<string[]> {
    const entries = await readdir(this.#root, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && GUEST_NAME.test(entry.name)).map((entry) => entry.name);
  }

  #qemus(name: string): Promise<number[]> {
    return processesWith((argv) => qemuFolder(argv) === this.dir(name));
  }

  #networks(name: string): Promise<number[]> {
    return processesWith((argv) => argv.includes(this.#network_program) && argv.includes(this.dir(name)));
  }
}

/** The guest's folder from QEMU's arguments; undefined for another program. */
function qemuFolder(argv: readonly string[]): string | undefined {
  const path = argv[argv.indexOf('-pidfile') + 1];
  if (path === undefined || !argv.includes('-daemonize') || !path.endsWith('/qemu.pid')) return undefined;
  return path.slice(0, -pidFile('').length);
}
