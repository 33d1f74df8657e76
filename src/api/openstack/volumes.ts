import { z } from 'zod';
import { SnapshotNotFound, VolumeNotFound } from '../../common/errors.ts';
import type { CreateVolumeSpec } from '../../volume/api.ts';
import { NotOffered, Truth, Whole } from '../json_body.ts';
import { readerOf } from './all_tenants.ts';
import { cutPage, idNumber, idOf, pageOf, viewPage } from './pagination.ts';
import { route, type OsRequest, type RouteDeps } from './route.ts';
import { viewSnapshot, viewVolume } from './views/volumes.ts';

/** @throws VolumeNotFound */
export function volumeId(text: string): number {
  const id = idNumber(text);
  if (id === undefined) throw new VolumeNotFound(`there is no volume ${text.slice(0, 80)}`);
  return id;
}
/** @throws SnapshotNotFound */
export function snapshotId(text: string): number {
  const id = idNumber(text);
  if (id === undefined) throw new SnapshotNotFound(`there is no snapshot ${text.slice(0, 80)}`);
  return id;
}

/** An id in a body, as a number or as text. */
export const Id = z.union([z.string(), z.number()], 'is an id').transform((given, issue) => {
  const id = idNumber(String(given));
  if (id === undefined) issue.addIssue({ code: 'custom', message: `${String(given).slice(0, 80)} is no id` });
  return id ?? 0;
});
export const SizeGb = Whole.pipe(z.number().min(1, 'is less than 1 (GiB)'));
const Words = z.string().max(255, 'has more than 255 characters');

/** Hints for the scheduler stand beside the volume. */
export const NO_HINTS = { 'os:scheduler_hints': NotOffered, 'OS-SCH-HNT:scheduler_hints': NotOffered };

const NewVolume = z.object({
  ...NO_HINTS,
  volume: z.object({
    size: SizeGb.nullish(),
    display_name: Words.nullish(),
    display_description: Words.nullish(),
    volume_type: z.union([z.string(), z.number()]).nullish(),
    metadata: z.record(z.string(), z.string()).nullish(),
    snapshot_id: Id.nullish(),
    availability_zone: Words.nullish(),
    imageRef: NotOffered,
    source_volid: NotOffered,
  }),
});
type NewVolumeFields = Omit<
  z.infer<typeof NewVolume>['volume'],
  'display_name' | 'display_description' | 'imageRef' | 'source_volid'
>;

/** What VolumeApi makes of a body; the two forms of the API differ by how they name the names. */
export const newVolumeSpec = (
  fields: NewVolumeFields,
  display_name: string | null | undefined,
  display_description: string | null | undefined,
): CreateVolumeSpec => ({
  size: fields.size ?? null,
  snapshot_id: fields.snapshot_id ?? null,
  availability_zone: fields.availability_zone || null,
  volume_type: fields.volume_type ?? null,
  display_name: display_name ?? '',
  display_description: display_description ?? '',
  metadata: fields.metadata ?? {},
});

const NewSnapshot = z.object({
  snapshot: z.object({
    volume_id: Id,
    force: Truth.nullish(),
    display_name: Words.nullish(),
    display_description: Words.nullish(),
  }),
});

const volumePage = async (req: OsRequest, { volumes, settings }: RouteDeps) =>
  cutPage(await volumes.list(readerOf(req)), pageOf(req.query, settings.osapi_max_limit));
const snapshotPage = async (req: OsRequest, { volumes, settings }: RouteDeps) =>
  cutPage(await volumes.snapshots.list(readerOf(req)), pageOf(req.query, settings.osapi_max_limit));

/** Nova's list is as full as its detail. */
const lists = ['', '/detail'];

/** Source: Nova 2011.3 nova/api/openstack/contrib/volumes.py; snapshots are of the release after it */
export const volumeRoutes = [
  ...lists.map((detail) =>
    route({
      method: 'GET',
      path: `/os-volumes${detail}`,
      about: "The project's volumes and what they are attached to",
      policy: 'member',
      status: 200,
      run: volumePage,
      view: (volumes, req) =>
        viewPage('volumes', volumes, req, {
          key: idOf,
          views: (page) => page.map((volume) => viewVolume(volume, req.urls)),
        }),
    }),
  ),
  route({
    method: 'POST',
    path: '/os-volumes',
    about: 'Makes a volume of `size` GiB, empty or with the bytes of a snapshot, whose size is then the default',
    policy: 'member',
    body: NewVolume,
    status: 200,
    statuses: { 404: 400 }, // the snapshot or the type that the body names
    run: ({ ctx, body: { volume } }, { volumes }) =>
      volumes.create(ctx, newVolumeSpec(volume, volume.display_name, volume.display_description)),
    view: (volume, { urls }) => ({ volume: viewVolume(volume, urls) }),
  }),
  route({
    method: 'GET',
    path: '/os-volumes/:id',
    about: 'One volume',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.get(ctx, volumeId(params.id)),
    view: (volume, { urls }) => ({ volume: viewVolume(volume, urls) }),
  }),
  route({
    method: 'DELETE',
    path: '/os-volumes/:id',
    about: 'Deletes a volume that is not attached and has no snapshots; its bytes are gone',
    policy: 'member',
    status: 202,
    run: ({ ctx, params }, { volumes }) => volumes.delete(ctx, volumeId(params.id)),
  }),
  ...lists.map((detail) =>
    route({
      method: 'GET',
      path: `/os-snapshots${detail}`,
      about: "The project's snapshots of volumes",
      policy: 'member',
      status: 200,
      run: snapshotPage,
      view: (snapshots, req) =>
        viewPage('snapshots', snapshots, req, {
          key: idOf,
          views: (page) => page.map((snapshot) => viewSnapshot(snapshot, req.urls)),
        }),
    }),
  ),
  route({
    method: 'POST',
    path: '/os-snapshots',
    about:
      'Takes a snapshot of a volume; of one that is attached with `force`, then as after a power cut at that moment',
    policy: 'member',
    body: NewSnapshot,
    status: 200,
    run: ({ ctx, body: { snapshot } }, { volumes }) =>
      volumes.snapshots.create(ctx, {
        volume_id: snapshot.volume_id,
        force: snapshot.force ?? false,
        display_name: snapshot.display_name ?? '',
        display_description: snapshot.display_description ?? '',
      }),
    view: (snapshot, { urls }) => ({ snapshot: viewSnapshot(snapshot, urls) }),
  }),
  route({
    method: 'GET',
    path: '/os-snapshots/:id',
    about: 'One snapshot',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.snapshots.get(ctx, snapshotId(params.id)),
    view: (snapshot, { urls }) => ({ snapshot: viewSnapshot(snapshot, urls) }),
  }),
  route({
    method: 'DELETE',
    path: '/os-snapshots/:id',
    about: 'Deletes a snapshot; volumes made from it stay',
    policy: 'member',
    status: 202,
    run: ({ ctx, params }, { volumes }) => volumes.snapshots.delete(ctx, snapshotId(params.id)),
  }),
];
