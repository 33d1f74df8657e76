import { readFile } from 'node:fs/promises';
import { createServer, request, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/**
 * A program of its own, which QEMU starts for each connection of a guest to 169.254.169.254: it speaks HTTP on its
 * standard input and output, as under inetd, and hands requests on to the metadata service. That one knows guests by
 * their address, which cannot be seen through user-mode networking; so it is said in a header, with a signature that
 * only a daemon which knows --metadata_proxy_shared_secret could have made. The guest has neither.
 *
 *     node metadata_connection.js FILE      with the MetadataAccess of the guest, as JSON
 */
export interface MetadataAccess {
  host: string;
  port: number;
  /** Added to each request; what the guest says under these names is dropped. */
  headers: Record<string, string>;
}

/** A connection on which nothing moves ends after this: a guest has few at once (metadata_slots.ts). */
const SILENT_MS = 30_000;
const ANSWER_MS = 25_000;

/** What belongs to one connection only, and what would say who asks. */
const NOT_HANDED_ON = /^(connection|keep-alive|transfer-encoding|te|trailer|upgrade|x-instance-.*|x-forwarded-.*)$/i;

const withoutOurs = (headers: IncomingHttpHeaders): IncomingHttpHeaders =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !NOT_HANDED_ON.test(name)));

function handOn(access: MetadataAccess, from: IncomingMessage, answer: ServerResponse): void {
  const onwards = request({
    host: access.host,
    port: access.port,
    method: from.method,
    path: from.url,
    headers: { ...withoutOurs(from.headers), ...access.headers },
    timeout: ANSWER_MS,
  });
  onwards.on('response', (response) => {
    answer.writeHead(response.statusCode ?? 502, withoutOurs(response.headers));
    response.pipe(answer);
  });
  onwards.on('timeout', () => onwards.destroy(new Error(`no answer in ${ANSWER_MS / 1000} s`)));
  onwards.on('error', (err) => {
    if (!answer.headersSent) answer.writeHead(503, { 'content-type': 'text/plain' });
    answer.end(`the metadata service at ${access.host}:${access.port} does not answer: ${err.message}\n`);
  });
  from.pipe(onwards);
}

const access = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as MetadataAccess;
const connection = new Socket({ fd: 0 });
connection.on('close', () => process.exit(0));
createServer((from, answer) => handOn(access, from, answer))
  .setTimeout(SILENT_MS)
  .emit('connection', connection);
