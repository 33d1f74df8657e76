import type { z } from 'zod';
import type { TokenAuthenticator } from '../../common/auth/token_authenticator.ts';
import type { RequestContext } from '../../common/context.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import type { quotaFlags } from '../../common/db/quotas.ts';
import type { Flags, FlagValues } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { NetworkApi } from '../../network/api.ts';
import type { ImageApi } from '../../objectstore/api.ts';
import type { ComputeApi } from '../../compute/api.ts';
import type { SecurityGroupApi } from '../../compute/security_group_api.ts';
import type { VolumeApi } from '../../volume/api.ts';
import type { paginationFlags } from './pagination.ts';
import type { RateLimits } from './rate_limits.ts';
import type { Urls } from './urls.ts';

/** What the API is made with. */
export interface OpenstackDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  compute: ComputeApi;
  images: ImageApi;
  groups: SecurityGroupApi;
  network: NetworkApi;
  volumes: VolumeApi;
  tokens: TokenAuthenticator;
}

/** What routes work with: the same, and the flags that some of them read. */
export interface RouteDeps extends OpenstackDeps {
  settings: FlagValues<typeof paginationFlags & typeof quotaFlags>;
  /** Undefined: as often as one likes. */
  rate_limits: RateLimits | undefined;
}

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** `/servers/:id/metadata/:key` gives `{ id: string; key: string }`. */
export type ParamsOf<Path extends string> = Path extends `${string}:${infer Name}/${infer Rest}`
  ? { readonly [K in Name]: string } & ParamsOf<Rest>
  : Path extends `${string}:${infer Name}`
    ? { readonly [K in Name]: string }
    : unknown;

export interface OsRequest<Params = unknown, Body = unknown> {
  readonly ctx: RequestContext;
  /** What stood in the path for `:name`, decoded. */
  readonly params: Params;
  readonly query: URLSearchParams;
  readonly body: Body;
  readonly urls: Urls;
}

/**
 * One entry of the table that the API is. Dispatch, authorization, the check of the body, the list of what is offered
 * and the documentation all come from it; an entry has no parsing and no error handling of its own.
 */
export interface RouteSpec<Path extends string, Body, Result> {
  readonly method: Method;
  /** Below the version and the project, e.g. `/servers/:id`. */
  readonly path: Path;
  /** One of the things that `POST /servers/:id/action` does: the single key of its body; `body` is then what stands there. */
  readonly action?: string;
  /** For the documentation: what it does, in a line. */
  readonly about: string;
  /** Who may: any member of the project, or only an administrator. */
  readonly policy: 'member' | 'admin';
  /** It changes nothing, although it is no GET. */
  readonly looks?: true;
  /** Absent: a body is not looked at. */
  readonly body?: z.ZodType<Body>;
  /** Of the answer, when all is well. */
  readonly status: number;
  /** The answer depends on nothing but the database, the project and the URL: it is kept until somebody writes. */
  readonly cached?: true;
  /** An error's status that means another here: what a body names and is not there is a bad request, not a bad URL. */
  readonly statuses?: Readonly<Record<number, number>>;
  run(req: OsRequest<ParamsOf<Path>, Body>, deps: RouteDeps): Promise<Result>;
  /** The answer's body; absent: none. */
  view?(result: Result, req: OsRequest<ParamsOf<Path>, Body>): object;
  /** Headers of the answer beside those that every answer has. */
  headers?(result: Result, req: OsRequest<ParamsOf<Path>, Body>): Record<string, string>;
}
export type Route = RouteSpec<string, unknown, unknown>;

/** Checks an entry's types against each other, and then forgets them. */
export const route = <const Path extends string, Body, Result>(spec: RouteSpec<Path, Body, Result>): Route =>
  spec as unknown as Route;
