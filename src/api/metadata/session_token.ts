import { createHmac, timingSafeEqual } from 'node:crypto';

/** Seconds that a session token may be asked for. Source: AWS, "Use the Instance Metadata Service", version 2 */
export const MAX_TTL_S = 21_600;

/**
 * Tokens of the session form of the metadata service (IMDSv2). Nothing is stored: a token is its expiry and a signature
 * over that and the address it was given to.
 */
export class SessionTokens {
  readonly #key: Buffer;
  constructor(key: Buffer) {
    this.#key = key;
  }
  issue(address: string, ttl_s: number, now: Date): string {
    const expires = Math.floor(now.getTime() / 1000) + ttl_s;
    return `${expires.toString(36)}.${this.#sign(address, expires).toString('base64url')}`;
  }
  isValid(token: string, address: string, now: Date): boolean {
    const [expiry = '', signature = ''] = token.split('.', 2);
    const expires = Number.parseInt(expiry, 36);
    if (!Number.isSafeInteger(expires) || expires * 1000 <= now.getTime()) return false;
    return sameBytes(Buffer.from(signature, 'base64url'), this.#sign(address, expires));
  }
  #sign(address: string, expires: number): Buffer {
    return createHmac('sha256', this.#key).update(`${expires} ${address}`).digest();
  }
}

/** Compares in a time that tells nothing about where they differ. */
export const sameBytes = (a: Buffer, b: Buffer): boolean => a.length === b.length && timingSafeEqual(a, b);
