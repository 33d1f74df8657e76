import type { IncomingMessage, ServerResponse } from 'node:http';
import { InvalidInput, NovaError } from '../common/errors.ts';

/** The body is larger than this API takes. */
export class RequestEntityTooLarge extends NovaError {
  override readonly http_status: number = 413;
}
/** The body stopped coming. */
export class RequestTimeout extends NovaError {
  override readonly http_status: number = 408;
}
export class UnsupportedMediaType extends NovaError {
  override readonly http_status: number = 415;
}

export interface BodyLimits {
  limit_bytes: number;
  /** The longest wait between two pieces of the body. */
  idle_ms: number;
}

/**
 * What both HTTP APIs take. A client that is gone, or that has ended its side in the middle of its body, is answered at once.
 * One whose connection stays open may only be slow: TCP sends a lost packet again after a second, and after two more when
 * that is lost too, so a second is too little and five are enough for two losses in a row.
 */
export const BODY_LIMITS: BodyLimits = { limit_bytes: 1024 * 1024, idle_ms: 5000 };

const empty = Buffer.alloc(0);

function hasBody({ headers }: IncomingMessage): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** Reads a request's body whole. @throws RequestEntityTooLarge, RequestTimeout, InvalidInput when it breaks off */
export async function readBody(req: IncomingMessage, { limit_bytes, idle_ms }: BodyLimits): Promise<Buffer> {
  if (!hasBody(req)) return empty;
  const length = req.headers['content-length'];
  const tooLarge = () => new RequestEntityTooLarge(`the body has more than the ${limit_bytes} bytes allowed`);
  if (Number(length ?? 0) > limit_bytes) throw tooLarge();
  return await new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let size = 0;
    const settle = (act: () => void) => {
      clearTimeout(timer);
      req.off('data', onData).off('end', onEnd).off('error', onBroken).off('close', onBroken);
      act();
    };
    const fail = (err: Error) => settle(() => reject(err));
    const onData = (piece: Buffer) => {
      timer.refresh();
      size += piece.length;
      if (size > limit_bytes) fail(tooLarge());
      else pieces.push(piece);
    };
    const onEnd = () => settle(() => resolve(pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces)));
    const onBroken = () => fail(new InvalidInput(`the connection broke off after ${size} bytes of the body`));
    const timer = setTimeout(
      () =>
        fail(new RequestTimeout(`no more of the body came in ${idle_ms} ms, after ${size} of ${length ?? '?'} bytes`)),
      idle_ms,
    );
    req.on('data', onData).on('end', onEnd).on('error', onBroken).on('close', onBroken);
  });
}

/** A text, its bytes, or a long one in parts that nobody had to join. */
export type AnswerText = string | Buffer | readonly (string | Buffer)[];

/** How long, and for how many bytes, a refused body is still listened to. */
const LINGER_MS = 1000;

/**
 * Sends a whole answer. When the request was not read to its end, the connection is closed after it, but only once the
 * client had the time to read: closing at once makes the client's kernel throw the answer away.
 */
export function sendAnswer(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  headers: Record<string, string>,
  text: AnswerText,
): void {
  const unread = hasBody(req) && !req.complete && !req.destroyed;
  const parts = typeof text === 'string' || Buffer.isBuffer(text) ? [text] : text;
  headers['Content-Length'] = String(parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0));
  if (unread) headers['Connection'] = 'close';
  res.writeHead(status, headers);
  const last = parts.at(-1) ?? '';
  for (const part of parts.slice(0, -1)) res.write(part);
  if (!unread || req.method === 'HEAD') {
    res.end(last); // a string goes out in one write with the header, a Buffer in two
    return;
  }
  res.write(last);
  const close = () => {
    clearTimeout(timer);
    res.end();
  };
  const timer = setTimeout(close, LINGER_MS);
  req.once('end', close).once('close', close).resume();
}
