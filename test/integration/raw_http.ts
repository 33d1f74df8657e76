import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

export interface Answer {
  status: number;
  type: string;
  body: string;
}

/** Sends bytes as they are and reads until the server closes or its answer is whole. `end` half-closes behind them. */
export function raw(port: number, bytes: string | Buffer, { end = false } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const timer = setTimeout(() => socket.destroy(new Error('no answer in 60 s')), 60_000);
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      const text = Buffer.concat(parts).toString('utf8');
      const [head = '', ...rest] = text.split('\r\n\r\n');
      resolve({
        status: Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0),
        type: /^content-type: *(.*)$/im.exec(head)?.[1] ?? '',
        body: rest.join('\r\n\r\n'),
      });
    };
    socket.on('data', (part) => {
      parts.push(part);
      const text = Buffer.concat(parts).toString('latin1');
      const at = text.indexOf('\r\n\r\n');
      const length = Number(/^content-length: *(\d+)$/im.exec(text.slice(0, at))?.[1] ?? NaN);
      if (at >= 0 && text.length >= at + 4 + length) done();
    });
    socket.on('end', done).on('error', (err: NodeJS.ErrnoException) => {
      if (err.code === 'EPIPE' || err.code === 'ECONNRESET') return; // it had read enough; its answer may be there
      clearTimeout(timer);
      reject(err);
    });
    socket.on('close', done);
    if (end) socket.end(bytes);
    else socket.write(bytes);
  });
}

/** One request: its line, headers with the length of its body, and the body. */
export const http = (
  line: string,
  headers: Record<string, string | number> = {},
  body: string | Buffer = '',
): Buffer => {
  const all = { Host: 'nova', ...(body === '' ? {} : { 'Content-Length': Buffer.byteLength(body) }), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`${line} HTTP/1.1\r\n${lines.join('')}\r\n`), Buffer.from(body)]);
};

/** What is not even a request of the API, whatever the API. @param post a request line without its version, which takes a body */
export const anyPort = (post: string): Record<string, [string | Buffer, { end?: boolean }?]> => ({
  'binary garbage': [randomBytes(2000), { end: true }],
  'a TLS hello': [Buffer.from('16030100f1010000ed0303' + '00'.repeat(230), 'hex'), { end: true }],
  'a verb that is none': ['FROBNICATE / HTTP/1.1\r\nHost: x\r\n\r\n'],
  'a version that is none': ['GET / HTTP/9.9\r\nHost: x\r\n\r\n'],
  'a huge header': [`GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(200_000)}\r\n\r\n`],
  'ten thousand headers': [`${post} HTTP/1.1\r\nHost: x\r\n${'X-Y: 1\r\n'.repeat(10_000)}\r\n`],
  'a huge URL': [`GET /${'a'.repeat(200_000)} HTTP/1.1\r\nHost: x\r\n\r\n`],
  'two lengths': [`${post} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc`],
  'a length that is none': [`${post} HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n`],
  'a chunk that is none': [`${post} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`],
  'a header with a line break': [`${post} HTTP/1.1\r\nHost: x\r\nX: a\u0000b\r\n\r\n`],
  'a broken-off head': ['GET / HT', { end: true }],
});
