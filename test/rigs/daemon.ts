import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Host } from './netns.ts';
import { Program } from './program.ts';
import { atEnd, projectRoot, tempDir, type Scope } from './tmp.ts';
import { until } from '../until.ts';

/** A flagfile as an object: true is `--name`, false `--noname`, a list one line for each, null leaves the flag out. */
export type FlagFile = Record<string, string | number | boolean | readonly string[] | null>;

export interface DaemonOptions {
  flags: FlagFile;
  host?: Host;
  env?: Record<string, string | undefined>;
  /** More of the command line, after --flagfile. */
  args?: readonly string[];
  /** From start to `ready`; for a test of just that. */
  timeout_ms?: number;
}

/** A line of a daemon's log: `msg` is the constant phrase, the rest its facts. */
export interface LogLine {
  level: number;
  msg: string;
  [fact: string]: unknown;
}

/**
 * One of our executables with a flagfile of its own. --state_path is a folder of the test's unless a flag says
 * otherwise, and stays over restarts; in a test host --my_ip is the host's address and --host its name.
 */
export class Daemon {
  readonly dir: string;
  readonly flagfile: string;
  readonly log_file: string;
  readonly #binary: string;
  readonly #program: Program;
  readonly #timeout_ms: number | undefined;
  /** Where in the log file this run's lines begin. */
  #begin = 0;

  constructor(dir: string, binary: string, { flags, host, env, args = [], timeout_ms }: DaemonOptions) {
    const own = host ? { my_ip: host.address, host: host.name } : {};
    this.dir = dir;
    this.flagfile = join(dir, 'nova.flags');
    this.log_file = join(dir, `${binary.split('/').at(-1)}.log`);
    this.#binary = binary;
    this.#timeout_ms = timeout_ms;
    const { flagfile = null, ...rest } = flags; // first, so that what the test says wins
    writeFileSync(this.flagfile, flagFileText({ flagfile, state_path: join(dir, 'state'), ...own, ...rest }));
    this.#program = new Program({
      name: binary,
      argv: [process.execPath, resolve(projectRoot(), 'bin', binary), `--flagfile=${this.flagfile}`, ...args],
      log: this.log_file,
      enter: host?.enter ?? [],
      ...(env ? { env } : {}),
    });
  }

  get running(): boolean {
    return this.#program.running;
  }
  get pid(): number {
    return this.#program.pid;
  }
  get exit_code(): number | null {
    return this.#program.exit_code;
  }
  /** Resolves when it has ended, whoever ended it. */
  async ended(): Promise<void> {
    await this.#program.ended;
  }
  signal(signal: NodeJS.Signals): void {
    this.#program.signal(signal);
  }

  /** Resolves when it logs `ready`. @throws Error with the end of its log when it does not */
  async start(): Promise<void> {
    this.#begin = existsSync(this.log_file) ? readFileSync(this.log_file).length : 0;
    await this.#program.start(async () => this.log().some((line) => line.msg === 'ready'), this.#timeout_ms);
  }
  /** SIGTERM. @throws Error when it does not end, and is then killed */
  stop(): Promise<void> {
    return this.#program.stop();
  }
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }
  /** SIGKILL: no clean-up of its own. */
  kill(): Promise<void> {
    return this.#program.kill();
  }
  /** SIGSTOP: its connections stay open and it does nothing. */
  pause(): void {
    this.#program.pause();
  }
  resume(): void {
    this.#program.resume();
  }

  /** What it wrote since it was last started, all of it. */
  text(): string {
    return existsSync(this.log_file) ? readFileSync(this.log_file).subarray(this.#begin).toString() : '';
  }

  /** The log lines among that. */
  log(): LogLine[] {
    const complete = this.text().split('\n').slice(0, -1);
    return complete.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as LogLine);
  }

  /** Waits for a line since the last start. @throws Error with the end of the log */
  async waitForLog(wanted: string): Promise<LogLine> {
    return until(
      `${this.#binary} logs '${wanted}'`,
      () => this.log().find((line) => line.msg === wanted),
      () => `It wrote:\n${this.text().slice(-3000)}`,
    );
  }
}

/** Starts `bin/<binary>` and waits until it serves; it is stopped in order when the scope ends. */
export async function startDaemon(scope: Scope, binary: string, options: DaemonOptions): Promise<Daemon> {
  const daemon = new Daemon(tempDir(scope, 'daemon'), binary, options);
  atEnd(scope, () => daemon.stop());
  await daemon.start();
  return daemon;
}

export function flagFileText(flags: FlagFile): string {
  const lines = Object.entries(flags).flatMap(([name, value]) => {
    if (value === null) return [];
    if (typeof value === 'boolean') return [value ? `--${name}` : `--no${name}`];
    return (Array.isArray(value) ? value : [value]).map((item) => `--${name}=${item}`);
  });
  return lines.join('\n') + '\n';
}
