import type { InstanceView } from '../../common/db/instance_views.ts';
import type { RequestContext } from '../../common/context.ts';
import type { ComputeApi } from '../../compute/api.ts';
import { InstanceNotFound } from '../../common/errors.ts';
import { readerOf } from './all_tenants.ts';
import { cutByOffset, firstOf, idNumber, pageOf, unknownMarker, type Listed } from './pagination.ts';
import type { RouteDeps, OsRequest } from './route.ts';
import { serverSelection } from './server_selection.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A server's number or uuid. @throws InstanceNotFound for what is neither */
export function serverId(text: string): number | string {
  const id = idNumber(text);
  if (id !== undefined) return id;
  if (UUID.test(text)) return text.toLowerCase();
  throw new InstanceNotFound(`there is no server ${text.slice(0, 80)}`);
}

/** The servers a list shows: those that the query selects, then `marker` and `limit`. */
export async function serverPage(req: OsRequest, { compute, settings }: RouteDeps): Promise<Listed<InstanceView>> {
  const { ctx, query } = req;
  const reader = readerOf(req);
  const { limit, marker } = pageOf(query, settings.osapi_max_limit);
  const { filter, wanted } = serverSelection(ctx, query);
  if (marker !== undefined) filter.marker = await markerNumber(ctx, compute, marker);
  if (wanted === undefined) return firstOf(await compute.list(reader, { ...filter, limit: limit + 1 }), limit);
  return firstOf((await compute.list(reader, filter)).filter(wanted), limit);
}

/** A deleted one is still a good marker: it may have gone between two pages. */
async function markerNumber(ctx: RequestContext, compute: ComputeApi, marker: string): Promise<number> {
  const id = idNumber(marker);
  const one = id === undefined ? { uuid: marker.toLowerCase() } : { ids: [id] };
  const found = await compute.list(ctx, { ...one, deleted: true });
  if (found[0] === undefined) throw unknownMarker(marker);
  return found[0].id;
}

/** The same with the `offset` of 1.0. */
export async function serversByOffset(req: OsRequest, { compute, settings }: RouteDeps): Promise<InstanceView[]> {
  const { filter, wanted = () => true } = serverSelection(req.ctx, req.query);
  return cutByOffset((await compute.list(readerOf(req), filter)).filter(wanted), req.query, settings.osapi_max_limit);
}
