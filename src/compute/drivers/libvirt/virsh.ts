import { execute } from '../../../common/execute.ts';
import { BackendAway, BackendUnavailable, ProcessExecutionError } from '../../../common/errors.ts';
import { errorCode } from '../files.ts';

/** What stderr says when libvirtd and not the command is the trouble. */
const AWAY =
  /failed to connect to the hypervisor|Failed to connect socket|Disconnected from|End of file while reading|client socket is closed|Cannot (write|recv) data|error from service|Connection reset/i;

/** What it says when a domain is not there, or carries no metadata of ours. */
const NO = /failed to get domain|Domain not found|Requested metadata element is not present/i;

/**
 * libvirt by its own command. A virsh is 20 to 100 ms, of which most is its start, so questions that come together go
 * to one virsh (`ask`).
 */
export class Virsh {
  readonly uri: string;

  constructor(uri: string) {
    this.uri = uri;
  }

  /** Runs one command. @returns standard output. @throws BackendUnavailable, ProcessExecutionError */
  async run(args: readonly string[], signal?: AbortSignal): Promise<string> {
    return (await this.#virsh(args, [0], signal)).stdout.trim();
  }

  /**
   * Asks about domains, one question after the other in one virsh. A domain that is not there, or has no metadata of
   * ours, is an answer and stops nothing.
   * @returns what each wrote to standard output; '' where the answer is no
   * @throws BackendUnavailable, ProcessExecutionError
   */
  async ask(questions: readonly (readonly string[])[]): Promise<string[]> {
    const marker = '@@nova@@';
    const script = joined(questions, marker);
    const { stdout, stderr } = await this.#virsh([script], [0, 1]);
    // The exit code is that of the last echo alone, so it is what virsh complained of that tells.
    const trouble = stderr.split('\n').filter((line) => line.trim() !== '' && !NO.test(line));
    if (trouble.length > 0) throw new ProcessExecutionError(`virsh ${script}: ${trouble.join('; ')}`);
    const answers = stdout.split(marker);
    if (answers.length !== questions.length + 1) throw new ProcessExecutionError(`virsh ${script}: ended early`);
    return questions.map((_, i) => (answers[i] ?? '').trim());
  }

  /**
   * Commands one after the other in one virsh.
   * @returns what each wrote to standard output, also where one failed. @throws BackendUnavailable
   */
  async try(commands: readonly (readonly string[])[]): Promise<string[]> {
    const marker = '@@nova@@';
    const { stdout } = await this.#virsh([joined(commands, marker)], [0, 1]);
    return stdout.split(marker).map((answer) => answer.trim());
  }

  /** The same; all of them must succeed. @throws BackendUnavailable, ProcessExecutionError with what virsh complained of */
  async script(commands: readonly (readonly string[])[]): Promise<void> {
    const { stderr } = await this.#virsh([joined(commands, '')], [0, 1]);
    const trouble = stderr.trim();
    if (trouble !== '')
      throw new ProcessExecutionError(`virsh ${commands.map(([name]) => name).join(', ')}: ${trouble.slice(-1000)}`);
  }

  async #virsh(args: readonly string[], ok: readonly number[], signal?: AbortSignal) {
    const argv = ['virsh', '-q', '-c', this.uri, ...args];
    let said: string;
    let cause: unknown;
    try {
      const result = await execute(argv, { ok, env: { LC_ALL: 'C' }, ...(signal === undefined ? {} : { signal }) });
      if (!AWAY.test(result.stderr)) return result;
      said = result.stderr;
    } catch (err) {
      if (!(err instanceof ProcessExecutionError)) throw err;
      const not_run = errorCode(err.cause);
      if (not_run === 'ENOENT')
        throw new BackendUnavailable('virsh is not there: install libvirt-clients, or choose --connection_type=qemu', {
          cause: err,
        });
      if (not_run !== undefined) throw new BackendUnavailable(err.message, { cause: err });
      if (!AWAY.test(err.message) && !/no answer in/.test(err.message)) throw err;
      said = err.message;
      cause = err;
    }
    throw new BackendAway(
      `libvirtd does not answer at ${this.uri}: start it, or set --libvirt_uri (${lastLine(said)})`,
      { cause },
    );
  }
}

const joined = (commands: readonly (readonly string[])[], marker: string): string =>
  commands.map((words) => `${words.map(quoted).join(' ')} ; echo ${marker}`).join(' ; ');

/** virsh splits a script as a shell does, with single quotes for the rest. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';
