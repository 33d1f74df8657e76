import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { sleep } from '../src/common/clock.ts';
import { errorText } from '../src/common/errors.ts';
import { isAlive, readProc } from './proc.ts';

export interface ProgramSpec {
  /** For messages. */
  name: string;
  argv: readonly string[];
  /** File that its standard output and error go to, appended. */
  log: string;
  /** Over this process's own environment; undefined takes a variable away. */
  env?: Record<string, string | undefined>;
  /** Runs it inside a test host: its argv, to be put before the program's. */
  enter?: readonly string[];
}

/** Tells a program that hangs from one on a machine that others load too. */
const PATIENCE_MS = 180_000;

const live = new Set<Program>();
process.on('exit', () => live.forEach((program) => program.killNow()));

/**
 * A real program that a test, or npm start, started. It ends with this process, whatever ends that: `exit` kills what is left, and the
 * kernel does (`setpriv --pdeathsig`) when not even that ran.
 */
export class Program {
  readonly #spec: ProgramSpec;
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #pid = 0;

  constructor(spec: ProgramSpec) {
    this.#spec = spec;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Of what was started last, once it has ended by itself; null when a signal ended it. */
  get exit_code(): number | null {
    return this.#child?.exitCode ?? null;
  }

  /** Resolves when what was started last has ended. */
  get ended(): Promise<unknown> {
    return this.#ended;
  }

  /** As this process sees it; inside a test host it has another. */
  get pid(): number {
    return this.#pid;
  }

  /**
   * Starts it and waits until `ready` returns true; a `ready` that throws is asked again.
   * @throws Error with the end of its log when it ends or the time is over; it is then killed
   */
  async start(ready: () => Promise<boolean>, timeout_ms = PATIENCE_MS): Promise<void> {
    if (this.running) throw new Error(`${this.#spec.name} runs already`);
    await this.#spawn();
    const deadline = Date.now() + timeout_ms;
    let last = 'not ready';
    while (!(await ready().catch((err: unknown) => ((last = errorText(err)), false)))) {
      if (!this.running) throw new Error(`${this.#spec.name} ended before it was ready${this.#tail()}`);
      if (Date.now() > deadline) {
        await this.kill();
        throw new Error(`${this.#spec.name}: ${last} after ${timeout_ms} ms${this.#tail()}`);
      }
      await sleep(20);
    }
  }

  async #spawn(): Promise<void> {
    const { argv, env, enter = [], log } = this.#spec;
    const out = openSync(log, 'a');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...enter, ...argv], {
      detached: true, // a group of its own, so that Ctrl-C reaches only this process, which then ends it in order
      stdio: ['ignore', out, out],
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...env },
    });
    closeSync(out);
    this.#child = child;
    this.#ended = once(child, 'exit');
    await once(child, 'spawn');
    live.add(this);
    child.once('exit', () => live.delete(this));
    this.#pid = child.pid as number;
    // nsenter stays outside as the parent and hands on the exit code, but no signal.
    if (enter.length > 0) this.#pid = (await this.#firstChild(this.#pid)) ?? this.#pid;
  }

  async #firstChild(parent: number): Promise<number | undefined> {
    while (this.running) {
      const [pid] = childrenOf(parent);
      if (pid !== undefined) return pid;
      await sleep(2);
    }
    return undefined;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.running) process.kill(this.#pid, signal);
  }

  /** Asks it to end and waits. One that has ended already is success. @throws Error when it had to be killed */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeout_ms = PATIENCE_MS): Promise<void> {
    if (!this.running) return;
    this.signal('SIGCONT');
    this.signal(signal);
    const gave_up = new AbortController();
    const ended = await Promise.race([
      this.#ended.then(() => true),
      sleep(timeout_ms, gave_up.signal).then(() => false),
    ]);
    gave_up.abort();
    if (ended) return;
    await this.kill();
    throw new Error(`${this.#spec.name} still ran ${timeout_ms} ms after ${signal} and was killed${this.#tail()}`);
  }

  /** SIGKILL, and waits for its end. */
  async kill(): Promise<void> {
    this.killNow();
    await this.#ended;
  }

  /** SIGKILL, and waits until its children have ended too, as those of PostgreSQL do by themselves. */
  async killAndWaitForChildren(): Promise<void> {
    this.pause(); // it starts no more of them
    const children = this.running ? childrenOf(this.#pid) : [];
    await this.kill();
    while (children.some(isAlive)) await sleep(5);
  }

  killNow(): void {
    this.signal('SIGKILL');
  }

  /** Stops it as if its machine hung: connections stay, nothing answers. */
  pause(): void {
    this.signal('SIGSTOP');
  }

  resume(): void {
    this.signal('SIGCONT');
  }

  #tail(): string {
    return `. The end of ${this.#spec.log}:\n${readFileSync(this.#spec.log, 'utf8').slice(-3000)}`;
  }
}

const childrenOf = (pid: number): number[] => (readProc(pid, `task/${pid}/children`).match(/\d+/g) ?? []).map(Number);
