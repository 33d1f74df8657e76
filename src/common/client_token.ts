import { createHash } from 'node:crypto';
import { IdempotentParameterMismatch } from './errors.ts';

/** A client that may ask twice sends a token of its own making: the same token with the same request is the same request. */
export interface Tokened {
  client_token?: string | null;
}

/** What the client asked for, to know it again; null without a token. */
export const requestHash = (spec: Tokened): string | null =>
  spec.client_token ? createHash('sha256').update(JSON.stringify(spec)).digest('hex') : null;

/** @param before what the token stood for. @throws IdempotentParameterMismatch */
export function checkSameRequest(spec: Tokened, before: { request_hash: string | null }): void {
  if (before.request_hash !== requestHash(spec))
    throw new IdempotentParameterMismatch(
      `the client token ${spec.client_token} was used before with other parameters; use a new one`,
    );
}
