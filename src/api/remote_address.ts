import type { IncomingMessage } from 'node:http';
import { boolean, defineFlags } from '../common/flags.ts';

export const forwardedFlags = defineFlags({
  use_forwarded_for: boolean(
    false,
    'Believe X-Forwarded-For about who asks; only behind a proxy that sets it, since a client can write anything there',
  ),
});

/**
 * Who asks, dotted IPv4 where it is one. With `use_forwarded_for`, what the nearest proxy wrote: the last item of
 * X-Forwarded-For, since those before it came from the client.
 */
export function remoteAddress(req: IncomingMessage, use_forwarded_for: boolean): string {
  const forwarded = use_forwarded_for ? req.headers['x-forwarded-for'] : undefined;
  const text = typeof forwarded === 'string' ? forwarded.slice(forwarded.lastIndexOf(',') + 1).trim() : '';
  const address = text === '' ? (req.socket.remoteAddress ?? '') : text;
  return address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address; // a socket that listens on :: says so
}
