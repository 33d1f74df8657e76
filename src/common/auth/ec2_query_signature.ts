import { createHmac } from 'node:crypto';
import { InvalidInput, MissingParameter, SignatureDoesNotMatch } from '../errors.ts';
import {
  byteOrder,
  byText,
  checkExpires,
  checkSkew,
  headerOf,
  mismatch,
  parseIsoTime,
  sameText,
  uriEncode,
  type Claim,
  type SignedRequest,
} from './claim.ts';

/** Parameters of query and form body together, decoded. */
export type SignedParams = ReadonlyMap<string, string>;

const REQUIRED = ['AWSAccessKeyId', 'Signature', 'SignatureVersion'];

/**
 * EC2 Signature versions 0, 1 and 2: the signature is a parameter among the others.
 * @throws MissingParameter, InvalidInput
 * Source: Nova 2011.2 nova/auth/signer.py and nova/api/ec2/__init__.py; new here: the age of the request is checked.
 */
export function readEc2QueryClaim(request: SignedRequest, params: SignedParams): Claim {
  for (const name of REQUIRED) need(params, name);
  const version = need(params, 'SignatureVersion');
  // Version 1 clients send no SignatureMethod, those of 0 and 2 always do.
  if (version !== '1') need(params, 'SignatureMethod');
  const checkTime = readTime(params);
  const signature = need(params, 'Signature');
  const strings = stringsToSign(version, request, params);
  return {
    access_key: need(params, 'AWSAccessKeyId'),
    service: null,
    verify(secret_key, now) {
      const digest = version === '2' ? 'sha256' : 'sha1';
      const fits = (text: string) => sameText(createHmac(digest, secret_key).update(text).digest('base64'), signature);
      if (version === '2' && params.get('SignatureMethod') === 'HmacSHA1') {
        throw new SignatureDoesNotMatch('SignatureMethod HmacSHA1 is refused: sign with HmacSHA256');
      }
      if (!strings.some(fits)) throw mismatch(strings[0] ?? '');
      checkTime(now);
    },
  };
}

function need(params: SignedParams, name: string): string {
  const value = params.get(name);
  if (value === undefined || value === '') {
    throw new MissingParameter(`the parameter ${name} is missing: every request is signed`);
  }
  return value;
}

function readTime(params: SignedParams): (now: Date) => void {
  const expires = params.get('Expires');
  if (expires !== undefined) {
    const at = parseIsoTime(expires, 'Expires');
    return (now) => checkExpires(at, now);
  }
  const at = parseIsoTime(need(params, 'Timestamp'), 'Timestamp');
  return (now) => checkSkew(at, now);
}

/** More than one where clients differ; any may fit. */
function stringsToSign(version: string, request: SignedRequest, params: SignedParams): string[] {
  if (version === '0')
    return [`${params.get('Action') ?? ''}${params.get('Timestamp') ?? params.get('Expires') ?? ''}`];
  const signed = [...params].filter(([name]) => name !== 'Signature');
  if (version === '1') {
    const sorted = signed.map(([name, value]) => [name.toLowerCase(), name + value] as const).sort(byText);
    return [sorted.map(([, text]) => text).join('')];
  }
  if (version !== '2') throw new InvalidInput(`SignatureVersion '${version.slice(0, 20)}' is not one of 0, 1, 2, or 4`);
  const query = signed
    .map(([name, value]) => [byteOrder(name), `${uriEncode(name)}=${uriEncode(valueOf(name, value))}`] as const)
    .sort(byText)
    .map(([, pair]) => pair)
    .join('&');
  const host = headerOf(request, 'host') ?? '';
  const bare = host.replace(/:\d+$/, ''); // some clients leave the port out of what they sign
  const hosts = bare === host ? [host] : [host, bare];
  return hosts.map((name) => `${request.method}\n${name}\n${request.path || '/'}\n${query}`);
}

// Whatever the client says, what counts is SHA256.
const valueOf = (name: string, value: string) => (name === 'SignatureMethod' ? 'HmacSHA256' : value);
