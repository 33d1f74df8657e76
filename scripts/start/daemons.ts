import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import { ownLibvirtd } from '../own_libvirtd.ts';
import { Program } from '../program.ts';
import { libvirtDir } from './flagfile.ts';
import { StartError } from './start_error.ts';
import { projectRoot, type StateFolder } from './state_folder.ts';

const START_MS = 60_000;
/** nova-all waits up to --graceful_stop_timeout, 30 s, for what runs in it. */
const STOP_MS = 45_000;

/** A daemon that this process started. It ends with this process, whatever ends that. */
export class Daemon {
  readonly #name: string;
  readonly #log: string;
  readonly #program: Program;
  readonly #ready: (said: string) => Promise<boolean>;

  constructor(spec: { name: string; argv: string[]; log: string; ready: (said: string) => Promise<boolean> }) {
    this.#name = spec.name;
    this.#log = spec.log;
    this.#ready = spec.ready;
    this.#program = new Program(spec);
  }

  get running(): boolean {
    return this.#program.running;
  }

  /** Resolves when it has ended. */
  get ended(): Promise<unknown> {
    return this.#program.ended;
  }

  /** @throws StartError with what it said last */
  async start(): Promise<void> {
    if (existsSync(this.#log)) renameSync(this.#log, `${this.#log}.1`);
    try {
      await this.#program.start(() => this.#ready(this.#said()), START_MS);
    } catch {
      throw new StartError(`${this.#name} did not start.\n${this.lastWords()}`);
    }
  }

  async stop(): Promise<void> {
    await this.#program.stop('SIGTERM', STOP_MS);
  }

  /** The end of what it said, for people, and where the rest is. */
  lastWords(): string {
    const lines = this.#said()
      .split('\n')
      .map(forPeople)
      .filter((line) => line !== '');
    return [...lines.slice(-12).map((line) => `    ${line}`), `The whole log: ${this.#log}`].join('\n');
  }

  #said(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8') : '';
  }
}

/** Of a log line its warning or error, of others themselves. */
function forPeople(line: string): string {
  if (!line.startsWith('{')) return line;
  try {
    const { level, msg, err } = JSON.parse(line) as { level: number; msg: string; err?: { message?: string } };
    return level < 40 ? '' : [msg, err?.message].filter((text) => text !== undefined).join(': ');
  } catch {
    return line; // cut off
  }
}

/** All of nova in one process, with the flagfile of the state folder. */
export function novaAll(state: StateFolder): Daemon {
  const binary = join(projectRoot, 'bin', 'nova-all');
  return new Daemon({
    name: 'nova-all',
    argv: [process.execPath, binary, `--flagfile=${state.path('nova.flags')}`],
    log: state.path('logs', 'nova-all.log'),
    ready: async (said) => said.includes('"msg":"ready"'),
  });
}

/** A libvirtd of our own, in a mount namespace where folders of the state folder are its. */
export function libvirtd(state: StateFolder): Daemon {
  const { mounts, argv, uri } = ownLibvirtd(libvirtDir(state));
  const quoted = (words: string[]) => words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const script = [...mounts.map(quoted), `exec ${quoted(argv)}`].join(' && ');
  return new Daemon({
    name: 'libvirtd',
    argv: ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script],
    log: state.path('logs', 'libvirtd.log'),
    ready: async () => (await execute(['virsh', '-q', '-c', uri, 'version'])).stdout !== '',
  });
}
