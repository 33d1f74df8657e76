import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';

/** Who asks, and for which request: goes with every call, cast, event and log line. */
export interface RequestContext {
  readonly user_id: string | null;
  readonly project_id: string | null;
  readonly is_admin: boolean;
  readonly roles: readonly string[];
  readonly read_deleted: boolean;
  readonly remote_address: string | null;
  /** UTC, ISO 8601. */
  readonly timestamp: string;
  readonly request_id: string;
  /** Aborted when the caller left, the resource is being deleted, or the daemon stops. */
  readonly signal: AbortSignal;
}

/** For a signal that the whole process waits by: of its eleventh listener Node would warn as of a leak. */
export function abortOfMany(): AbortController {
  const abort = new AbortController();
  setMaxListeners(0, abort.signal);
  return abort;
}

const never = abortOfMany().signal;

export function makeContext(over: Partial<RequestContext> = {}): RequestContext {
  return {
    user_id: null,
    project_id: null,
    is_admin: false,
    roles: [],
    read_deleted: false,
    remote_address: null,
    timestamp: new Date().toISOString(),
    request_id: over.request_id ?? `req-${randomUUID()}`,
    signal: never,
    ...over,
  };
}

/** The daemon itself: no user, no project, everything allowed. */
export const adminContext = (over: Partial<RequestContext> = {}): RequestContext =>
  makeContext({ is_admin: true, ...over });

/** The same caller with admin rights. */
export const elevated = (ctx: RequestContext): RequestContext => ({ ...ctx, is_admin: true });

/** Context as the queue carries it. Source: Nova 2011.3 nova/context.py to_dict; Cactus' short names are sent beside them. */
export function contextToWire(ctx: RequestContext): Record<string, unknown> {
  return {
    _context_user_id: ctx.user_id,
    _context_project_id: ctx.project_id,
    _context_user: ctx.user_id,
    _context_project: ctx.project_id,
    _context_is_admin: ctx.is_admin,
    _context_roles: ctx.roles,
    _context_read_deleted: ctx.read_deleted,
    _context_remote_address: ctx.remote_address,
    _context_timestamp: ctx.timestamp,
    _context_request_id: ctx.request_id,
  };
}

/** Reads either release's keys; unknown `_context_` keys are ignored (Nova failed on them and never answered). */
export function contextFromWire(wire: Record<string, unknown>): RequestContext {
  const text = (...keys: string[]): string | null => {
    for (const key of keys) {
      const value = wire[`_context_${key}`];
      if (typeof value === 'string') return value;
    }
    return null;
  };
  const roles = wire['_context_roles'];
  return makeContext({
    user_id: text('user_id', 'user'),
    project_id: text('project_id', 'project'),
    is_admin: wire['_context_is_admin'] === true,
    roles: Array.isArray(roles) ? roles.map(String) : [],
    read_deleted: wire['_context_read_deleted'] === true,
    remote_address: text('remote_address'),
    timestamp: text('timestamp') ?? new Date().toISOString(),
    ...(text('request_id') === null ? {} : { request_id: text('request_id') as string }),
  });
}
