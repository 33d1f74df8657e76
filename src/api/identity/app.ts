import type { Server } from 'node:http';
import { endpointFlags } from '../../common/core_flags.ts';
import { listProjects, type Project } from '../../common/db/projects.ts';
import { getUser } from '../../common/db/users.ts';
import { AuthFailure, InvalidInput, NotFound, PolicyNotAuthorized } from '../../common/errors.ts';
import type { Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import { BadMethod, isTold, untold } from '../http_errors.ts';
import { jsonServer, pathParts, readRequest, requireJson, splitUrl, type Answer, type Exchange } from '../json_api.ts';
import { check } from '../json_body.ts';
import { baseUrl } from '../openstack/urls.ts';
import { forwardedFlags } from '../remote_address.ts';
import { accessByToken, projectsInSight, projectsOfToken, type IdentityDeps } from './access.ts';
import { catalogOf, type CatalogFlags } from './catalog.ts';
import { accessV2, AuthV2, viewAccessV2, viewTenant } from './v2.ts';
import { accessV3, AuthV3, viewAccessV3, viewCatalogV3, viewProject } from './v3.ts';

export interface IdentityApiDeps extends IdentityDeps {
  flags: Flags;
  log: Log;
}

/** What the two versions of the API are asked: method, path, and what comes of it. */
interface Call {
  exchange: Exchange;
  deps: IdentityDeps;
  flags: CatalogFlags;
  base: string;
}
type Route = (call: Call) => Promise<Answer>;

/**
 * Tokens and the service catalog in the form of Keystone, as far as its clients need it to find and use the compute API.
 * Users and projects are nova-manage's; a user's password is the secret key (or the access key).
 */
export function identityServer(deps: IdentityApiDeps): Server {
  const flags = deps.flags.read(endpointFlags);
  return jsonServer({
    name: 'identity',
    log: deps.log,
    use_forwarded_for: deps.flags.read(forwardedFlags).use_forwarded_for,
    async respond(exchange) {
      const { req } = exchange;
      const base = baseUrl('http', req.headers.host, `${flags.identity_host}:${flags.identity_port}`);
      return find(req.method, pathParts(splitUrl(req).path))({ exchange, deps, flags, base });
    },
    refuse,
  });
}

const ROUTES: Readonly<Record<string, Readonly<Record<string, Route>>>> = {
  '': { GET: async ({ base }) => ({ status: 300, body: { versions: { values: [version3(base), version2(base)] } } }) },
  'v2.0': { GET: async ({ base }) => ({ status: 200, body: { version: version2(base) } }) },
  'v2.0/tokens': { POST: loginV2 },
  'v2.0/tenants': { GET: tenants },
  v3: { GET: async ({ base }) => ({ status: 200, body: { version: version3(base) } }) },
  'v3/auth/tokens': { POST: loginV3, GET: showToken, DELETE: revokeToken },
  'v3/auth/catalog': { GET: showCatalog },
  'v3/auth/projects': { GET: ownProjects },
  'v3/users/:id/projects': { GET: userProjects },
  'v3/projects': { GET: projects },
  'v3/projects/:id': { GET: project },
};

function find(method: string, parts: readonly string[]): Route {
  const path = parts.join('/');
  const known = path
    .replace(/^v3\/users\/[^/]+\/projects$/, 'v3/users/:id/projects')
    .replace(/^v3\/projects\/[^/]+$/, 'v3/projects/:id');
  const routes = Object.hasOwn(ROUTES, known) ? ROUTES[known] : undefined;
  if (!routes) throw new NotFound(`the identity API offers nothing at /${path.slice(0, 200)}`);
  const route = routes[method === 'HEAD' ? 'GET' : method];
  if (route) return route;
  const allowed = Object.keys(routes);
  throw new BadMethod(`${method} is not offered at /${path}; offered: ${allowed.join(', ')}`, { details: { allowed } });
}

async function loginV2({ exchange, deps, flags }: Call): Promise<Answer> {
  const access = await accessV2(deps, check(AuthV2, await readJson(exchange)));
  return { status: 200, body: viewAccessV2(access, catalogOf(flags, access.project.id)), headers: VARY };
}

async function loginV3({ exchange, deps, flags }: Call): Promise<Answer> {
  const access = await accessV3(deps, check(AuthV3, await readJson(exchange)));
  return {
    status: 201,
    body: viewAccessV3(access, catalogOf(flags, access.project.id)),
    headers: { 'X-Subject-Token': access.token, ...VARY },
  };
}

/** Anybody who holds a token may ask what it is; asking about another's takes that token, too. */
async function showToken({ exchange, deps, flags }: Call): Promise<Answer> {
  await deps.tokens.check(tokenOf(exchange), null);
  const subject = exchange.req.headers['x-subject-token'];
  const access = await accessByToken(deps, typeof subject === 'string' ? subject : tokenOf(exchange), null).catch(
    (err: unknown) => Promise.reject(err instanceof AuthFailure ? new NotFound(err.message, { cause: err }) : err),
  );
  return {
    status: 200,
    body: viewAccessV3(access, catalogOf(flags, access.project.id)),
    headers: { 'X-Subject-Token': access.token, ...VARY },
  };
}

/** Their own tokens, and a superuser everybody's. */
async function revokeToken({ exchange, deps }: Call): Promise<Answer> {
  const caller = await deps.tokens.check(tokenOf(exchange), null);
  const subject = exchange.req.headers['x-subject-token'];
  if (typeof subject !== 'string' || subject === '')
    throw new InvalidInput('the header X-Subject-Token is missing: the token that is to be revoked');
  const owner = await deps.tokens.check(subject, null).catch((err: unknown) => {
    throw err instanceof AuthFailure ? new NotFound(err.message, { cause: err }) : err;
  });
  if (owner.user_id !== caller.user_id && !caller.is_superuser)
    throw new PolicyNotAuthorized('the token is another user’s: only they, and superusers, may revoke it');
  await deps.tokens.revoke(subject);
  return { status: 204 };
}

async function showCatalog({ exchange, deps, flags, base }: Call): Promise<Answer> {
  const { project_id } = await deps.tokens.check(tokenOf(exchange), null);
  const links = { self: `${base}/v3/auth/catalog` };
  return { status: 200, body: { catalog: viewCatalogV3(catalogOf(flags, project_id)), links } };
}

async function tenants({ exchange, deps }: Call): Promise<Answer> {
  const rows = await projectsOfToken(deps, tokenOf(exchange));
  return { status: 200, body: { tenants: rows.map(viewTenant), tenants_links: [] } };
}

/** Those that the token is good for. */
async function ownProjects(call: Call): Promise<Answer> {
  return viewProjects(call, await projectsOfToken(call.deps, tokenOf(call.exchange)));
}

/** The same by the user's id; an administrator may ask about anybody. */
async function userProjects(call: Call): Promise<Answer> {
  const id = pathParts(splitUrl(call.exchange.req).path).at(-2) ?? '';
  const { user_id, is_admin } = await call.deps.tokens.check(tokenOf(call.exchange), null);
  if (id !== user_id && !is_admin)
    throw new PolicyNotAuthorized('a user’s projects are told to the user and to administrators');
  await getUser(call.deps.db, id);
  return viewProjects(call, await listProjects(call.deps.db, id));
}

/** Those that the token's owner may name: where a client finds the project whose quota an administrator sets. */
async function projects(call: Call): Promise<Answer> {
  return viewProjects(call, await projectsInSight(call.deps, tokenOf(call.exchange)));
}

function viewProjects({ exchange, base }: Call, rows: readonly Project[]): Answer {
  const name = splitUrl(exchange.req).query.get('name');
  const wanted = rows.filter((row) => name === null || row.name === name);
  const links = { self: `${base}/v3/projects`, previous: null, next: null };
  return { status: 200, body: { projects: wanted.map((row) => viewProject(row, base)), links } };
}

/** One of those that the token's owner may name. */
async function project({ exchange, deps, base }: Call): Promise<Answer> {
  const id = pathParts(splitUrl(exchange.req).path).at(-1) ?? '';
  const row = (await projectsInSight(deps, tokenOf(exchange))).find((one) => one.id === id);
  if (!row) throw new NotFound(`there is no project ${id.slice(0, 255)}, or you are not in it`);
  return { status: 200, body: { project: viewProject(row, base) } };
}

const readJson = async ({ req }: Exchange): Promise<unknown> => requireJson(req, await readRequest(req));

/** @throws AuthFailure */
function tokenOf({ req }: Exchange): string {
  const token = req.headers['x-auth-token'];
  if (typeof token === 'string' && token !== '') return token;
  throw new AuthFailure('the request needs the header X-Auth-Token; POST /v3/auth/tokens gives tokens');
}

const VARY = { Vary: 'X-Auth-Token' };
const UPDATED = '2011-09-22T00:00:00Z';

const version2 = (base: string): object => ({
  id: 'v2.0',
  status: 'deprecated',
  updated: UPDATED,
  links: [{ rel: 'self', href: `${base}/v2.0/` }],
  'media-types': [{ base: 'application/json', type: 'application/vnd.openstack.identity-v2.0+json' }],
});
const version3 = (base: string): object => ({
  id: 'v3.0',
  status: 'stable',
  updated: UPDATED,
  links: [{ rel: 'self', href: `${base}/v3/` }],
  'media-types': [{ base: 'application/json', type: 'application/vnd.openstack.identity-v3+json' }],
});

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
};

/** `{"error": {"code": 401, "title": "Unauthorized", "message": "..."}}` */
function refuse(err: unknown, request_id: string): Answer {
  const told = isTold(err);
  const code = told ? err.http_status : 500;
  const message = told ? err.message : untold(request_id);
  const headers: Record<string, string> = {};
  if (err instanceof BadMethod) headers['Allow'] = (err.details['allowed'] as string[]).join(', ');
  return { status: code, headers, body: { error: { code, title: TITLES[code] ?? 'Error', message } } };
}
