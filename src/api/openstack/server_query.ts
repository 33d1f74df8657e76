import type { InstanceFilter, InstanceView } from '../../common/db/instance_views.ts';
import type { RequestContext } from '../../common/context.ts';
import type { ComputeApi } from '../../compute/api.ts';
import { InstanceNotFound, InvalidInput } from '../../common/errors.ts';
import { changesSince, cutByOffset, idNumber, pageOf, unknownMarker } from './pagination.ts';
import type { RouteDeps, OsRequest } from './route.ts';
import { SERVER_STATUSES, serverStatus } from './views/status.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A server's number or uuid. @throws InstanceNotFound for what is neither */
export function serverId(text: string): number | string {
  const id = idNumber(text);
  if (id !== undefined) return id;
  if (UUID.test(text)) return text.toLowerCase();
  throw new InstanceNotFound(`there is no server ${text.slice(0, 80)}`);
}

/**
 * The servers a list shows: filters `name`, `status`, `image`, `flavor`, `reservation_id` and `changes-since`, then
 * `marker` and `limit`. Filters that nobody knows are left alone, as Nova did.
 */
export async function serverPage(req: OsRequest, { compute, settings }: RouteDeps): Promise<InstanceView[]> {
  const { ctx, query } = req;
  const { limit, marker } = pageOf(query, settings.osapi_max_limit);
  const filter: InstanceFilter = {};
  const since = changesSince(query);
  if (since !== undefined) filter.changes_since = since;
  const reservation_id = query.get('reservation_id');
  if (reservation_id !== null) filter.reservation_id = reservation_id;
  if (marker !== undefined) filter.marker = await markerNumber(ctx, compute, marker);
  const wanted = filterOf(query);
  if (wanted === undefined) return compute.list(ctx, { ...filter, limit });
  return (await compute.list(ctx, filter)).filter(wanted).slice(0, limit);
}

/** A deleted one is still a good marker: it may have gone between two pages. */
async function markerNumber(ctx: RequestContext, compute: ComputeApi, marker: string): Promise<number> {
  const id = idNumber(marker);
  const one = id === undefined ? { uuid: marker.toLowerCase() } : { ids: [id] };
  const found = await compute.list(ctx, { ...one, deleted: true });
  if (found[0] === undefined) throw unknownMarker(marker);
  return found[0].id;
}

/** The same filters with the `offset` of 1.0. */
export async function serversByOffset(
  { ctx, query }: OsRequest,
  { compute, settings }: RouteDeps,
): Promise<InstanceView[]> {
  const wanted = filterOf(query) ?? (() => true);
  return cutByOffset((await compute.list(ctx)).filter(wanted), query, settings.osapi_max_limit);
}

type Wanted = (server: InstanceView) => boolean;

/** @returns undefined when everything is wanted */
function filterOf(query: URLSearchParams): Wanted | undefined {
  const wanted: Wanted[] = [];
  const name = query.get('name');
  if (name !== null) wanted.push(nameFilter(name));
  const status = query.get('status')?.toUpperCase();
  if (status !== undefined) {
    if (!SERVER_STATUSES.includes(status))
      throw new InvalidInput(`status is ${status.slice(0, 80)}; it is one of: ${SERVER_STATUSES.join(', ')}`);
    wanted.push((server) => serverStatus(server) === status);
  }
  const image = lastPart(query.get('image'));
  if (image !== undefined) wanted.push((server) => String(server.image_id) === image);
  const flavor = lastPart(query.get('flavor'));
  if (flavor !== undefined) wanted.push((server) => String(server.flavorid) === flavor);
  return wanted.length === 0 ? undefined : (server) => wanted.every((test) => test(server));
}

/** An id, or the URL that ends in it. */
export const lastPart = (ref: string | null): string | undefined => ref?.split('/').at(-1);

/**
 * Nova took any regular expression, which lets one request hold the service up for minutes. Here: a part of the name,
 * with `^` at its begin and `$` at its end.
 */
function nameFilter(pattern: string): Wanted {
  const [, begin, text = '', end] = /^(\^?)(.*?)(\$?)$/s.exec(pattern) ?? [];
  if (/[*+?()[\]{}|\\]/.test(text))
    throw new InvalidInput(
      `name is ${pattern.slice(0, 80)}; it is a part of the name, ^ before it and $ after it are taken`,
    );
  return ({ display_name: name }) => {
    if (begin && end) return name === text;
    if (begin) return name.startsWith(text);
    return end ? name.endsWith(text) : name.includes(text);
  };
}
