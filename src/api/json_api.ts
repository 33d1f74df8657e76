import { randomUUID } from 'node:crypto';
import type { Server, ServerResponse } from 'node:http';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { InvalidInput, NovaError } from '../common/errors.ts';
import { expressServer } from '../common/express_server.ts';
import type { Log } from '../common/log.ts';
import { BODY_LIMITS, readBody, sendAnswer } from './body.ts';
import { UnprocessableEntity } from './http_errors.ts';
import { parseJson } from './json_body.ts';
import { answerMalformed } from '../common/malformed_http.ts';
import { remoteAddress } from './remote_address.ts';

/** A request on its way through. */
export interface Exchange {
  readonly req: Request;
  readonly res: Response;
  readonly request_id: string;
  readonly remote_address: string;
  /** Aborted when the client leaves before it is answered. */
  readonly signal: AbortSignal;
  /** For the log: what became known on the way. */
  readonly facts: Record<string, unknown>;
}
export interface Answer {
  status: number;
  /** Absent: none. A text, or its bytes, is JSON already. */
  body?: object | string | Buffer | undefined;
  headers?: Record<string, string>;
}

/** What one API adds to HTTP with JSON bodies. */
export interface JsonApi {
  /** For the log. */
  name: string;
  log: Log;
  use_forwarded_for: boolean;
  respond(exchange: Exchange): Promise<Answer>;
  /** An error in the API's own form. */
  refuse(err: unknown, request_id: string): Answer;
}

/** Nova's of then, and OpenStack's of now. */
const REQUEST_ID_HEADERS = ['X-Compute-Request-Id', 'X-OpenStack-Request-Id'] as const;
const JSON_TYPE = { 'Content-Type': 'application/json' };

/** The API as a server that does not listen yet. Whatever comes in is answered in the API's form, with a request id. */
export function jsonServer(api: JsonApi): Server {
  const server = expressServer(jsonApp(api), {
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    connectionsCheckingInterval: 1000,
  });
  answerMalformed(server, ({ status, message, res }) => {
    const request_id = res?.getHeader(REQUEST_ID_HEADERS[0])?.toString() ?? newRequestId();
    const ids = Object.fromEntries(REQUEST_ID_HEADERS.map((name) => [name, request_id]));
    const refusal = api.refuse(new HttpError(status, message), request_id);
    return { headers: { ...ids, ...refusal.headers, ...JSON_TYPE }, body: JSON.stringify(refusal.body) };
  });
  return server;
}

export function jsonApp(api: JsonApi): Express {
  const app = express();
  app.disable('x-powered-by');
  // The lines of requests hold none of the names that are hidden elsewhere; looking for them costs a tenth of an answer.
  const requests = api.log.child({}, { redact: [] });
  const begin = (req: Request, res: Response): Exchange => {
    const request_id = newRequestId();
    for (const name of REQUEST_ID_HEADERS) res.setHeader(name, request_id);
    const remote_address = remoteAddress(req, api.use_forwarded_for);
    return { req, res, request_id, remote_address, signal: signalOf(res), facts: {} };
  };
  app.use(async (req, res) => {
    const started_ms = performance.now();
    const exchange = begin(req, res);
    const answer = await api.respond(exchange).catch((err: unknown) => refused(api, exchange, err));
    finish(exchange, answer);
    logRequest(requests, api.name, exchange, answer.status, started_ms);
  });
  // What Express itself refuses.
  app.use((err: unknown, req: Request, res: Response, _next: NextFunction) => {
    const exchange = begin(req, res);
    finish(exchange, refused(api, exchange, err));
  });
  return app;
}

/** An error that has its status from elsewhere. */
export class HttpError extends NovaError {
  override readonly http_status: number;
  constructor(http_status: number, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.http_status = http_status;
  }
}

const newRequestId = (): string => `req-${randomUUID()}`;

/** The whole path as the client wrote it, and the query. @throws InvalidInput */
export function splitUrl({ originalUrl }: Request): { path: string; query: URLSearchParams } {
  const url = originalUrl.replace(/^https?:\/\/[^/?]*/i, ''); // a proxy's client may send the whole URL
  if (url.includes('%00')) throw new InvalidInput('the URL has a NUL character (%00), which no name here may');
  const mark = url.indexOf('?');
  return {
    path: mark < 0 ? url : url.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
  };
}

/** The parts of a path, decoded; empty ones do not count. @throws InvalidInput */
export function pathParts(path: string): string[] {
  try {
    return path
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
  } catch {
    throw new InvalidInput('the path is not valid percent-encoded UTF-8'); // URIError
  }
}

/** The request's body; read even by who does not look at it, so that the connection can go on. */
export const readRequest = (req: Request): Promise<Buffer> => readBody(req, BODY_LIMITS);

/** @throws UnprocessableEntity for none, UnsupportedMediaType, InvalidInput */
export function requireJson(req: Request, bytes: Buffer): unknown {
  const value = parseJson(bytes, req.headers['content-type']);
  if (value === undefined) throw new UnprocessableEntity('the request needs a body, in JSON');
  return value;
}

function signalOf(res: ServerResponse): AbortSignal {
  const left = new AbortController();
  res.once('close', () => {
    if (!res.writableFinished) left.abort(new Error('the client closed the connection'));
  });
  return left.signal;
}

function refused(api: JsonApi, { request_id, facts }: Exchange, err: unknown): Answer {
  const answer = api.refuse(err, request_id);
  if (answer.status === 500) api.log.error({ request_id, err }, `${api.name} request failed`);
  facts['refusal'] = answer.status === 500 || !(err instanceof Error) ? undefined : err.message;
  return answer;
}

function finish({ req, res }: Exchange, { status, body, headers = {} }: Answer): void {
  if (body === undefined) sendAnswer(req, res, status, { ...headers, 'Content-Type': 'text/plain' }, '');
  else sendAnswer(req, res, status, { ...headers, ...JSON_TYPE }, jsonOf(body));
}

const jsonOf = (body: object | string | Buffer): string | Buffer =>
  typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);

function logRequest(log: Log, name: string, exchange: Exchange, status: number, started_ms: number): void {
  const { req, request_id, remote_address, facts } = exchange;
  const ms = Math.round((performance.now() - started_ms) * 10) / 10;
  const path = req.originalUrl.slice(0, 500);
  log.info({ request_id, remote_address, method: req.method, path, ...facts, status, ms }, `${name} request`);
}
