import { spawn } from 'node:child_process';
import { Aborted, ProcessExecutionError } from './errors.ts';
import { sleep } from './clock.ts';

export interface ExecuteOptions {
  /** Written to standard input. */
  input?: string | Buffer;
  /** Exit codes that are no failure; default [0]. */
  ok?: readonly number[];
  timeout_ms?: number;
  /** Attempts in all; default 1. Between them 0.2 to 2 s, at random. */
  attempts?: number;
  env?: Record<string, string>;
  cwd?: string;
  signal?: AbortSignal;
  /** Put before the command when this process is not root, e.g. ['sudo', '-n']. */
  root_helper?: readonly string[];
}
export interface ExecuteResult {
  stdout: string;
  stderr: string;
  exit_code: number;
}

const OUTPUT_LIMIT = 32 * 1024 * 1024;
/** Sudo that is killed has another of its processes end the command, in up to 2 s, where it runs that in a terminal (use_pty). */
const HELPER_MS = 10_000;

/**
 * Runs a host command: argv only, never a shell. It is over when all that it started and that holds its output is. After
 * `timeout_ms`, or with the signal, the command itself is killed, and what it started lives on; with a root helper, which
 * is another process than the command, all goes but what became a daemon. A command that may not be killed is waited for:
 * what was given up does not run on.
 * @throws ProcessExecutionError, with `timeout_ms` among its details where the time was over; Aborted
 */
export async function execute(argv: readonly string[], options: ExecuteOptions = {}): Promise<ExecuteResult> {
  const attempts = options.attempts ?? 1;
  for (let attempt = 1; ; attempt++) {
    try {
      return await executeOnce(argv, options);
    } catch (err) {
      if (attempt >= attempts || err instanceof Aborted) throw err;
      await sleep(200 + Math.random() * 1800, options.signal);
    }
  }
}

function executeOnce(argv: readonly string[], options: ExecuteOptions): Promise<ExecuteResult> {
  const helper = options.root_helper && process.getuid?.() !== 0 ? options.root_helper : [];
  const [command, ...args] = [...helper, ...argv] as [string, ...string[]];
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) return reject(new Aborted(`${command} not started: ${String(options.signal.reason)}`));
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: options.cwd,
      env: options.env ? { ...process.env, ...options.env } : process.env,
      detached: helper.length > 0, // a process group of its own
    });
    const { pid } = child;
    if (pid === undefined) {
      // At the limit of open files it has no stdio either.
      child.once('error', (err) =>
        reject(new ProcessExecutionError(`${command} cannot be run: ${err.message}`, { cause: err })),
      );
      return;
    }
    let stdout = '';
    let stderr = '';
    let stopped: Error | undefined;
    let ended = false;
    // What the command started may hold its pipes for as long as it lives; `close` comes when we let go of them.
    const letGo = () => {
      child.stdout.destroy();
      child.stderr.destroy();
    };
    const stop = (why: Error) => {
      stopped ??= why;
      if (ended) letGo();
      else if (helper.length > 0) killGroup(helper, pid);
      else child.kill('SIGKILL');
    };
    let late: NodeJS.Timeout | undefined;
    child.on('exit', () => {
      ended = true;
      if (stopped && helper.length > 0) late = setTimeout(letGo, HELPER_MS);
      else if (stopped) letGo();
    });
    const timeout_ms = options.timeout_ms ?? 60_000;
    const timer = setTimeout(
      () =>
        stop(
          new ProcessExecutionError(`${argv.join(' ')}: no answer in ${timeout_ms} ms`, {
            details: { command, timeout_ms },
          }),
        ),
      timeout_ms,
    );
    const onAbort = () => stop(new Aborted(`${command} stopped: ${String(options.signal?.reason)}`));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const add = (text: string, more: string) => (text.length > OUTPUT_LIMIT ? text : text + more);
    child.stdout.setEncoding('utf8').on('data', (data: string) => (stdout = add(stdout, data)));
    child.stderr.setEncoding('utf8').on('data', (data: string) => (stderr = add(stderr, data)));
    child.stdin.on('error', () => undefined); // a child that does not read its input is no failure of ours
    child.stdin.end(options.input);
    const done = (act: () => void) => {
      clearTimeout(timer);
      clearTimeout(late);
      options.signal?.removeEventListener('abort', onAbort);
      act();
    };
    child.on('error', () => undefined); // it runs, and may not be killed: `close` comes when it has ended
    child.on('close', (code) =>
      done(() => {
        const exit_code = code ?? -1;
        if (stopped) return reject(stopped);
        if ((options.ok ?? [0]).includes(exit_code)) return resolve({ stdout, stderr, exit_code });
        const said = (stderr.trim() || stdout.trim()).slice(-500);
        reject(
          new ProcessExecutionError(`${argv.join(' ')} ended with ${exit_code}: ${said}`, {
            details: { command, exit_code, stderr: stderr.slice(-2000) },
          }),
        );
      }),
    );
  });
}

/** What runs as root only root may kill. One that cannot be is waited for. */
function killGroup(helper: readonly string[], pid: number): void {
  const [command = '', ...args] = [...helper, 'kill', '-s', 'KILL', '--', `-${pid}`];
  spawn(command, args, { stdio: 'ignore' }).on('error', () => undefined);
}
