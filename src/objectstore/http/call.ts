import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Claim } from '../../common/auth/claim.ts';
import type { Identity } from '../../common/auth/authenticator.ts';
import type { V4Claim } from '../../common/auth/signature_v4.ts';
import { isOwner, type BucketProject } from '../logic/bucket_owner.ts';
import { S3Error } from '../logic/errors.ts';
import { document, type XmlElements } from '../logic/xml.ts';
import type { Conditions } from '../logic/conditions.ts';
import type { Store } from '../drivers/store.ts';

/** One S3 request whose sender is known. */
export interface S3Call {
  req: IncomingMessage;
  res: ServerResponse;
  request_id: string;
  query: ReadonlyMap<string, string>;
  /** Empty where the operation is not about one. */
  bucket: string;
  key: string;
  caller: Identity;
  claim: Claim | V4Claim;
  store: Store;
}

/** The headers are Node's: lower case, repeated ones joined. */
export const header = (call: S3Call, name: string): string | undefined => {
  const value = call.req.headers[name];
  return Array.isArray(value) ? value.join(',') : value;
};

export const isAllowed = (caller: Identity, owner: BucketProject): boolean =>
  caller.is_admin || isOwner(owner, caller.project_id, caller.project_created_at);

/** @throws S3Error NoSuchBucket, AccessDenied */
export function checkAccess(call: S3Call, bucket: string): void {
  const owner = call.store.buckets.owner(bucket);
  if (isAllowed(call.caller, owner)) return;
  const { project_id } = call.caller;
  const whose = owner.project_id === project_id ? 'a deleted project that had the name of' : 'another project than';
  throw new S3Error('AccessDenied', `The bucket ${bucket} belongs to ${whose} yours, ${project_id}.`);
}

/** A decimal number in the query. @throws S3Error InvalidArgument */
export function queryNumber(call: S3Call, name: string, fallback: number, most: number): number {
  const text = call.query.get(name);
  if (text === undefined || text === '') return fallback;
  if (!/^\d{1,9}$/.test(text))
    throw new S3Error('InvalidArgument', `${name} is ${text.slice(0, 40)}; it must be a number from 0 to ${most}.`);
  return Math.min(Number(text), most);
}

const CONDITIONS = ['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'] as const;

/** The conditions that the request makes, or null; `prefix` for those about the source of a copy. */
export function conditionsOf(call: S3Call, prefix = ''): Conditions | null {
  if (CONDITIONS.every((name) => call.req.headers[prefix + name] === undefined)) return null;
  return {
    if_match: header(call, `${prefix}if-match`),
    if_none_match: header(call, `${prefix}if-none-match`),
    if_modified_since: header(call, `${prefix}if-modified-since`),
    if_unmodified_since: header(call, `${prefix}if-unmodified-since`),
  };
}

export type HeaderValues = Record<string, string | number>;

/**
 * Status and headers in one go, with the request's id among them. Node keeps headers that are set one by one in a slower
 * form, which would cost a GET of a small object a tenth of its time. `headers` is the caller's to give away.
 */
export function sendHead(
  answer: Pick<S3Call, 'res' | 'request_id'>,
  status: number,
  headers: HeaderValues,
): ServerResponse {
  headers['x-amz-request-id'] = answer.request_id;
  return answer.res.writeHead(status, headers);
}

export function sendEmpty(call: S3Call, status: number, headers: HeaderValues = {}): void {
  if (status !== 204) headers['Content-Length'] = 0;
  sendHead(call, status, headers).end();
}

export const XML_TYPE = 'application/xml; charset=UTF-8';

export function sendXml(call: S3Call, root: string, tree: XmlElements): void {
  const body = Buffer.from(document(root, tree));
  sendHead(call, 200, { 'Content-Type': XML_TYPE, 'Content-Length': body.length }).end(body);
}

export const quoted = (etag: string): string => `"${etag}"`;
