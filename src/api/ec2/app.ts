import { randomUUID } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import type { Authenticator } from '../../common/auth/authenticator.ts';
import { actingAs } from '../../common/auth/identity.ts';
import { readEc2Claim } from '../../common/auth/signature.ts';
import { clock } from '../../common/clock.ts';
import type { RequestContext } from '../../common/context.ts';
import { Aborted, InvalidInput, MissingParameter } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { BODY_LIMITS, readBody, sendAnswer, UnsupportedMediaType, type AnswerText } from '../body.ts';
import { isMetadataPath } from '../metadata/app.ts';
import { remoteAddress } from '../remote_address.ts';
import type { AnswerCache } from '../answer_cache.ts';
import { authorize, findAction, isChange, type ActionTable } from './action.ts';
import { ec2Error, NoSuchEndpoint, UnsupportedHttpVerb } from './errors.ts';
import { nest, parseParams } from './query.ts';
import { renderError, renderInside, renderStsAnswer, renderStsError, STS_VERSION, wrapAnswer } from './xml.ts';

/** Nova's list, in its order. */
const VERSIONS =
  '1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01 2009-04-04'.replaceAll(' ', '\n') +
  '\n';

const MOST_HEADERS = 100;

export interface Ec2AppOptions<Deps> {
  actions: ActionTable<Deps>;
  deps: Deps;
  authenticator: Authenticator;
  log: Log;
  /** Keeps answers that depend on the database alone; without it every answer is made anew. */
  cache?: AnswerCache;
  /** Take the client's address from X-Forwarded-For. */
  use_forwarded_for: boolean;
  /** Answers the metadata service's paths, which Nova had on this port too; absent: they are as any other. */
  metadata?: RequestListener;
}

type Serving<Deps> = Ec2AppOptions<Deps> & { readonly access_log: Log };

/** One request on its way through; the parts are filled in as they become known. */
interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly request_id: string;
  readonly started_ms: number;
  readonly path: string;
  readonly query: string;
  readonly remote_address: string;
  action: string | null;
  sts: boolean;
  project_id: string | null;
}

/**
 * The EC2 API: `/services/Cloud` as Nova had it, and `/`, where clients of today post to; without an Action `/` lists the
 * versions. STS's GetCallerIdentity is an action like the others.
 */
export function ec2App<Deps>(given: Ec2AppOptions<Deps>): Express {
  // The access line holds nothing secret, and looking for secrets in it would cost more than the request itself.
  const options = { ...given, access_log: given.log.child({}, { redact: [] }) };
  const app = express();
  app.disable('x-powered-by');
  app.enable('case sensitive routing');
  const api = (req: Request, res: Response) => serve(options, begin(options, req, res));
  app.use(['/services/Cloud', '/services/Admin'], api); // Nova's tools for administrators had a path of their own
  const { metadata } = given;
  if (metadata) app.use((req, res, next) => (isMetadataPath(req.originalUrl) ? metadata(req, res) : next()));
  app.use((req, res) => {
    if (req.method !== 'POST' && !/[?&](Action|AWSAccessKeyId)=/.test(req.originalUrl)) {
      sendAnswer(req, res, 200, { 'Content-Type': 'text/html' }, VERSIONS);
      return undefined;
    }
    if (req.path === '/') return api(req, res);
    throw new NoSuchEndpoint(`no API is at ${req.path.slice(0, 80)}; the EC2 API is at /services/Cloud and at /`);
  });
  // What was refused on the way to the API: here, or by Express itself.
  app.use((err: unknown, req: Request, res: Response, _next: NextFunction) =>
    fail(options, begin(options, req, res), err),
  );
  return app;
}

export const newRequestId = (): string => `req-${randomUUID()}`;

function begin(
  { use_forwarded_for }: Pick<Ec2AppOptions<never>, 'use_forwarded_for'>,
  req: Request,
  res: Response,
): Exchange {
  const request_id = newRequestId();
  const url = req.originalUrl.replace(/^https?:\/\/[^/?]*/i, ''); // a proxy's client may send the whole URL
  const mark = url.indexOf('?');
  return {
    req,
    res,
    request_id,
    started_ms: performance.now(),
    path: mark < 0 ? url : url.slice(0, mark),
    query: mark < 0 ? '' : url.slice(mark + 1),
    remote_address: remoteAddress(req, use_forwarded_for),
    action: null,
    sts: false,
    project_id: null,
  };
}

/** The one place that catches: whatever happens on the way becomes an answer in EC2's format. */
async function serve<Deps>(options: Serving<Deps>, exchange: Exchange): Promise<void> {
  try {
    const text = await answer(options, exchange);
    finish(options.access_log, exchange, 200, text);
  } catch (err) {
    fail(options, exchange, err);
  }
}

async function answer<Deps>(
  { actions, authenticator, deps, cache }: Ec2AppOptions<Deps>,
  exchange: Exchange,
): Promise<AnswerText> {
  const { req, request_id } = exchange;
  const body = await readForm(req);
  const params = parseParams(exchange.query, body);
  const version = params.get('Version') ?? '';
  exchange.sts = version === STS_VERSION;
  exchange.action = params.get('Action') ?? null;

  const signed = { method: req.method ?? '', path: exchange.path, query: exchange.query, headers: req.headersDistinct };
  const claim = readEc2Claim(signed, params, body);
  const { secret_key, ...identity } = await authenticator.identify(claim.access_key);
  claim.verify(secret_key, clock.now());
  exchange.project_id = identity.project_id;

  if (!exchange.action) throw new MissingParameter('the parameter Action is missing: what to do');
  if (version === '') throw new MissingParameter('the parameter Version is missing: an API version such as 2009-04-04');
  const action = findAction(actions, exchange.action);
  const ctx = contextOf(exchange, actingAs(identity, isChange(action.name)));
  authorize(ctx, action);
  if (action.api === 'sts') return renderStsAnswer(action.name, request_id, await action.call(ctx, nest(params), deps));
  const make = async () => renderInside(await action.call(ctx, nest(params), deps));
  const inside = cache && action.cached ? await cache.get(answerKey(ctx, params), make) : await make();
  return wrapAnswer(action.name, version, request_id, inside);
}

/** Of two requests that get the same answer: the same caller, and the same parameters in the same order but those of the signature. */
function answerKey({ user_id, project_id, is_admin }: RequestContext, params: ReadonlyMap<string, string>): string {
  let key = `${user_id} ${project_id} ${is_admin}`;
  for (const [name, value] of params)
    if (!SIGNS.has(name) && !name.startsWith('X-Amz-')) key += ` ${name.length} ${name} ${value.length} ${value}`;
  return key;
}
const SIGNS: ReadonlySet<string> = new Set([
  'AWSAccessKeyId',
  'Expires',
  'Signature',
  'SignatureMethod',
  'SignatureVersion',
  'Timestamp',
]);

/** The form body, or nothing. @throws InvalidInput and its kin for a body that is none */
async function readForm(req: IncomingMessage): Promise<Buffer> {
  if (req.rawHeaders.length > 2 * MOST_HEADERS) throw new InvalidInput(`more than ${MOST_HEADERS} headers`);
  if (req.method !== 'GET' && req.method !== 'POST') {
    throw new UnsupportedHttpVerb(`the method is ${req.method}; the EC2 API takes GET and POST`);
  }
  const { 'content-encoding': encoding, 'content-type': type } = req.headers;
  if (encoding !== undefined && encoding !== 'identity') {
    throw new UnsupportedMediaType(`the body is encoded as ${encoding}; send it plain`);
  }
  const body = await readBody(req, BODY_LIMITS);
  if (body.length > 0 && type !== undefined && !/^application\/x-www-form-urlencoded *(;|$)/i.test(type)) {
    throw new UnsupportedMediaType(`the body is ${type.slice(0, 80)}; send application/x-www-form-urlencoded`);
  }
  return body;
}

function contextOf({ res, request_id, remote_address }: Exchange, identity: Partial<RequestContext>): RequestContext {
  let signal: AbortSignal | undefined;
  const { user_id = null, project_id = null, is_admin = false, roles = [] } = identity;
  const timestamp = clock.now().toISOString();
  // Written out: spreading makes an object that is slow to read, at every request.
  return {
    user_id,
    project_id,
    is_admin,
    roles,
    read_deleted: false,
    remote_address,
    timestamp,
    request_id,
    // Made when it is asked for: most actions never wait for anything that could be given up.
    get signal() {
      return (signal ??= signalOf(res));
    },
  };
}

/** Aborted when the client leaves before it is answered. */
function signalOf(res: ServerResponse): AbortSignal {
  const left = new AbortController();
  const leave = () => {
    if (!res.writableFinished) left.abort(new Aborted('the client closed the connection'));
  };
  if (res.closed) leave();
  else res.once('close', leave);
  return left.signal;
}

function fail({ log, access_log }: Pick<Serving<never>, 'log' | 'access_log'>, exchange: Exchange, err: unknown): void {
  const { code, status, message } = ec2Error(err);
  const { res, request_id, action } = exchange;
  const left = err instanceof Aborted && res.closed; // nobody is there who could be failed
  if (status >= 500 && !left) log.error({ request_id, action, err }, 'ec2 request failed');
  const render = exchange.sts ? renderStsError : renderError;
  finish(access_log, exchange, status, render(code, message, request_id), code);
}

export const xmlHeaders = (request_id: string): Record<string, string> => ({
  'Content-Type': 'text/xml',
  'x-amzn-requestid': request_id,
  'x-openstack-request-id': request_id,
});

function finish(log: Log, exchange: Exchange, status: number, text: AnswerText, code?: string): void {
  const { req, res, request_id } = exchange;
  sendAnswer(req, res, status, xmlHeaders(request_id), text);
  log.info(
    {
      request_id,
      remote_address: exchange.remote_address,
      method: req.method,
      path: exchange.path,
      action: exchange.action,
      project_id: exchange.project_id,
      status,
      code,
      ms: Math.round((performance.now() - exchange.started_ms) * 10) / 10,
      user_agent: req.headers['user-agent'],
    },
    'ec2 request',
  );
}
