import { metadataRoutes } from './metadata_routes.ts';
import { volumeId } from './volumes.ts';

/** Cinder's, for the service of today (volume_service.ts). */
export const volumeMetadataRoutes = metadataRoutes({
  path: '/volumes/:id',
  what: 'volume',
  deleted: 200,
  read: async ({ ctx, params }, { volumes }) => (await volumes.get(ctx, volumeId(params.id))).metadata,
  write: ({ ctx, params }, { volumes }, pairs, replace) =>
    volumes.writeMetadata(ctx, volumeId(params.id), pairs, { replace }),
  remove: ({ ctx, params }, { volumes }, key) => volumes.deleteMetadata(ctx, volumeId(params.id), key),
});
