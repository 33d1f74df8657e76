import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Ask } from './http_get.ts';
import { answerParent } from './worker.ts';

/** Small ones are faster as a text, in one write with the header; large ones as bytes. */
const LARGE = 16 * 1024;

interface Fixed {
  type: string;
  body: string | Buffer;
  length: number;
}

/** The least that a node:http server can do: fixed bodies that were once real answers. */
const bodies = new Map<string, Fixed>();
const server = createServer((req, res) => {
  const { type, body, length } = bodies.get(req.url ?? '') ?? { type: 'text/plain', body: '', length: 0 };
  res.writeHead(200, { 'Content-Type': type, 'Content-Length': length });
  res.end(body);
});

async function listen(): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** From now on answers `as` with what that request gets. */
async function copy({ ask, as }: { ask: Ask; as: string }): Promise<void> {
  const answer = await fetch(ask.origin + ask.path, { headers: ask.headers });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`GET ${ask.path}: ${answer.status} ${text.slice(0, 1000)}`);
  const length = Buffer.byteLength(text);
  const body = length > LARGE ? Buffer.from(text) : text;
  bodies.set(as, { type: answer.headers.get('content-type') ?? '', body, length });
}

answerParent({ listen, copy });
