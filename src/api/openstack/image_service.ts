import { visibleImages, type Image } from '../../common/db/images.ts';
import { InvalidInput } from '../../common/errors.ts';
import { imageId } from './images.ts';
import { afterMarker, cutPage, idNumber, isTrue, pageOf, type Listed } from './pagination.ts';
import { route, type OsRequest } from './route.ts';

/** Where clients of today look for images: Glance's API, version 2, to read, at `/image` on the port of the compute API. */
export const IMAGE_SERVICE = 'image';

/** Glance's words for what an image is. */
function viewGlanceImage(image: Image): object {
  const own = JSON.parse(image.properties) as Record<string, string>;
  return {
    ...own,
    id: String(image.id),
    name: image.name,
    status: image.status === 'error' ? 'killed' : image.status,
    visibility: image.is_public === 1 ? 'public' : 'private',
    owner: image.project_id,
    size: image.size_bytes,
    os_hash_algo: image.checksum === null ? null : 'sha256',
    os_hash_value: image.checksum,
    container_format: image.container_format,
    disk_format: image.disk_format,
    architecture: image.architecture,
    ...(image.kernel_id === null ? {} : { kernel_id: String(image.kernel_id) }),
    ...(image.ramdisk_id === null ? {} : { ramdisk_id: String(image.ramdisk_id) }),
    min_disk: 0,
    min_ram: 0,
    protected: false,
    os_hidden: false,
    tags: [],
    created_at: image.created_at,
    updated_at: image.updated_at ?? image.created_at,
    self: `/v2/images/${image.id}`,
    schema: '/v2/schemas/image',
  };
}

/** Its clients follow `next`, which is a path below the service, until there is none. */
const viewGlanceImages = ({ page, more }: Listed<Image>, { query }: Pick<OsRequest, 'query'>): object => ({
  images: page.map(viewGlanceImage),
  first: '/v2/images',
  ...(more ? { next: `/v2/images?${afterMarker(query, page.at(-1)?.id ?? '')}` } : {}),
  schema: '/v2/schemas/images',
});

const COLUMNS = {
  name: 'name',
  owner: 'project_id',
  container_format: 'container_format',
  disk_format: 'disk_format',
} as const;

/** What no image here has: a tag, hidden, protected. */
const hasNone = (query: URLSearchParams): boolean =>
  query.has('tag') || ['os_hidden', 'protected'].some((name) => isTrue(query.get(name) ?? ''));

/** @throws InvalidInput. What Glance calls `shared` and `community`, no image here is. */
function isPublic(visibility: string): number {
  const known: Readonly<Record<string, number>> = { public: 1, private: 0, shared: -1, community: -1 };
  if (Object.hasOwn(known, visibility)) return known[visibility] as number;
  throw new InvalidInput(`visibility '${visibility.slice(0, 40)}' is none of: all, ${Object.keys(known).join(', ')}`);
}

export const imageServiceRoutes = [
  route({
    method: 'GET',
    path: '/v2/images',
    about:
      'The images that the project may use; `id`, `name`, `status`, `owner`, `visibility`, `container_format`, `disk_format`, `tag`, `os_hidden` and `protected` choose among them',
    policy: 'member',
    status: 200,
    async run({ ctx, query }, { db, settings }) {
      const page = pageOf(query, settings.osapi_max_limit);
      let rows = visibleImages(db, ctx).orderBy('id');
      for (const [name, column] of Object.entries(COLUMNS)) {
        const wanted = query.get(name);
        if (wanted !== null) rows = rows.where(column, '=', wanted);
      }
      const [id, status] = [query.get('id'), query.get('status')];
      if (id !== null) rows = rows.where('id', '=', idNumber(id) ?? -1);
      if (status !== null) rows = rows.where('status', '=', status === 'killed' ? 'error' : status);
      if (hasNone(query)) rows = rows.where('id', '=', -1);
      const visibility = query.get('visibility');
      if (visibility !== null && visibility !== 'all') rows = rows.where('is_public', '=', isPublic(visibility));
      return cutPage(await rows.execute(), page);
    },
    view: viewGlanceImages,
  }),
  route({
    method: 'GET',
    path: '/v2/images/:id',
    about: 'One image',
    policy: 'member',
    status: 200,
    run: async ({ ctx, params }, { images }) => images.show(ctx, imageId(params.id)),
    view: (image) => viewGlanceImage(image),
  }),
];

/** `GET /image`, `GET /image/v2`: no token needed. */
export const viewImageService = (base: string): object => ({
  versions: [{ id: 'v2.0', status: 'CURRENT', links: [{ rel: 'self', href: `${base}/${IMAGE_SERVICE}/v2/` }] }],
});
