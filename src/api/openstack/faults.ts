import { Aborted, AuthFailure, NovaError, Unavailable } from '../../common/errors.ts';
import { BadMethod, isTold, untold } from '../http_errors.ts';
import type { Answer } from '../json_api.ts';
import type { Refusal } from './rate_limits.ts';

/** Source: Nova 2011.3 nova/api/openstack/faults.py; `forbidden` is of later releases, which had no word for 403 before. */
const NAMES: Readonly<Record<number, string>> = {
  400: 'badRequest',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'itemNotFound',
  405: 'badMethod',
  409: 'inProgress',
  413: 'overLimit',
  415: 'badMediaType',
  501: 'notImplemented',
  503: 'serviceUnavailable',
};

/** Too many requests in too short a time: Nova's own form and status, 403; its manual spoke of 413. */
export class RateLimited extends NovaError {
  override readonly http_status: number = 403;
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    const { value, verb, uri, unit } = refusal.limit;
    super(`only ${value} ${verb} requests to ${uri} are taken every ${unit.toLowerCase()}`);
    this.refusal = refusal;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  vol: 'volume',
  snap: 'snapshot',
  sg: 'security group',
  eipalloc: 'floating ip',
};

/** EC2's ids, which every message has, as this API's: `vol-0000000a` is `volume 10`. */
const inOwnIds = (message: string): string =>
  message.replace(
    /\b(?:volume |snapshot |security group |floating ip )?(vol|snap|sg|eipalloc)-([0-9a-f]{8})\b/g,
    (_all, kind: string, hex: string) => `${KINDS[kind]} ${Number.parseInt(hex, 16)}`,
  );

/** `{"itemNotFound": {"code": 404, "message": "..."}}` */
export function faultOf(thrown: unknown, request_id: string): Answer {
  const err = thrown instanceof Aborted ? new Unavailable(thrown.message) : thrown;
  if (!isTold(err)) return { status: 500, body: { cloudServersFault: { code: 500, message: untold(request_id) } } };
  if (err instanceof RateLimited) {
    const wait_s = Math.ceil(err.refusal.wait_s);
    const message = `this request came too soon; try again in ${wait_s} s`;
    const overLimitFault = { code: 403, message, details: err.message };
    return { status: 403, headers: { 'Retry-After': String(wait_s) }, body: { overLimitFault } };
  }
  const fault: Record<string, unknown> = { code: err.http_status, message: inOwnIds(err.message) };
  const headers: Record<string, string> = {};
  if (err instanceof BadMethod) headers['Allow'] = (err.details['allowed'] as string[]).join(', ');
  if (err instanceof AuthFailure) headers['WWW-Authenticate'] = 'X-Auth-Token realm="nova"';
  if (err.http_status === 413) {
    fault['retryAfter'] = err.details['retry_after'] ?? 0;
    headers['Retry-After'] = String(fault['retryAfter']);
  }
  return { status: err.http_status, headers, body: { [NAMES[err.http_status] ?? 'cloudServersFault']: fault } };
}
