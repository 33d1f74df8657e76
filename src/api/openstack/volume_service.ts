import { z } from 'zod';
import type { Snapshot } from '../../common/db/snapshots.ts';
import type { VolumeType } from '../../common/db/volume_types.ts';
import type { VolumeView } from '../../common/db/volume_views.ts';
import { NotOffered, Truth } from '../json_body.ts';
import { availabilityZoneRoutes } from './availability_zones.ts';
import { viewVolumeLimits, limitsOf } from './limits.ts';
import { cutPage, idOf, pageOf, viewPage, type Listed } from './pagination.ts';
import { volumeQuotaRoutes } from './quota_sets.ts';
import { route, type OsRequest, type RouteDeps } from './route.ts';
import { volumeMetadataRoutes } from './volume_metadata.ts';
import { bootable, selected, selectorNames, SNAPSHOT_SELECTORS, VOLUME_SELECTORS } from './volume_selectors.ts';
import { volumeServicesRoutes } from './volume_services.ts';
import { typeId } from './volume_types.ts';
import { Id, newVolumeSpec, NO_HINTS, SizeGb, snapshotId, volumeId } from './volumes.ts';

/**
 * Where clients of today look for volumes: what they need of Cinder's API, version 3, at `/volume` on the port of the
 * compute API. The same things in other words: see volumes.ts.
 */
export const VOLUME_SERVICE = 'volume';

function viewCinderVolume(volume: VolumeView): object {
  const { attachment } = volume;
  return {
    id: String(volume.id),
    name: volume.display_name,
    description: volume.display_description,
    status: volume.status,
    size: volume.size,
    availability_zone: volume.availability_zone,
    created_at: volume.created_at,
    user_id: volume.user_id,
    'os-vol-tenant-attr:tenant_id': volume.project_id,
    volume_type: volume.volume_type,
    snapshot_id: volume.snapshot_id === null ? null : String(volume.snapshot_id),
    source_volid: null,
    consistencygroup_id: null,
    replication_status: null,
    bootable: bootable(volume),
    encrypted: false,
    multiattach: false,
    metadata: volume.metadata,
    attachments:
      attachment === null
        ? []
        : [
            {
              id: String(volume.id),
              attachment_id: String(volume.id),
              volume_id: String(volume.id),
              server_id: attachment.instance_uuid,
              device: attachment.device,
              attached_at: attachment.attached_at,
              host_name: null,
            },
          ],
    ...(volume.fault === null ? {} : { fault: { message: volume.fault } }),
    links: [],
  };
}

const viewCinderSnapshot = (snapshot: Snapshot): object => ({
  id: String(snapshot.id),
  name: snapshot.display_name,
  description: snapshot.display_description,
  status: snapshot.status,
  size: snapshot.volume_size,
  volume_id: String(snapshot.volume_id),
  created_at: snapshot.created_at,
  updated_at: snapshot.updated_at,
  metadata: {},
  'os-extended-snapshot-attributes:progress': snapshot.progress,
  'os-extended-snapshot-attributes:project_id': snapshot.project_id,
  ...(snapshot.fault === null ? {} : { fault: { message: snapshot.fault } }),
});

const viewCinderType = ({ id, name, extra_specs }: VolumeType): object => ({
  id: String(id),
  name,
  extra_specs,
  description: null,
  is_public: true,
  'os-volume-type-access:is_public': true,
});

const cinderVolumes = async (req: OsRequest, { volumes, settings }: RouteDeps): Promise<Listed<VolumeView>> =>
  cutPage(selected(await volumes.list(req.ctx), req, VOLUME_SELECTORS), pageOf(req.query, settings.osapi_max_limit));
const cinderSnapshots = async (req: OsRequest, { volumes, settings }: RouteDeps): Promise<Listed<Snapshot>> =>
  cutPage(
    selected(await volumes.snapshots.list(req.ctx), req, SNAPSHOT_SELECTORS),
    pageOf(req.query, settings.osapi_max_limit),
  );

const Words = z.string().max(255, 'has more than 255 characters');
const NewVolume = z.object({
  ...NO_HINTS,
  volume: z.looseObject({
    size: SizeGb.nullish(),
    name: Words.nullish(),
    description: Words.nullish(),
    volume_type: z.string().nullish(),
    metadata: z.record(z.string(), z.string()).nullish(),
    snapshot_id: Id.nullish(),
    availability_zone: Words.nullish(),
    multiattach: Truth.nullish().refine((asked) => !asked, 'is not offered; leave it out'),
    imageRef: NotOffered,
    source_volid: NotOffered,
    consistencygroup_id: NotOffered,
    group_id: NotOffered,
    source_replica: NotOffered,
    backup_id: NotOffered,
  }),
});
/** Each name in Cinder's words of version 3 or, as the client of today still sends them, of version 1. */
const VolumeChange = z.object({
  volume: z.looseObject({
    name: Words.nullish(),
    description: Words.nullish(),
    display_name: Words.nullish(),
    display_description: Words.nullish(),
    metadata: z.record(z.string(), z.string()).nullish(),
  }),
});
const NewSnapshot = z.object({
  snapshot: z.looseObject({
    volume_id: Id,
    force: Truth.nullish(),
    name: Words.nullish(),
    description: Words.nullish(),
    metadata: NotOffered,
  }),
});

const lists = ['', '/detail'];

export const volumeServiceRoutes = [
  ...availabilityZoneRoutes,
  ...volumeQuotaRoutes,
  ...volumeServicesRoutes,
  route({
    method: 'GET',
    path: '/limits',
    about: "The project's quotas of volumes, -1 where there is none, and what is used of them",
    policy: 'member',
    status: 200,
    run: limitsOf,
    view: viewVolumeLimits,
  }),
  ...lists.map((detail) =>
    route({
      method: 'GET',
      path: `/volumes${detail}`,
      about: `Volumes; ${selectorNames(VOLUME_SELECTORS)} choose among them`,
      policy: 'member',
      status: 200,
      run: cinderVolumes,
      view: (volumes, req) =>
        viewPage('volumes', volumes, req, { key: idOf, views: (page) => page.map(viewCinderVolume) }),
    }),
  ),
  route({
    method: 'POST',
    path: '/volumes',
    about:
      'Makes a volume of `size` GiB, empty or with the bytes of a snapshot; hints for the scheduler, groups and other sources are refused',
    policy: 'member',
    body: NewVolume,
    status: 202,
    statuses: { 404: 400 },
    run: ({ ctx, body: { volume } }, { volumes }) =>
      volumes.create(ctx, newVolumeSpec(volume, volume.name, volume.description)),
    view: (volume) => ({ volume: viewCinderVolume(volume) }),
  }),
  route({
    method: 'GET',
    path: '/volumes/:id',
    about: 'One volume',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.get(ctx, volumeId(params.id)),
    view: (volume) => ({ volume: viewCinderVolume(volume) }),
  }),
  route({
    method: 'PUT',
    path: '/volumes/:id',
    about: 'Gives a volume another name or description, or replaces its metadata; what is left out stays',
    policy: 'member',
    body: VolumeChange,
    status: 200,
    run({ ctx, params, body: { volume } }, { volumes }) {
      const { metadata } = volume;
      const display_name = volume.name ?? volume.display_name;
      const display_description = volume.description ?? volume.display_description;
      return volumes.update(ctx, volumeId(params.id), {
        ...(display_name == null ? {} : { display_name }),
        ...(display_description == null ? {} : { display_description }),
        ...(metadata == null ? {} : { metadata }),
      });
    },
    view: (volume) => ({ volume: viewCinderVolume(volume) }),
  }),
  ...volumeMetadataRoutes,
  route({
    method: 'DELETE',
    path: '/volumes/:id',
    about: 'Deletes a volume',
    policy: 'member',
    status: 202,
    run: ({ ctx, params }, { volumes }) => volumes.delete(ctx, volumeId(params.id)),
  }),
  ...lists.map((detail) =>
    route({
      method: 'GET',
      path: `/snapshots${detail}`,
      about: `Snapshots; ${selectorNames(SNAPSHOT_SELECTORS)} choose among them`,
      policy: 'member',
      status: 200,
      run: cinderSnapshots,
      view: (snapshots, req) =>
        viewPage('snapshots', snapshots, req, { key: idOf, views: (page) => page.map(viewCinderSnapshot) }),
    }),
  ),
  route({
    method: 'POST',
    path: '/snapshots',
    about: 'Takes a snapshot of a volume; of one that is attached with `force`',
    policy: 'member',
    body: NewSnapshot,
    status: 202,
    run: ({ ctx, body: { snapshot } }, { volumes }) =>
      volumes.snapshots.create(ctx, {
        volume_id: snapshot.volume_id,
        force: snapshot.force ?? false,
        display_name: snapshot.name ?? '',
        display_description: snapshot.description ?? '',
      }),
    view: (snapshot) => ({ snapshot: viewCinderSnapshot(snapshot) }),
  }),
  route({
    method: 'GET',
    path: '/snapshots/:id',
    about: 'One snapshot',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.snapshots.get(ctx, snapshotId(params.id)),
    view: (snapshot) => ({ snapshot: viewCinderSnapshot(snapshot) }),
  }),
  route({
    method: 'DELETE',
    path: '/snapshots/:id',
    about: 'Deletes a snapshot',
    policy: 'member',
    status: 202,
    run: ({ ctx, params }, { volumes }) => volumes.snapshots.delete(ctx, snapshotId(params.id)),
  }),
  route({
    method: 'GET',
    path: '/types',
    about: 'The types of volumes',
    policy: 'member',
    status: 200,
    run: ({ ctx }, { volumes }) => volumes.types.list(ctx),
    view: (types) => ({ volume_types: types.map(viewCinderType) }),
  }),
  route({
    method: 'GET',
    path: '/types/:id',
    about: 'One type',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.types.get(ctx, typeId(params.id)),
    view: (type) => ({ volume_type: viewCinderType(type) }),
  }),
];

/**
 * `GET /volume`, `GET /volume/v3`: no token needed. The `cinder` command refuses a service without microversions, so there
 * is one: the first.
 */
export const viewVolumeService = (base: string): object => ({
  versions: [
    {
      id: 'v3.0',
      status: 'CURRENT',
      version: '3.0',
      min_version: '3.0',
      links: [{ rel: 'self', href: `${base}/${VOLUME_SERVICE}/v3/` }],
    },
  ],
});
