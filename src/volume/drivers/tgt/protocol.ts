import { connect } from 'node:net';
import { endianness } from 'node:os';
import { BackendUnavailable, NovaError } from '../../../common/errors.ts';

/**
 * tgtd's management protocol, as tgtadm speaks it: one request for each connection to a unix socket, a struct of 120 bytes
 * in the machine's byte order and then `name=value,...` with a NUL; the answer is an error number, a length and text. tgtadm
 * itself is not used, since it takes a secret as a word of its command line, which every user of the host can read.
 * Source: tgt 1.0.85 usr/tgtadm.h, usr/mgmt.c; the struct is the same from 1.0.60 to 1.0.97.
 */
export interface TgtRequest {
  mode: keyof typeof MODES;
  op: keyof typeof OPS;
  /** Number of the target; none asks for all. */
  tid?: number;
  /** Of the session and its connection. */
  sid?: number;
  cid?: number;
  lun?: number;
  /** `name=value,...` */
  params?: string;
}

const MODES = { system: 0, target: 1, device: 2, portal: 3, session: 5, connection: 6, account: 7 } as const;
const OPS = { new: 0, delete: 1, show: 2, bind: 3, unbind: 4, update: 5 } as const;
const STRUCT_BYTES = 120;
const ANSWER_BYTES = 8;
const TIMEOUT_MS = 20_000;
const little = endianness() === 'LE';

/** usr/tgtadm_error.h */
export const TGT_ERRORS = {
  no_target: 4,
  no_session: 6,
  no_connection: 7,
  target_exists: 9,
  acl_not_there: 13,
  user_exists: 14,
  no_user: 15,
  invalid: 17,
  target_active: 19,
  lun_active: 20,
} as const;

/** tgtd refused; `code` is its own number. */
export class TgtError extends NovaError {
  readonly code: number;
  constructor(what: string, code: number) {
    const name = Object.entries(TGT_ERRORS)
      .find(([, number]) => number === code)?.[0]
      .replaceAll('_', ' ');
    super(`tgtd refused ${what}: ${name ?? 'error'} (${code})`);
    this.code = code;
  }
}
/** Nobody listens at the socket: tgtd does not run. */
export class TgtdGone extends BackendUnavailable {}
/** With these it was not even asked. */
const AT_FILE_LIMIT = ['EMFILE', 'ENFILE'];

/** @returns tgtd's text. @throws TgtError, TgtdGone, BackendUnavailable when it does not answer */
export async function askTgtd(socket_path: string, request: TgtRequest): Promise<string> {
  const answer = await exchange(socket_path, encode(request), `${request.op} ${request.mode}`);
  const read = (at: number) => (little ? answer.readUInt32LE(at) : answer.readUInt32BE(at));
  // Not the parameters: they may hold a secret.
  const code = read(0);
  if (code !== 0)
    throw new TgtError(`${request.op} ${request.mode}${request.tid === undefined ? '' : ` ${request.tid}`}`, code);
  return answer.toString('utf8', ANSWER_BYTES, read(4)).replace(/\0+$/, '');
}

/** The same request without an error when tgtd refuses it for one of these reasons. @returns whether it was done */
export async function askTgtdUnless(codes: readonly number[], asking: Promise<string>): Promise<boolean> {
  try {
    await asking;
    return true;
  } catch (err) {
    if (err instanceof TgtError && codes.includes(err.code)) return false;
    throw err;
  }
}

function encode({ mode, op, tid = -1, sid = 0, cid = 0, lun = -1, params }: TgtRequest): Buffer {
  const text = params === undefined ? Buffer.alloc(0) : Buffer.from(`${params}\0`);
  const head = Buffer.alloc(STRUCT_BYTES);
  const u32 = (value: number, at: number) =>
    little ? head.writeInt32LE(value | 0, at) : head.writeInt32BE(value | 0, at);
  const u64 = (value: number, at: number) =>
    little ? head.writeBigInt64LE(BigInt(value), at) : head.writeBigInt64BE(BigInt(value), at);
  u32(MODES[mode], 0);
  u32(OPS[op], 4);
  head.write('iscsi', 8, 64, 'latin1');
  u32(STRUCT_BYTES + text.length, 72);
  u32(tid, 76);
  u64(sid, 80);
  u64(lun, 88);
  u32(cid, 96);
  return Buffer.concat([head, text]); // the rest is zero: host number, a disk, incoming account, no force
}

function exchange(socket_path: string, request: Buffer, what: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(socket_path);
    const chunks: Buffer[] = [];
    socket.setTimeout(TIMEOUT_MS, () =>
      socket.destroy(new BackendUnavailable(`tgtd did not answer ${what} at ${socket_path} in ${TIMEOUT_MS / 1000} s`)),
    );
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', (err: NodeJS.ErrnoException) => {
      if (err instanceof NovaError) return reject(err);
      const Why = AT_FILE_LIMIT.includes(err.code ?? '') ? BackendUnavailable : TgtdGone;
      reject(new Why(`no tgtd at ${socket_path} (${what}): ${err.message}`, { cause: err }));
    });
    socket.on('close', () => {
      const answer = Buffer.concat(chunks);
      if (answer.length >= ANSWER_BYTES) return resolve(answer);
      reject(new TgtdGone(`tgtd at ${socket_path} ended before it answered ${what}`));
    });
  });
}
