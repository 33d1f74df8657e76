import { createHmac } from 'node:crypto';
import { AuthFailure, InvalidInput } from '../errors.ts';
import {
  byText,
  checkExpires,
  checkSkew,
  headerOf,
  mismatch,
  sameText,
  type Claim,
  type SignedRequest,
} from './claim.ts';

/** Query parameters that name a different resource, and so are signed. */
const SIGNED_QUERY = new Set(
  (
    'acl cors delete lifecycle location logging notification partNumber policy requestPayment restore tagging torrent ' +
    'uploadId uploads versionId versioning versions website response-cache-control response-content-disposition ' +
    'response-content-encoding response-content-language response-content-type response-expires'
  ).split(' '),
);

/** Whether the request carries an S3 signature of version 2, good or bad. */
export const isS3V2 = (request: SignedRequest): boolean =>
  headerOf(request, 'authorization')?.startsWith('AWS ') === true || /(^|&)AWSAccessKeyId=/.test(request.query);

/**
 * S3's own signature of version 2: `Authorization: AWS ACCESS:PROJECT:SIGNATURE`, or AWSAccessKeyId, Expires and
 * Signature in the query. The body is not covered, but for its Content-MD5.
 * @param bucket the bucket when the Host header names it (`bucket.host`), else null
 * @throws AuthFailure, InvalidInput. Source: Nova 2011.2 nova/auth/signer.py s3_authorization.
 */
export function readS3V2Claim(request: SignedRequest, bucket: string | null): Claim {
  const query = queryOf(request.query);
  const header = headerOf(request, 'authorization');
  const claim = header?.startsWith('AWS ') ? readHeader(header) : readQuery(query);
  const amz_date = headerOf(request, 'x-amz-date');
  const date = claim.expires ?? (amz_date === undefined ? (headerOf(request, 'date') ?? '') : '');
  const text = [
    request.method,
    headerOf(request, 'content-md5') ?? '',
    headerOf(request, 'content-type') ?? '',
    date,
    amzHeaders(request, claim.expires === null ? [] : [...query]) + resource(request, query, bucket),
  ].join('\n');
  return {
    access_key: claim.access_key,
    service: null,
    verify(secret_key, now) {
      if (!sameText(createHmac('sha1', secret_key).update(text).digest('base64'), claim.signature))
        throw mismatch(text);
      if (claim.expires !== null) checkExpires(new Date(Number(claim.expires) * 1000), now);
      else checkSkew(httpDate(amz_date ?? date), now);
    },
  };
}

function readHeader(header: string): { access_key: string; signature: string; expires: string | null } {
  const colon = header.lastIndexOf(':'); // the access key may hold a colon, base64 never does
  const access_key = header.slice('AWS '.length, Math.max(colon, 0)).trim();
  const signature = header.slice(colon + 1).trim();
  if (access_key === '' || signature === '') throw new AuthFailure('the Authorization header is not AWS KEY:SIGNATURE');
  return { access_key, signature, expires: null };
}

function readQuery(query: Map<string, string | null>): { access_key: string; signature: string; expires: string } {
  const [access_key, signature, expires] = ['AWSAccessKeyId', 'Signature', 'Expires'].map((name) => query.get(name));
  if (!access_key || !signature) throw new AuthFailure('the query has no AWSAccessKeyId or no Signature');
  if (!expires || !/^\d{1,11}$/.test(expires)) throw new InvalidInput('Expires is not a time in seconds since 1970');
  return { access_key, signature, expires };
}

function httpDate(text: string): Date {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new AuthFailure('the request has no readable Date or X-Amz-Date header');
  return time;
}

/** One line for each x-amz- header, sorted by name. A request that is signed in its query may have them there (boto). */
function amzHeaders(request: SignedRequest, query: readonly (readonly [string, string | null])[]): string {
  const given = Object.entries(request.headers).map(([name, values]) => [name, values ?? []] as const);
  const asked = query.map(([name, value]) => [name.toLowerCase(), [value ?? '']] as const);
  return [...given, ...asked]
    .filter(([name]) => name.startsWith('x-amz-'))
    .map(([name, values]) => [name, values.map((value) => value.replace(/\s+/g, ' ').trim()).join(',')] as const)
    .sort(byText)
    .map(([name, value]) => `${name}:${value}\n`)
    .join('');
}

function resource(request: SignedRequest, query: Map<string, string | null>, bucket: string | null): string {
  const path = `${bucket === null ? '' : `/${bucket}`}${request.path || '/'}`;
  const parts = [...query]
    .filter(([name]) => SIGNED_QUERY.has(name))
    .sort(byText)
    .map(([name, value]) => (value === null ? name : `${name}=${value}`));
  return parts.length === 0 ? path : `${path}?${parts.join('&')}`;
}

function queryOf(query: string): Map<string, string | null> {
  const params = new Map<string, string | null>();
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=');
    if (equals < 0) params.set(decode(pair), null);
    else params.set(decode(pair.slice(0, equals)), decode(pair.slice(equals + 1)));
  }
  return params;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch (err) {
    throw new InvalidInput(`the query is not percent-encoded UTF-8: ${text.slice(0, 80)}`, { cause: err });
  }
}
