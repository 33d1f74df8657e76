import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { atEnd, type Scope } from '../test/rigs/tmp.ts';

/** Longest answer that is waited for. */
const PATIENCE_MS = 180_000;

/** A file of bench/workers/ in a process of its own, so that client and server do not share one event loop. */
export class WorkerProcess {
  readonly #child: ChildProcess;
  #asked = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.setMaxListeners(200);
  }

  /**
   * Ends with the scope, and when this process does. NOVA_BENCH_PROFILE=DIR leaves its CPU profile there.
   * @param enter before its argv: runs it in a test host
   */
  static start(scope: Scope, name: string, enter: readonly string[] = []): WorkerProcess {
    const profiles = process.env['NOVA_BENCH_PROFILE'];
    const profiling = profiles === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profiles}`];
    const file = join(import.meta.dirname, 'workers', `${name}.js`);
    const [program = '', ...args] = [...enter, process.execPath, ...profiling, file];
    const child = spawn(program, args, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true, // a session of its own, as daemons have: on a busy machine the kernel shares processors by session
    });
    const worker = new WorkerProcess(child);
    atEnd(scope, () => worker.end());
    return worker;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** @throws Error with what went wrong in there, also when it ends or stays silent */
  async ask<T>(ask: string, args: object = {}): Promise<T> {
    const id = ++this.#asked;
    const child = this.#child;
    return new Promise<T>((resolve, reject) => {
      const settle = (err: Error | undefined, result?: T) => {
        clearTimeout(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        if (err) reject(err);
        else resolve(result as T);
      };
      const onMessage = (answer: { id: number; result?: T; error?: string }) => {
        if (answer.id !== id) return;
        settle(answer.error === undefined ? undefined : new Error(`${ask}: ${answer.error}`), answer.result);
      };
      const onExit = () => settle(new Error(`the worker ended while it was asked for ${ask}`));
      const timer = setTimeout(() => settle(new Error(`no answer to ${ask} in ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
      child.on('message', onMessage);
      child.once('exit', onExit);
      child.send({ id, ask, args });
    });
  }

  /** In order, so that node's --cpu-prof (NODE_OPTIONS) is written; killed when that takes long. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 3000);
    if (this.#child.connected) this.#child.disconnect();
    await ended;
    clearTimeout(timer);
  }
}
