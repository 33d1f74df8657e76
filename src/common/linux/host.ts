import { defineFlags, string } from '../flags.ts';
import { BackendUnavailable, ProcessExecutionError } from '../errors.ts';
import { execute, type ExecuteOptions, type ExecuteResult } from '../execute.ts';

export const hostFlags = defineFlags({
  root_helper: string('sudo -n', 'Command put before those that need root, where the daemon is not root'),
});
export const rootHelper = ({ root_helper }: { root_helper: string }): string[] =>
  root_helper.split(/\s+/).filter((word) => word !== '');

export interface HostOptions {
  /** Put before every command: enters another network namespace in tests. */
  prefix?: readonly string[];
  /** Put before every command when this process is not root. */
  root_helper?: readonly string[];
  /** Given, it gets the commands that would change something, none of which is run. */
  instead?: (argv: readonly string[], input: string) => void;
}

/** Commands that only look, by their first words. */
const LOOKS = [
  /^ip (-\S+ )*(addr|link|route|neigh|rule) show\b/,
  /^(ip6?tables|ebtables)-save\b/,
  /^ipset (save|list)\b/,
  /^sysctl -n\b/,
  /^(cat|pgrep|true|getent)\b/,
  /^sh -c command -v "\$0"/,
  /^ovs-vsctl (\S+ )*(show|list\S*|get|find|br-exists|port-to-br|iface-to-br|br-to-vlan)\b/,
  /^ovs-ofctl (\S+ )*(dump-\S+|show)\b/,
];
const onlyLooks = (argv: readonly string[]): boolean => LOOKS.some((look) => look.test(argv.join(' ')));

/** Runs commands on the host whose networks are ours: this one, or the one that `prefix` enters. */
export class Host {
  readonly #prefix: readonly string[];
  readonly #root_helper: readonly string[];
  readonly #instead: HostOptions['instead'];
  constructor(options: HostOptions = {}) {
    this.#prefix = options.prefix ?? [];
    this.#root_helper = options.root_helper ?? [];
    this.#instead = options.instead;
  }

  /** Whether what a command was to make will not be there. */
  get only_looks(): boolean {
    return this.#instead !== undefined;
  }

  /** @throws ProcessExecutionError, Aborted */
  async run(argv: readonly string[], options: Omit<ExecuteOptions, 'root_helper'> = {}): Promise<ExecuteResult> {
    if (this.#instead && !onlyLooks(argv)) {
      this.#instead(argv, String(options.input ?? ''));
      return { stdout: '', stderr: '', exit_code: 0 };
    }
    // A user's PATH, and that of `su` without -, leaves out where iptables and dnsmasq are.
    const env = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, ...options.env };
    return execute([...this.#prefix, ...argv], { timeout_ms: 20_000, ...options, env, root_helper: this.#root_helper });
  }

  /** A question whose answer is JSON, e.g. `ip -j addr`; null when the command fails, as `ip` does for what is not there. */
  async ask(argv: readonly string[], signal?: AbortSignal): Promise<unknown> {
    const { stdout, exit_code } = await this.run(argv, { ok: [0, 1, 2], ...(signal ? { signal } : {}) });
    return exit_code === 0 ? (JSON.parse(stdout.trim() || '[]') as unknown) : null;
  }

  /** Reads a kernel file there; null when it is not. */
  async read(path: string): Promise<string | null> {
    const { stdout, exit_code } = await this.run(['cat', path], { ok: [0, 1] });
    return exit_code === 0 ? stdout : null;
  }
}

/** Commands that need a right or a kernel feature: a refusal says which. @throws BackendUnavailable */
export async function needing<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (err) {
    if (!(err instanceof ProcessExecutionError)) throw err;
    const why = err.message.match(/not supported|Unknown device type|does not exist|No such file/i)
      ? 'this kernel, or its modules, cannot do it'
      : /not permitted|denied|password|root_helper|cannot be run/i.test(err.message)
        ? 'it must be run as root, or with a --root_helper that works'
        : 'see the command';
    throw new BackendUnavailable(`${what}: ${why}: ${err.message}`, { cause: err });
  }
}

/** Runs tasks one after the other, in the order in which they came; one that fails does not stop the next. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  take<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => undefined); // its caller has the failure; here is only the order
    return turn;
  }
}
