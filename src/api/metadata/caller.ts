import { createHmac } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { NotAuthorized } from '../../common/errors.ts';
import { remoteAddress } from '../remote_address.ts';
import { sameBytes } from './session_token.ts';

/**
 * The fixed ip of the instance that asks: the address the request comes from, or, from a proxy that shares our secret, the
 * one it vouches for in `X-Instance-Address` with `X-Instance-Signature`, the hex HMAC-SHA256 of that address.
 * @param secret empty when there is no such proxy; its headers then mean nothing
 * @throws NotAuthorized when the signature is not right
 */
export function callerAddress(req: IncomingMessage, secret: string, use_forwarded_for: boolean): string {
  const address = req.headers['x-instance-address'];
  if (secret === '' || typeof address !== 'string') return remoteAddress(req, use_forwarded_for);
  const given = req.headers['x-instance-signature'];
  const right = createHmac('sha256', secret).update(address).digest();
  if (typeof given !== 'string' || !sameBytes(Buffer.from(given, 'hex'), right))
    throw new NotAuthorized(
      `X-Instance-Signature does not fit X-Instance-Address ${address}: the proxy and this service must have the same --metadata_proxy_shared_secret`,
    );
  return address;
}
