import { S3Error } from '../logic/errors.ts';
import { checkConditions } from '../logic/conditions.ts';
import { parsePath } from '../logic/keys.ts';
import type { ObjectInfo } from '../drivers/objects.ts';
import type { Attributes } from '../drivers/sidecars.ts';
import { children, childText, readXml, requestBody } from './body.ts';
import {
  checkAccess,
  conditionsOf,
  header,
  quoted,
  sendEmpty,
  sendHead,
  sendXml,
  type HeaderValues,
  type S3Call,
} from './call.ts';
import { sendObject } from './send_object.ts';

/** Source: Nova 2011.2, which gave this for every object. */
const UNKNOWN_TYPE = 'application/unknown';
/** Kept with the object and sent as they came. */
const KEPT_HEADERS = new Set([
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'expires',
]);
const METADATA_BYTES = 8 * 1024;
const DELETE_KEYS = 1000;
const DELETE_BODY_BYTES = 4 * 1024 * 1024;

/** What this store has not, and must not seem to have. */
const REFUSED_HEADERS = new Set([
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-customer-algorithm',
  'x-amz-tagging',
  'x-amz-object-lock-mode',
  'x-amz-website-redirect-location',
]);
const PRIVATE_ACLS = ['private', 'bucket-owner-read', 'bucket-owner-full-control', 'aws-exec-read'];

/** @throws S3Error NotImplemented, MetadataTooLarge */
export function attributesOf(call: S3Call): Attributes {
  checkAcl(call);
  const headers: Record<string, string> = {};
  let bytes = 0;
  for (const name in call.req.headers) {
    if (REFUSED_HEADERS.has(name) || name.startsWith('x-amz-grant-'))
      throw new S3Error('NotImplemented', `The header ${name} asks for what this store does not do.`);
    if (!name.startsWith('x-amz-meta-') && !KEPT_HEADERS.has(name)) continue;
    const value = keptValue(name, header(call, name) ?? '');
    if (value === '') continue;
    headers[name] = value;
    bytes += name.length + value.length;
  }
  if (bytes > METADATA_BYTES)
    throw new S3Error('MetadataTooLarge', `The metadata has ${bytes} bytes; at most ${METADATA_BYTES} are allowed.`);
  return { content_type: header(call, 'content-type') ?? null, headers };
}

/** @throws S3Error NotImplemented for an ACL that lets others in */
export function checkAcl(call: S3Call): void {
  const acl = header(call, 'x-amz-acl');
  if (acl === undefined || PRIVATE_ACLS.includes(acl)) return;
  throw new S3Error(
    'NotImplemented',
    `x-amz-acl: ${acl.slice(0, 40)}: buckets are their project's alone, there are no ACLs.`,
  );
}

/** `aws-chunked` is how the body travelled, not what it is. */
const keptValue = (name: string, value: string): string =>
  name === 'content-encoding'
    ? value
        .split(',')
        .map((item) => item.trim())
        .filter((item) => item !== 'aws-chunked')
        .join(',')
    : value;

export async function putObject(call: S3Call): Promise<void> {
  const attributes = attributesOf(call);
  const { chunks, check, sums } = requestBody(call);
  const info = await call.store.objects.put(call.bucket, call.key, chunks, {
    ...attributes,
    check,
    conditions: conditionsOf(call),
  });
  sendEmpty(call, 200, { ETag: quoted(info.etag), ...sums });
}

function objectHeaders(call: S3Call, info: ObjectInfo): HeaderValues {
  const headers: HeaderValues = {
    'Content-Type': info.content_type ?? UNKNOWN_TYPE,
    'Last-Modified': info.modified.toUTCString(),
    ETag: quoted(info.etag),
    'Accept-Ranges': 'bytes',
    ...info.headers,
  };
  for (const [name, value] of call.query) {
    if (!name.startsWith('response-')) continue;
    const wanted = name.slice('response-'.length).toLowerCase();
    if (wanted === 'content-type') headers['Content-Type'] = headerValue(value);
    else if (KEPT_HEADERS.has(wanted)) headers[wanted] = headerValue(value);
  }
  return headers;
}

/** @throws S3Error InvalidArgument */
function headerValue(text: string): string {
  if (/^[\t\x20-\x7e\x80-\xff]*$/.test(text)) return text;
  throw new S3Error('InvalidArgument', 'A response-... parameter holds what no header can.');
}

/** Answers 304 or 412 by itself. @returns false then. @throws S3Error PreconditionFailed */
function passes(call: S3Call, info: ObjectInfo): boolean {
  const conditions = conditionsOf(call);
  if (conditions === null) return true;
  const outcome = checkConditions(conditions, info);
  if (outcome === 'ok') return true;
  if (outcome === 'failed')
    throw new S3Error('PreconditionFailed', `The object ${call.key} is not in the state that the request asked for.`);
  sendHead(call, 304, { ETag: quoted(info.etag), 'Last-Modified': info.modified.toUTCString() }).end();
  return false;
}

export async function getObject(call: S3Call): Promise<void> {
  let headers: HeaderValues = {};
  const object = call.store.objects.open(call.bucket, call.key, (info) => {
    if (!passes(call, info)) return false;
    headers = objectHeaders(call, info); // in here: what it throws leaves no file open
    return true;
  });
  if (object !== null) await sendObject(call, object, headers);
}

export async function headObject(call: S3Call): Promise<void> {
  const info = call.store.objects.info(call.bucket, call.key);
  if (!passes(call, info)) return;
  const headers = objectHeaders(call, info);
  headers['Content-Length'] = info.size;
  sendHead(call, 200, headers).end();
}

/** Nova answers 404 for a key that is not there, where AWS answers 204. */
export async function deleteObject(call: S3Call): Promise<void> {
  await call.store.objects.remove(call.bucket, call.key);
  sendEmpty(call, 204);
}

/** Keys that are not there count as deleted, as at AWS. */
export async function deleteObjects(call: S3Call): Promise<void> {
  const wanted = await readXml(call, 'Delete', DELETE_BODY_BYTES);
  const entries = children(wanted, 'Object');
  if (entries.length === 0 || entries.length > DELETE_KEYS)
    throw new S3Error('MalformedXML', `A Delete names 1 to ${DELETE_KEYS} objects; this one names ${entries.length}.`);
  const deleted: { Key: string }[] = [];
  const errors: { Key: string; Code: string; Message: string }[] = [];
  for (const entry of entries) {
    const key = childText(entry, 'Key');
    if (key === null || key === '') throw new S3Error('MalformedXML', 'An Object of the Delete has no Key.');
    try {
      await call.store.objects.remove(call.bucket, key);
      deleted.push({ Key: key });
    } catch (err) {
      if (!(err instanceof S3Error)) throw err;
      if (err.code === 'NoSuchKey') deleted.push({ Key: key });
      else errors.push({ Key: key, Code: err.code, Message: err.message });
    }
  }
  const quiet = childText(wanted, 'Quiet') === 'true';
  sendXml(call, 'DeleteResult', { Deleted: quiet ? [] : deleted, Error: errors });
}

/** Bucket and key of x-amz-copy-source. @throws S3Error InvalidArgument, NoSuchBucket, AccessDenied, NotImplemented */
export function copySource(call: S3Call): { bucket: string; key: string } {
  const [path = '', version] = (header(call, 'x-amz-copy-source') ?? '').split('?versionId=');
  if (version !== undefined && version !== 'null') throw new S3Error('NotImplemented', 'There are no versions here.');
  const { bucket, key } = parsePath(path.startsWith('/') ? path : `/${path}`);
  if (bucket === null || key === null) throw new S3Error('InvalidArgument', 'x-amz-copy-source is not /bucket/key.');
  checkAccess(call, bucket);
  return { bucket, key };
}

export async function copyObject(call: S3Call): Promise<void> {
  const source = copySource(call);
  const directive = header(call, 'x-amz-metadata-directive') ?? 'COPY';
  const attributes = attributesOf(call);
  const info = await call.store.objects.copy(
    { ...source, conditions: conditionsOf(call, 'x-amz-copy-source-') },
    { bucket: call.bucket, key: call.key },
    directive === 'REPLACE' ? attributes : null,
  );
  sendXml(call, 'CopyObjectResult', { LastModified: info.modified.toISOString(), ETag: quoted(info.etag) });
}
