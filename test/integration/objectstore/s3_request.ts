import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { accessKey, secretKey } from './an_object_store.ts';

/** Where the object store listens, on 127.0.0.1. */
interface At {
  port: number;
}

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
  text: string;
  /** Of an error. */
  code: string | undefined;
}

export interface Asked {
  as?: string | null;
  headers?: Record<string, string>;
  body?: Buffer | string;
  /** What x-amz-content-sha256 says; default the truth. */
  payload?: string;
  now?: Date;
  secret?: string;
}

const sha256 = (data: Buffer | string): string => createHash('sha256').update(data).digest('hex');
const hmac = (key: Buffer | string, data: string): Buffer => createHmac('sha256', key).update(data).digest();

export interface Signed {
  headers: Record<string, string>;
  signature: string;
  key: Buffer;
  amz_date: string;
  scope: string;
}

/** Version 4 as its specification says, written apart from the product's. */
export function sign(store: At, method: string, path: string, asked: Asked): Signed {
  const user = asked.as ?? 'ann';
  const now = asked.now ?? new Date();
  const amz_date = now.toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${amz_date.slice(0, 8)}/nova/s3/aws4_request`;
  const [plain = '', query = ''] = path.split('?');
  const headers: Record<string, string> = {
    host: `127.0.0.1:${store.port}`,
    'x-amz-date': amz_date,
    'x-amz-content-sha256': asked.payload ?? sha256(asked.body ?? ''),
    ...asked.headers,
  };
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  const signed = names.filter((name) => name === 'host' || name.startsWith('x-amz-')).sort();
  const pairs = query === '' ? [] : query.split('&').map((pair) => (pair.includes('=') ? pair : `${pair}=`));
  const canonical = [
    method,
    plain,
    pairs.sort().join('&'),
    ...signed.map((name) => `${name}:${headers[name]}`),
    '',
    signed.join(';'),
    headers['x-amz-content-sha256'],
  ].join('\n');
  const key = scope
    .split('/')
    .reduce<Buffer | string>((k, word) => hmac(k, word), `AWS4${asked.secret ?? secretKey(user)}`) as Buffer;
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${amz_date}\n${scope}\n${sha256(canonical)}`).toString('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${accessKey(user)}/${scope}, SignedHeaders=${signed.join(';')}, Signature=${signature}`;
  return { headers: { ...headers, authorization }, signature, key, amz_date, scope };
}

/** One signed request (`as: null` leaves it unsigned); the path goes out as it stands. */
export async function ask(store: At, method: string, path: string, asked: Asked = {}): Promise<Answer> {
  const headers = asked.as === null ? { ...asked.headers } : sign(store, method, path, asked).headers;
  return send(store, method, path, headers, asked.body);
}

export async function send(
  store: At,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: Buffer | string = '',
): Promise<Answer> {
  const req = request({ host: '127.0.0.1', port: store.port, method, path, headers, agent: false });
  if (headers['transfer-encoding'] === undefined) req.setHeader('content-length', Buffer.byteLength(body));
  req.end(body);
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  const parts: Buffer[] = [];
  for await (const part of res as AsyncIterable<Buffer>) parts.push(part);
  const all = Buffer.concat(parts);
  const text = all.toString('utf8');
  return {
    status: res.statusCode ?? 0,
    headers: res.headers as Record<string, string>,
    body: all,
    text,
    code: /^<\?xml[^>]*>\n<Error><Code>([^<]*)</.exec(text)?.[1],
  };
}

/** A signed aws-chunked body, chunk by chunk, with its trailers. */
export function signedChunks(first: Signed, chunks: readonly string[], trailers: Record<string, string> = {}): string {
  let previous = first.signature;
  const next = (kind: string, hashes: string): string =>
    (previous = hmac(first.key, [kind, first.amz_date, first.scope, previous, hashes].join('\n')).toString('hex'));
  let body = '';
  for (const chunk of [...chunks, '']) {
    const signature = next('AWS4-HMAC-SHA256-PAYLOAD', `${sha256('')}\n${sha256(chunk)}`);
    body += `${Buffer.byteLength(chunk).toString(16)};chunk-signature=${signature}\r\n${chunk}${chunk === '' ? '' : '\r\n'}`;
  }
  const lines = Object.entries(trailers).map(([name, value]) => `${name}:${value}`);
  for (const line of lines) body += `${line}\r\n`;
  if (lines.length > 0)
    body += `x-amz-trailer-signature:${next('AWS4-HMAC-SHA256-TRAILER', sha256(lines.map((line) => `${line}\n`).join('')))}\r\n`;
  return `${body}\r\n`;
}

/** Makes buckets with names of their own. */
export function bucketsOf(store: At): (as?: string) => Promise<string> {
  let made = 0;
  return async (as = 'ann') => {
    const name = `bucket-${++made}`;
    assert.equal((await ask(store, 'PUT', `/${name}`, { as })).status, 200);
    return name;
  };
}
