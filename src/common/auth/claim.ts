import { timingSafeEqual } from 'node:crypto';
import { InvalidInput, RequestExpired, SignatureDoesNotMatch } from '../errors.ts';

/** One HTTP request as its signer saw it: nothing decoded, normalised or joined yet. */
export interface SignedRequest {
  readonly method: string;
  /** As sent, percent-encoding included, without the query. */
  readonly path: string;
  /** As sent, without the `?`. */
  readonly query: string;
  /** Lower-case names, every value apart: Node's `headersDistinct`. */
  readonly headers: NodeJS.Dict<string[]>;
}

/** What a request says about its sender; nothing of it is true before `verify`. */
export interface Claim {
  /** `ACCESS` or `ACCESS:PROJECT`. */
  readonly access_key: string;
  /** The AWS service that a version 4 signature is made for; null for the older ones. */
  readonly service: string | null;
  /** @throws SignatureDoesNotMatch, RequestExpired */
  verify(secret_key: string, now: Date): void;
}

/** Seconds that a client's clock may differ from ours. */
export const CLOCK_SKEW_S = 15 * 60;

export const headerOf = (request: SignedRequest, name: string): string | undefined => request.headers[name]?.[0];

/** Equal or not, in a time that says nothing about where the texts differ. */
export function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** RFC 3986: letters, digits and `-_.~` stay, all else is %XX in upper case, a space is %20. */
export const uriEncode = (text: string): string => encodeURIComponent(text).replace(/[!'()*]/g, hex);
const hex = (char: string) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`;

/** A text whose `<` order is the order of the UTF-8 bytes, which `<` of JavaScript (UTF-16) is not. */
export const byteOrder = (text: string): string => (isAscii(text) ? text : Buffer.from(text).toString('latin1'));
const isAscii = (text: string): boolean => /^[ -~]*$/.test(text);

export const byText = <T>(a: readonly [string, T], b: readonly [string, T]): number =>
  a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;

/** `2011-04-15T00:00:00Z`, with or without fraction and zone; without a zone it is UTC, as clients of 2011 send it. @throws InvalidInput */
export function parseIsoTime(text: string, parameter: string): Date {
  const parts = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:?\d\d)?$/.exec(text.trim());
  const time = parts ? new Date(`${parts[1]}T${parts[2]}${parts[3] ?? 'Z'}`) : new Date(NaN);
  if (Number.isNaN(time.getTime())) {
    throw new InvalidInput(`${parameter} '${text.slice(0, 40)}' is not a time such as 2011-04-15T00:00:00Z`);
  }
  return time;
}

/** @throws RequestExpired when `signed_at` is more than 15 minutes before or after `now` */
export function checkSkew(signed_at: Date, now: Date): void {
  const skew_s = Math.round((signed_at.getTime() - now.getTime()) / 1000);
  if (Math.abs(skew_s) <= CLOCK_SKEW_S) return;
  const how = `${Math.abs(skew_s)} s ${skew_s < 0 ? 'before' : 'after'}`;
  throw new RequestExpired(
    `the request was signed at ${signed_at.toISOString()}, ${how} this server's ${now.toISOString()}; ` +
      `${CLOCK_SKEW_S} s are allowed: set the client's clock or sign again`,
  );
}

/** @throws RequestExpired when `expires` is past */
export function checkExpires(expires: Date, now: Date): void {
  if (expires.getTime() >= now.getTime()) return;
  throw new RequestExpired(
    `the request expired at ${expires.toISOString()}; this server's clock says ${now.toISOString()}`,
  );
}

/** `signed` is the text we signed: no secret, and what a client's author needs to find the difference. */
export function mismatch(signed: string): SignatureDoesNotMatch {
  return new SignatureDoesNotMatch(
    'the signature does not fit the request: check the secret key and the way the client signs. ' +
      `This server signed: ${JSON.stringify(signed.slice(0, 1000))}`,
  );
}
