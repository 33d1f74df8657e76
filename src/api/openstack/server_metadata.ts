import { deleteMetadata, writeMetadata } from '../../common/db/instance_updates.ts';
import { metadataRoutes } from './metadata_routes.ts';
import type { OsRequest, RouteDeps } from './route.ts';
import { serverId } from './server_query.ts';

const serverOf = ({ ctx, params }: OsRequest<{ id: string }>, { compute }: RouteDeps) =>
  compute.get(ctx, serverId(params.id));

export const serverMetadataRoutes = metadataRoutes({
  path: '/servers/:id',
  what: 'server',
  deleted: 204,
  read: async (req, deps) => (await serverOf(req, deps)).metadata,
  write: async (req, deps, pairs, replace) =>
    writeMetadata(deps.db, deps.settings, await serverOf(req, deps), pairs, { replace }),
  remove: async (req, deps, key) => deleteMetadata(deps.db, (await serverOf(req, deps)).id, key),
});
