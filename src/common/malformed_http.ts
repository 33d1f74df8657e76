import { STATUS_CODES, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

/** What is wrong with bytes that are no request. */
export interface Malformed {
  status: number;
  message: string;
  /** The answer that the application was working on when the request broke off; none when it was not even begun. */
  res: ServerResponse | undefined;
}
export interface RawAnswer {
  headers: Record<string, string>;
  body: string;
}

const STATUS: Readonly<Record<string, { status: number; message: string }>> = {
  HPE_HEADER_OVERFLOW: { status: 431, message: 'the headers of the request are too large' },
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, message: 'the request did not come to its end in time' },
  HPE_INVALID_EOF_STATE: { status: 400, message: 'the connection broke off before the request was complete' },
};
/** How long a client may take to read the answer. */
const LINGER_MS = 1000;

/** Answers what is no HTTP in the API's own form. Node's own answer is an empty page, and only while nothing was begun. */
export function answerMalformed(server: Server, render: (malformed: Malformed) => RawAnswer): void {
  const under_way = new WeakMap<Duplex, ServerResponse>();
  server.on('request', (req, res) => under_way.set(req.socket, res));
  server.on('clientError', (err: NodeJS.ErrnoException, socket) => {
    const res = under_way.get(socket);
    const begun = res !== undefined && !res.writableFinished;
    if (err.code === 'ECONNRESET' || !socket.writable || (begun && res.headersSent)) {
      socket.destroy();
      return;
    }
    const { status, message } = STATUS[err.code ?? ''] ?? { status: 400, message: 'this is no HTTP request' };
    const { headers, body } = render({ status, message, res: begun ? res : undefined });
    const lines = { ...headers, 'Content-Length': Buffer.byteLength(body), Connection: 'close' };
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${head.join('')}\r\n${body}`);
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => clearTimeout(timer));
  });
}
