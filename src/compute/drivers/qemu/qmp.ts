import { open } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { sleep } from '../../../common/clock.ts';
import { BackendUnavailable, errorText, NovaError } from '../../../common/errors.ts';
import { PowerState } from '../../logic/power_state.ts';
import { errorCode } from '../files.ts';

interface Answer {
  QMP?: unknown;
  return?: unknown;
  error?: { class: string; desc: string };
}

const KNOCK_AGAIN_MS = 20;

/**
 * Gives one QEMU one command over the socket `file` in `dir`. QEMU serves one such conversation at a time and lets one or
 * two more wait for it, so each is kept short; whoever finds no place there knocks again.
 * @param args never in a log or an error: they may hold a secret
 * @returns what QEMU returned
 * @throws BackendUnavailable when it does not answer in `timeout_ms`, NovaError when it refuses
 */
export async function qmp(
  dir: string,
  file: string,
  command: string,
  timeout_ms = 5000,
  args: Record<string, unknown> = {},
): Promise<unknown> {
  // By the open folder's own name, since a unix socket's path may have 107 bytes only and a folder's may have more.
  const folder = await open(dir, 'r');
  let socket: Socket | undefined;
  const converse = async () => {
    for (const started = Date.now(); ; await sleep(KNOCK_AGAIN_MS)) {
      socket = connect(`/proc/self/fd/${folder.fd}/${file}`);
      try {
        return await talk(socket, command, args);
      } catch (err) {
        if (errorCode(err) !== 'EAGAIN' || Date.now() - started > timeout_ms) throw err;
      }
    }
  };
  try {
    return await withTimeout(converse(), timeout_ms);
  } catch (err) {
    if (err instanceof NovaError) throw err;
    throw new BackendUnavailable(`QEMU in ${dir} does not take '${command}': ${errorText(err)}`, { cause: err });
  } finally {
    socket?.destroy();
    await folder.close();
  }
}

/** QEMU greets, must be told that we are ready for commands, and may send events in between. */
async function talk(socket: Socket, command: string, args: Record<string, unknown>): Promise<unknown> {
  let text = '';
  let greeted = false;
  let answers = 0;
  for await (const chunk of socket.setEncoding('utf8')) {
    const lines = (text + String(chunk)).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines.filter((each) => each.trim() !== '')) {
      const answer = JSON.parse(line) as Answer;
      if (answer.QMP !== undefined && !greeted) {
        greeted = true;
        socket.write(`{"execute":"qmp_capabilities"}${JSON.stringify({ execute: command, arguments: args })}`);
      }
      if (answer.error !== undefined)
        throw new NovaError(`QEMU refuses '${command}': ${answer.error.desc} (${answer.error.class})`);
      if (answer.return !== undefined && ++answers === 2) return answer.return;
    }
  }
  // It ended without a word: that is how `quit` may look.
  throw new Error('the conversation ended early');
}

async function withTimeout<T>(work: Promise<T>, timeout_ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${timeout_ms} ms`)), timeout_ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    work.catch(() => undefined); // when it was late: the socket's end ends it too
  }
}

/** QEMU's words for `query-status`; what is not here stands still. */
const STATES: Record<string, PowerState> = {
  running: PowerState.RUNNING,
  shutdown: PowerState.SHUTDOWN,
  'internal-error': PowerState.CRASHED,
  'guest-panicked': PowerState.CRASHED,
};

export function powerState(status: unknown): PowerState {
  const word = (status as { status?: string } | undefined)?.status ?? '';
  return STATES[word] ?? PowerState.PAUSED;
}
