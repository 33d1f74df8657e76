import type { Server } from 'node:http';
import type { Request } from 'express';
import { actingAs, type UserInProject } from '../../common/auth/identity.ts';
import { clock } from '../../common/clock.ts';
import { makeContext, type RequestContext } from '../../common/context.ts';
import { endpointFlags } from '../../common/core_flags.ts';
import { quotaFlags } from '../../common/db/quotas.ts';
import { AuthFailure, InvalidInput, NovaError, PolicyNotAuthorized } from '../../common/errors.ts';
import {
  HttpError,
  jsonServer,
  pathParts,
  readRequest,
  requireJson,
  splitUrl,
  type Answer,
  type Exchange,
} from '../json_api.ts';
import { AnswerCache, CACHE_BYTES } from '../answer_cache.ts';
import { check } from '../json_body.ts';
import { forwardedFlags } from '../remote_address.ts';
import { faultOf, RateLimited } from './faults.ts';
import { handshake } from './handshake.ts';
import { IMAGE_SERVICE, imageServiceRoutes, viewImageService } from './image_service.ts';
import { acceptJson } from './negotiate.ts';
import { paginationFlags } from './pagination.ts';
import { RateLimits, rateLimitFlags } from './rate_limits.ts';
import type { OpenstackDeps, OsRequest, Route, RouteDeps } from './route.ts';
import { nothingAt, RouteTable, type Found } from './route_table.ts';
import { ROUTES_1_0 } from './v1_0.ts';
import { ROUTES } from './routes.ts';
import { baseUrl, Urls } from './urls.ts';
import { viewVolumeService, VOLUME_SERVICE, volumeServiceRoutes } from './volume_service.ts';
import { isVersion, viewChoices, viewVersion, viewVersions } from './versions.ts';

interface Routing {
  table: RouteTable;
  table_1_0: RouteTable;
  images: RouteTable;
  volumes: RouteTable;
  deps: RouteDeps;
  cache: AnswerCache;
}

/** What a URL says. */
interface Place {
  /** `http://host:8774` */
  base: string;
  version: string;
  /** Of all of it, as the client wrote it. */
  path: string;
  /** Below the version. */
  parts: string[];
  query: URLSearchParams;
}

/**
 * The OpenStack compute API 1.1 as Diablo had it, with 1.0 before it and 2.0 after it, in JSON, as a server that does not
 * listen yet.
 * Source: Nova 2011.3 nova/api/openstack/__init__.py, wsgi.py
 */
export function openstackServer(deps: OpenstackDeps): Server {
  const { osapi_scheme, osapi_host, osapi_port } = deps.flags.read(endpointFlags);
  const settings = { ...deps.flags.read(paginationFlags), ...deps.flags.read(quotaFlags) };
  const rate_limits = deps.flags.read(rateLimitFlags).osapi_rate_limits ? new RateLimits() : undefined;
  const routing: Routing = {
    table: new RouteTable(ROUTES),
    table_1_0: new RouteTable(ROUTES_1_0),
    images: new RouteTable(imageServiceRoutes),
    volumes: new RouteTable(volumeServiceRoutes),
    deps: { ...deps, settings, rate_limits },
    cache: new AnswerCache(deps.db, CACHE_BYTES),
  };
  return jsonServer({
    name: 'openstack',
    log: deps.log,
    use_forwarded_for: deps.flags.read(forwardedFlags).use_forwarded_for,
    respond: (exchange) =>
      respond(routing, exchange, baseUrl(osapi_scheme, exchange.req.headers.host, `${osapi_host}:${osapi_port}`)),
    refuse: faultOf,
  });
}

async function respond(routing: Routing, exchange: Exchange, base: string): Promise<Answer> {
  const { req } = exchange;
  const { path: full_path, query } = splitUrl(req);
  const path = acceptJson(full_path, req.headers.accept);
  const [version, ...parts] = pathParts(path);
  if (version === undefined) return { status: 200, body: viewVersions(base) };
  const place: Place = { base, version, path: full_path, parts, query };
  if (version === IMAGE_SERVICE) return respondImages(routing, exchange, place);
  if (version === VOLUME_SERVICE) return respondVolumes(routing, exchange, place);
  if (isVersion(version)) return respondVersion(routing, exchange, place);
  return { status: 300, body: viewChoices(base, path) };
}

async function respondVersion(routing: Routing, exchange: Exchange, place: Place): Promise<Answer> {
  const { deps } = routing;
  const { req } = exchange;
  const { base, version, parts } = place;
  if (parts.length === 0 && !req.headers['x-auth-token']) {
    const tells = version === 'v2' && !req.headers['x-auth-user']; // its clients ask what there is before they log in
    if (tells) return { status: 200, body: viewVersion(base, version) };
    return { status: 204, headers: await handshake(req.headers, `${base}/${version}`, deps.tokens) };
  }
  const table = version === 'v1.0' ? routing.table_1_0 : routing.table;
  const project = projectOf(table, parts);
  const who = await callerOf(deps, exchange, project ?? null);
  const below = project === undefined ? parts : parts.slice(1);
  if (below.length === 0 || (below.length === 1 && below[0] === who.project_id))
    return { status: 200, body: viewVersion(base, version) };
  limitRate(deps, req, below, who.user_id);
  return runRoute(routing, exchange, table.find(req.method, below), who, place);
}

async function respondImages(routing: Routing, exchange: Exchange, place: Place): Promise<Answer> {
  const { base, parts } = place;
  if (parts.length === 0 || parts.join('/') === 'v2') return { status: 300, body: viewImageService(base) };
  const who = await callerOf(routing.deps, exchange, null);
  return runRoute(routing, exchange, routing.images.find(exchange.req.method, parts), who, place);
}

/** `/volume/v3/PROJECT/volumes` */
async function respondVolumes(routing: Routing, exchange: Exchange, place: Place): Promise<Answer> {
  const { base, parts } = place;
  const [version, project, ...below] = parts;
  if (version === undefined || (version === 'v3' && below.length === 0))
    return { status: version === undefined ? 300 : 200, body: viewVolumeService(base) };
  if (version !== 'v3') throw nothingAt(parts);
  const who = await callerOf(routing.deps, exchange, project ?? null);
  return runRoute(routing, exchange, routing.volumes.find(exchange.req.method, below), who, place);
}

/** @throws RateLimited */
function limitRate({ rate_limits }: RouteDeps, req: Request, below: readonly string[], user_id: string): void {
  const mark = req.originalUrl.indexOf('?');
  const path = `/${below.join('/')}${mark < 0 ? '' : req.originalUrl.slice(mark)}`;
  const refusal = rate_limits?.count(user_id, req.method, path, clock.now());
  if (refusal) throw new RateLimited(refusal);
}

/** Who asks, by the token; the URL's project goes before the token's. @throws AuthFailure */
async function callerOf(deps: RouteDeps, { req, facts }: Exchange, project: string | null): Promise<UserInProject> {
  const token = req.headers['x-auth-token'];
  if (typeof token !== 'string' || token === '')
    throw new AuthFailure('a request needs the header X-Auth-Token; /v1.1 gives tokens');
  const who = await deps.tokens.check(token, project);
  facts['project_id'] = who.project_id;
  return who;
}

/** @throws PolicyNotAuthorized */
function contextOf(exchange: Exchange, who: UserInProject, route: Route): RequestContext {
  const { request_id, remote_address, signal } = exchange;
  const { user_id, project_id, is_admin, roles } = actingAs(who, route.method !== 'GET' && !route.looks);
  return makeContext({ user_id, project_id, is_admin, roles, request_id, remote_address, signal });
}

async function runRoute(
  { deps, cache }: Routing,
  exchange: Exchange,
  found: Found,
  who: UserInProject,
  { base, version, path, query }: Place,
): Promise<Answer> {
  const { req, facts } = exchange;
  const bytes = await readRequest(req);
  const { route, given } =
    'route' in found ? { route: found.route, given: undefined } : chooseAction(found.actions, requireJson(req, bytes));
  facts['action'] = route.action;
  const ctx = contextOf(exchange, who, route);
  allow(ctx, route);
  const body = route.body && check(route.body, 'route' in found ? requireJson(req, bytes) : given);
  const urls = new Urls(base, version, ctx.project_id ?? '', path);
  const request: OsRequest = { ctx, query, urls, params: found.params, body };
  if (route.cached) {
    const { project_id, is_admin } = ctx;
    const key = `${is_admin ? 'admin' : 'member'} ${project_id} ${base} ${req.originalUrl}`;
    const make = async () => JSON.stringify(route.view?.(await route.run(request, deps), request));
    return { status: route.status, body: await cache.get(key, make) };
  }
  const result = await route.run(request, deps).catch((err: unknown) => restate(err, route));
  return {
    status: route.status,
    body: route.view?.(result, request),
    headers: route.headers?.(result, request) ?? {},
  };
}

/** An error with the status that it has at this route. */
function restate(err: unknown, { statuses = {} }: Route): never {
  const status = err instanceof NovaError ? statuses[err.http_status] : undefined;
  if (!(err instanceof NovaError) || status === undefined) throw err;
  throw new HttpError(status, err.message, { cause: err });
}

/** The project named in the URL: `/v1.1/PROJECT/servers` and `/v1.1/servers` are both good. @throws NotFound */
function projectOf(table: RouteTable, parts: readonly string[]): string | undefined {
  const [first, second] = parts;
  if (first === undefined || table.isCollection(first) || parts.length === 1) return undefined;
  if (second !== undefined && table.isCollection(second)) return first;
  throw nothingAt(parts);
}

/** An action's body has one key: its name. @throws InvalidInput */
function chooseAction(actions: ReadonlyMap<string, Route>, body: unknown): { route: Route; given: unknown } {
  const entries = typeof body === 'object' && body !== null ? Object.entries(body) : [];
  const [entry] = entries;
  const route = entry && entries.length === 1 ? actions.get(entry[0]) : undefined;
  if (entry !== undefined && route !== undefined) return { route, given: entry[1] };
  const names = entries.map(([key]) => key.slice(0, 40)).slice(0, 5);
  throw new InvalidInput(
    `the body names one action, of: ${[...actions.keys()].join(', ')}; given: ${names.join(', ') || 'none'}`,
  );
}

function allow(ctx: RequestContext, route: Route): void {
  if (route.policy === 'member' || ctx.is_admin) return;
  throw new PolicyNotAuthorized(`${route.method} ${route.path} is for administrators; ${ctx.user_id} is none`);
}
