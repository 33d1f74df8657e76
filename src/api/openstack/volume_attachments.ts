import { z } from 'zod';
import type { RequestContext } from '../../common/context.ts';
import type { AttachmentView, VolumeView } from '../../common/db/volume_views.ts';
import { InvalidInput, VolumeNotFound } from '../../common/errors.ts';
import { route, type RouteDeps } from './route.ts';
import { serverId } from './server_query.ts';
import { viewAttachment } from './views/volumes.ts';
import { Id, volumeId } from './volumes.ts';

const path = '/servers/:id/os-volume_attachments';

type Attached = VolumeView & { attachment: AttachmentView };
const isAttached = (volume: VolumeView): volume is Attached => volume.attachment !== null;

/** The server's volumes. @throws InstanceNotFound */
async function attached(ctx: RequestContext, server: string, { compute, volumes }: RouteDeps): Promise<Attached[]> {
  const { id } = await compute.get(ctx, serverId(server));
  return (await volumes.list(ctx, { instance_id: id })).filter(isAttached);
}

/** Source: Nova 2011.3 nova/api/openstack/contrib/volumes.py, VolumeAttachmentController */
export const volumeAttachmentRoutes = [
  route({
    method: 'GET',
    path,
    about: 'The volumes of a server',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, deps) => attached(ctx, params.id, deps),
    view: (volumes, { urls }) => ({
      volumeAttachments: volumes.map(({ id, attachment }) => viewAttachment(id, attachment, urls)),
    }),
  }),
  route({
    method: 'POST',
    path,
    about:
      'Plugs a volume into a running server; `device` is /dev/vdb or the like, by itself the next free one. Guests name disks as they come: look for the serial, which is the id of the volume',
    policy: 'member',
    body: z.object({ volumeAttachment: z.object({ volumeId: Id, device: z.string().max(32).nullish() }) }),
    status: 200,
    async run({ ctx, params, body: { volumeAttachment: asked } }, { compute, volumes }) {
      const { id } = await compute.get(ctx, serverId(params.id));
      return volumes.attach(ctx, { volume_id: asked.volumeId, instance: id, device: asked.device || null });
    },
    view: (volume, { urls }) => ({
      volumeAttachment: volume.attachment === null ? {} : viewAttachment(volume.id, volume.attachment, urls),
    }),
  }),
  route({
    method: 'GET',
    path: `${path}/:volume`,
    about: 'One volume of a server',
    policy: 'member',
    status: 200,
    async run({ ctx, params }, deps) {
      const id = volumeId(params.volume);
      const found = (await attached(ctx, params.id, deps)).find((volume) => volume.id === id);
      if (found) return found;
      throw new VolumeNotFound(`server ${params.id} has no volume ${id}`);
    },
    view: ({ id, attachment }, { urls }) => ({ volumeAttachment: viewAttachment(id, attachment, urls) }),
  }),
  route({
    method: 'PUT',
    path: `${path}/:volume`,
    about: 'Refused: an attachment does not change. Detach the volume and attach another',
    policy: 'member',
    status: 202,
    run: () => Promise.reject(new InvalidInput('an attachment does not change; detach the volume and attach another')),
  }),
  route({
    method: 'DELETE',
    path: `${path}/:volume`,
    about: 'Unplugs a volume from a server',
    policy: 'member',
    status: 202,
    async run({ ctx, params }, deps) {
      const { id } = await deps.compute.get(ctx, serverId(params.id));
      await deps.volumes.detach(ctx, { volume_id: volumeId(params.volume), instance: id });
    },
  }),
];
