import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, openSync } from 'node:fs';
import type { Server } from 'node:http';
import { clock } from '../common/clock.ts';
import type { Authenticator, Identity } from '../common/auth/authenticator.ts';
import { actingAs } from '../common/auth/identity.ts';
import { readS3Claim } from '../common/auth/signature.ts';
import {
  AuthFailure,
  InvalidInput,
  NovaError,
  PolicyNotAuthorized,
  RequestExpired,
  SignatureDoesNotMatch,
} from '../common/errors.ts';
import { expressServer } from '../common/express_server.ts';
import type { Log } from '../common/log.ts';
import { answerMalformed } from '../common/malformed_http.ts';
import { errnoOf, fromDisk, S3Error, type S3Code } from './logic/errors.ts';
import { checkAccess, sendHead, XML_TYPE, type S3Call } from './http/call.ts';
import type { Store } from './drivers/store.ts';
import { SKIP_BYTES } from './http/body.ts';
import { findOperation } from './http/operations.ts';
import { sendObject } from './http/send_object.ts';
import { parsePath } from './logic/keys.ts';
import { errorDocument } from './logic/xml.ts';

export interface S3Options {
  store: Store;
  authenticator: Authenticator;
  /** The file of an active image with that sha256, or null. */
  findImage: (checksum: string) => Promise<string | null>;
  log: Log;
}

/** S3 by path (`/bucket/key`), and `/_images/SHA256` for compute hosts. Source: Nova 2011.2 nova/objectstore/s3server.py. */
export function s3App(options: S3Options): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', false);
  app.use((req, res, next) => {
    const request_id = newRequestId();
    res.locals['request_id'] = request_id;
    if (req.url.startsWith('/_images/')) return void serveImage(options, req, res, request_id).catch(next);
    serve(options, req, res, request_id).catch(next);
  });
  app.use((err: unknown, req: Request, res: Response, _next: NextFunction) => answerError(options.log, err, req, res));
  return app;
}

const newRequestId = (): string => `req-${randomUUID()}`;

/** The app behind a server whose limits fit it: an upload may take hours as long as it moves. */
export function s3Server(options: S3Options): Server {
  const app = s3App(options);
  const server = expressServer(app, { requestTimeout: 0, headersTimeout: 60_000, keepAliveTimeout: 65_000 });
  server.setTimeout(300_000);
  server.on('checkContinue', app); // so that a body that will be refused is not sent
  answerMalformed(server, ({ status, message }) => {
    const request_id = newRequestId();
    const Code: S3Code =
      status === 408 ? 'RequestTimeout' : status === 431 ? 'RequestHeaderSectionTooLarge' : 'InvalidRequest';
    const body = errorDocument({ Code, Message: message, RequestId: request_id });
    return { headers: { 'Content-Type': XML_TYPE, 'x-amz-request-id': request_id }, body };
  });
  return server;
}

async function serve(options: S3Options, req: Request, res: Response, request_id: string): Promise<void> {
  const url = req.url;
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const raw_query = mark < 0 ? '' : url.slice(mark + 1);
  const { bucket, key } = parsePath(path);
  const { caller, claim } = await authenticate(options.authenticator, req, path, raw_query);
  const call: S3Call = {
    req,
    res,
    request_id,
    query: parseQuery(raw_query),
    bucket: bucket ?? '',
    key: key ?? '',
    caller,
    claim,
    store: options.store,
  };
  const place = bucket === null ? 'service' : key === null ? 'bucket' : 'object';
  const method = req.method ?? '';
  const operation = findOperation(method, place, call.query, req.headers['x-amz-copy-source'] !== undefined);
  if (bucket !== null && operation.makes_bucket !== true) checkAccess(call, bucket);
  await operation.run(call);
  if (method !== 'GET' && method !== 'HEAD')
    options.log.debug(
      { request_id, operation: operation.name, bucket, key, user_id: caller.user_id, project_id: caller.project_id },
      'object store changed',
    );
}

/** @throws S3Error AccessDenied for an unsigned request, and what is wrong with a signed one; PolicyNotAuthorized */
async function authenticate(
  authenticator: Authenticator,
  req: Request,
  path: string,
  query: string,
): Promise<Pick<S3Call, 'claim'> & { caller: Identity }> {
  const claim = readS3Claim({ method: req.method, path, query, headers: req.headersDistinct }, null);
  if (claim === null) throw new S3Error('AccessDenied', 'The request is not signed; nothing here is public.');
  let caller: Identity;
  try {
    caller = await authenticator.identify(claim.access_key);
  } catch (err) {
    if (!(err instanceof AuthFailure)) throw err;
    throw new S3Error('InvalidAccessKeyId', err.message, { cause: err });
  }
  claim.verify(caller.secret_key, clock.now());
  return { claim, caller: actingAs(caller, req.method !== 'GET' && req.method !== 'HEAD') };
}

function parseQuery(text: string): ReadonlyMap<string, string> {
  return text === '' ? NO_QUERY : new Map(new URLSearchParams(text));
}
const NO_QUERY: ReadonlyMap<string, string> = new Map();

/** Whoever knows an image's sha256 may read it: compute hosts learn it from the database. Always immutable. */
async function serveImage(options: S3Options, req: Request, res: Response, request_id: string): Promise<void> {
  const checksum = req.url.slice('/_images/'.length);
  const path = /^[0-9a-f]{64}$/.test(checksum) ? await options.findImage(checksum) : null;
  if (path === null) throw new S3Error('NoSuchKey', 'There is no image with that sha256.');
  if (req.method !== 'GET' && req.method !== 'HEAD')
    throw new S3Error('MethodNotAllowed', 'Images can only be read here.');
  const fd = openImage(path);
  const { size, mtime, mtimeMs } = fstatSync(fd);
  const headers = {
    'Content-Type': 'application/octet-stream',
    ETag: `"${checksum}"`,
    'Last-Modified': mtime.toUTCString(),
  };
  if (req.method === 'HEAD') {
    closeSync(fd);
    sendHead({ res, request_id }, 200, { ...headers, 'Content-Length': size }).end();
    return;
  }
  const info = { size, modified: mtime, modified_ms: mtimeMs, etag: checksum, content_type: null, headers: {} };
  await sendObject({ req, res, request_id }, { info, fd }, headers);
}

function openImage(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (err) {
    if (errnoOf(err) === 'ENOENT') throw new S3Error('NoSuchKey', 'The image was deleted.', { cause: err });
    throw err;
  }
}

// ---------------------------------------------------------------------------------------------------------------- errors

function toS3Error(err: unknown): S3Error {
  if (err instanceof S3Error) return err;
  if (err instanceof SignatureDoesNotMatch) return new S3Error('SignatureDoesNotMatch', err.message);
  if (err instanceof RequestExpired) return new S3Error('RequestTimeTooSkewed', err.message);
  if (err instanceof AuthFailure || err instanceof PolicyNotAuthorized) return new S3Error('AccessDenied', err.message);
  if (err instanceof InvalidInput) return new S3Error('InvalidArgument', err.message);
  if (err instanceof NovaError && err.http_status === 503) return new S3Error('ServiceUnavailable', err.message);
  return (
    fromDisk(err) ?? new S3Error('InternalError', 'The object store failed; its log has the reason.', { cause: err })
  );
}

function answerError(log: Log, thrown: unknown, req: Request, res: Response): void {
  const request_id = String(res.locals['request_id']);
  const err = toS3Error(thrown);
  const facts = { request_id, method: req.method, path: req.path, code: err.code };
  if (req.socket.destroyed || res.headersSent) {
    // The client left, or half an object was sent: a closed connection is the only way to say so.
    log.debug({ ...facts, err: thrown }, 'request cut off');
    res.destroy();
    return;
  }
  if (err.http_status >= 500 && err.code !== 'NotImplemented') log.error({ ...facts, err: thrown }, 'request failed');
  else log.debug({ ...facts, why: err.message }, 'request refused');
  if (leavesTooMuch(req)) res.setHeader('Connection', 'close');
  const body = errorDocument({
    Code: err.code,
    Message: err.message,
    Resource: req.path,
    RequestId: request_id,
  });
  sendHead({ res, request_id }, err.http_status, {
    'Content-Type': XML_TYPE,
    'Content-Length': Buffer.byteLength(body),
  });
  res.end(req.method === 'HEAD' ? undefined : body);
}

/** Whether the body not read yet is too long to be skipped, or may never come. */
function leavesTooMuch(req: Request): boolean {
  return (
    !req.complete && (req.headers.expect !== undefined || !(Number(req.headers['content-length'] ?? 0) <= SKIP_BYTES))
  );
}
