import { createHmac, hash } from 'node:crypto';
import { AuthFailure, InvalidInput, RequestExpired } from '../errors.ts';
import {
  byText,
  checkSkew,
  CLOCK_SKEW_S,
  headerOf,
  mismatch,
  sameText,
  uriEncode,
  type Claim,
  type SignedRequest,
} from './claim.ts';

/**
 * AWS Signature Version 4, in the Authorization header or in the query ("presigned").
 *
 *   canonical request = METHOD \n path \n query \n header:value\n... \n signed header names \n hash of the body
 *   string to sign    = AWS4-HMAC-SHA256 \n X-Amz-Date \n DATE/REGION/SERVICE/aws4_request \n sha256(canonical request)
 *   key               = HMAC chain over secret, DATE, REGION, SERVICE, aws4_request
 *
 * S3 differs twice: its path is encoded once (others encode the encoded path again), and the hash of the body is what
 * the header X-Amz-Content-Sha256 says, so that a body can be checked while it streams: by the caller, against `payload_hash`.
 */
export interface V4Claim extends Claim {
  readonly service: string;
  readonly region: string;
  /** `20150830`. */
  readonly date: string;
  /** `20150830T123600Z`. */
  readonly amz_date: string;
  readonly signature: string;
  /** What the client says of the body: sha256 in hex, UNSIGNED-PAYLOAD, or STREAMING-...; S3 must hold the body to it. */
  readonly payload_hash: string;
}

export const V4_ALGORITHM = 'AWS4-HMAC-SHA256';
export const UNSIGNED_PAYLOAD = 'UNSIGNED-PAYLOAD';
const LONGEST_PRESIGN_S = 7 * 24 * 3600;

export const sha256Hex = (data: string | Buffer): string => hash('sha256', data, 'hex');
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();

/** The key that signs everything of one secret, day, region and service; S3's streamed chunks need it too. */
export function signingKey(secret_key: string, scope: { date: string; region: string; service: string }): Buffer {
  const { date, region, service } = scope;
  return hmac(hmac(hmac(hmac(`AWS4${secret_key}`, date), region), service), 'aws4_request');
}

/**
 * Keys that have verified a request, by all that goes into them: a client uses the same one all day, and making it costs
 * more than everything else here together. A pure function remembered; bounded, because the region is the client's choice.
 */
const knownKeys = new Map<string, Buffer>();
const MOST_KNOWN_KEYS = 1000;

function rememberKey(name: string, key: Buffer): void {
  if (knownKeys.size >= MOST_KNOWN_KEYS) knownKeys.clear();
  knownKeys.set(name, key);
}

/** Whether the request carries a version 4 signature, good or bad. */
export const isV4 = (request: SignedRequest): boolean =>
  headerOf(request, 'authorization')?.startsWith(V4_ALGORITHM) === true || /(^|&)X-Amz-Algorithm=/.test(request.query);

/**
 * @param body the whole body, or null for S3, where the caller checks it against `payload_hash`
 * @throws AuthFailure when the parts of the signature cannot be read
 */
export function readV4Claim(request: SignedRequest, body: Buffer | null): V4Claim {
  const fields = /(^|&)X-Amz-Algorithm=/.test(request.query) ? presignedFields(request) : headerFields(request);
  const scope = readCredential(fields.credential);
  const signed_at = readAmzDate(fields.amz_date);
  if (!fields.amz_date.startsWith(scope.date)) {
    throw new AuthFailure(`the credential is of ${scope.date}, but the request was signed at ${fields.amz_date}`);
  }
  const names = fields.signed_headers.toLowerCase().split(';');
  if (!names.includes('host')) throw new AuthFailure('SignedHeaders leaves out host: sign the host header');
  const payload_hash = hashOfPayload(request, body, fields.presigned);
  const canonical = canonicalRequests(request, scope.service, names, payload_hash);
  return {
    ...scope,
    amz_date: fields.amz_date,
    signature: fields.signature,
    payload_hash,
    verify(secret_key, now) {
      const key_name = `${scope.date}/${scope.region}/${scope.service}/${secret_key}`;
      const known = knownKeys.get(key_name);
      const key = known ?? signingKey(secret_key, scope);
      const prefix = `${V4_ALGORITHM}\n${fields.amz_date}\n${scope.date}/${scope.region}/${scope.service}/aws4_request\n`;
      const fits = (text: string) =>
        sameText(hmac(key, prefix + sha256Hex(text)).toString('hex'), fields.signature.toLowerCase());
      if (!canonical.some(fits)) throw mismatch(canonical[0] ?? '');
      if (!known) rememberKey(key_name, key);
      if (fields.expires_s === null) checkSkew(signed_at, now);
      else checkPresigned(signed_at, fields.expires_s, now);
    },
  };
}

interface Fields {
  credential: string;
  signed_headers: string;
  signature: string;
  amz_date: string;
  presigned: boolean;
  /** Life of a presigned request; null: the usual window. */
  expires_s: number | null;
}

function headerFields(request: SignedRequest): Fields {
  const text = (headerOf(request, 'authorization') ?? '').slice(V4_ALGORITHM.length);
  const parts = new Map<string, string>();
  for (const part of text.split(',')) {
    const equals = part.indexOf('=');
    if (equals > 0) parts.set(part.slice(0, equals).trim(), part.slice(equals + 1).trim());
  }
  const date = headerOf(request, 'x-amz-date') ?? amzDateOf(headerOf(request, 'date'));
  return {
    credential: part(parts.get('Credential'), 'Credential in the Authorization header'),
    signed_headers: part(parts.get('SignedHeaders'), 'SignedHeaders in the Authorization header'),
    signature: part(parts.get('Signature'), 'Signature in the Authorization header'),
    amz_date: part(date, 'the X-Amz-Date header'),
    presigned: false,
    expires_s: null,
  };
}

function presignedFields(request: SignedRequest): Fields {
  const params = new Map(queryPairs(request.query));
  const get = (name: string) => part(params.get(name), `the query parameter ${name}`);
  if (get('X-Amz-Algorithm') !== V4_ALGORITHM) throw new AuthFailure(`X-Amz-Algorithm is not ${V4_ALGORITHM}`);
  // STS and EC2 allow leaving X-Amz-Expires out; the usual window holds then.
  const expires = params.get('X-Amz-Expires');
  const expires_s = expires === undefined ? null : /^\d{1,6}$/.test(expires) ? Number(expires) : 0;
  if (expires_s !== null && (expires_s < 1 || expires_s > LONGEST_PRESIGN_S)) {
    throw new InvalidInput(`X-Amz-Expires is not a number of seconds from 1 to ${LONGEST_PRESIGN_S}`);
  }
  return {
    credential: get('X-Amz-Credential'),
    signed_headers: get('X-Amz-SignedHeaders'),
    signature: get('X-Amz-Signature'),
    amz_date: get('X-Amz-Date'),
    presigned: true,
    expires_s,
  };
}

function part(value: string | undefined, what: string): string {
  if (value === undefined || value === '') throw new AuthFailure(`the signature has no ${what}`);
  return value;
}

function readCredential(text: string): { access_key: string; date: string; region: string; service: string } {
  const parts = /^(.+)\/(\d{8})\/([^/]*)\/([^/]+)\/aws4_request$/.exec(text);
  if (!parts) throw new AuthFailure('Credential is not KEY/YYYYMMDD/REGION/SERVICE/aws4_request');
  const [, access_key = '', date = '', region = '', service = ''] = parts;
  return { access_key, date, region, service };
}

function readAmzDate(text: string): Date {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const time = parts ? new Date(text.replace(/^(....)(..)(..T..)(..)/, '$1-$2-$3:$4:')) : new Date(NaN);
  if (Number.isNaN(time.getTime())) throw new AuthFailure('X-Amz-Date is not a time such as 20150830T123600Z');
  return time;
}

/** The HTTP Date header in X-Amz-Date's spelling. */
function amzDateOf(date: string | undefined): string | undefined {
  const time = new Date(date ?? NaN);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString().replace(/[-:]|\.\d+/g, '');
}

function hashOfPayload(request: SignedRequest, body: Buffer | null, presigned: boolean): string {
  if (body !== null) return sha256Hex(body);
  const said = headerOf(request, 'x-amz-content-sha256');
  if (said !== undefined) return said;
  if (presigned) return UNSIGNED_PAYLOAD;
  throw new AuthFailure('the X-Amz-Content-Sha256 header is missing');
}

function checkPresigned(signed_at: Date, expires_s: number, now: Date): void {
  const age_s = Math.round((now.getTime() - signed_at.getTime()) / 1000);
  if (age_s < -CLOCK_SKEW_S) checkSkew(signed_at, now);
  if (age_s <= expires_s) return;
  throw new RequestExpired(`the request was signed ${age_s} s ago for ${expires_s} s: sign it again`);
}

/** Clients encode odd characters of an S3 path in two ways: the rules' own form first, then the path as it came. */
function canonicalRequests(request: SignedRequest, service: string, names: string[], payload_hash: string): string[] {
  const query = canonicalQuery(request.query);
  const headers = names.map((name) => `${name}:${canonicalHeader(request, name)}\n`).join('');
  const raw = request.path || '/';
  const paths = service === 's3' ? [...new Set([encodedOnce(raw), raw])] : [encodedTwice(raw)];
  const rest = `${query}\n${headers}\n${names.join(';')}\n${payload_hash}`;
  return paths.map((path) => `${request.method}\n${path}\n${rest}`);
}

const canonicalHeader = (request: SignedRequest, name: string): string =>
  (request.headers[name] ?? []).map((value) => value.trim().replace(/ {2,}/g, ' ')).join(',');

const encodeSegments = (path: string): string => path.split('/').map(uriEncode).join('/');
const encodedOnce = (path: string): string => encodeSegments(decode(path));

/** Dot segments and double slashes go, then what is left is encoded though it is encoded already. */
function encodedTwice(path: string): string {
  if (/^\/[A-Za-z0-9/]*$/.test(path) && !path.includes('//')) return path;
  const kept: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') kept.pop();
    else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  const end = kept.length > 0 && path.endsWith('/') ? '/' : '';
  return encodeSegments(`/${kept.join('/')}${end}`);
}

/** Sorted by encoded name, then encoded value, without the signature itself. */
function canonicalQuery(query: string): string {
  if (query === '') return '';
  return queryPairs(query)
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]) => [`${uriEncode(name)}\0${uriEncode(value)}`, null] as const)
    .sort(byText)
    .map(([pair]) => pair.replace('\0', '='))
    .join('&');
}

const queryPairs = (query: string): [string, string][] =>
  query
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const equals = pair.indexOf('=');
      const [name, value] = equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)];
      return [decode(name.replaceAll('+', ' ')), decode(value.replaceAll('+', ' '))];
    });

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (err) {
    throw new InvalidInput(`the URL is not percent-encoded UTF-8: ${text.slice(0, 80)}`, { cause: err });
  }
}
