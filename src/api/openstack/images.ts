import { visibleImages, type Image } from '../../common/db/images.ts';
import { ImageNotFound } from '../../common/errors.ts';
import { changesSince, cutPage, idNumber, idOf, pageOf, viewPage, type Listed } from './pagination.ts';
import { route, type RouteDeps, type OsRequest } from './route.ts';
import { imageMetadata, viewImage, viewImageName } from './views/images.ts';
import { imageStatus } from './views/status.ts';

/** Filters `name`, `status`, `server`, `type`, `changes-since` and `property-NAME`, then `marker` and `limit`. */
async function imagePage({ ctx, query }: OsRequest, { db, settings }: RouteDeps): Promise<Listed<Image>> {
  const page = pageOf(query, settings.osapi_max_limit);
  const since = changesSince(query);
  let rows = visibleImages(db, ctx).orderBy('id');
  if (since !== undefined) rows = rows.where((e) => e.or([e('updated_at', '>=', since), e('created_at', '>=', since)]));
  const images = await rows.execute();
  return cutPage(
    images.filter((image) => matches(image, query)),
    page,
  );
}

function matches(image: Image, query: URLSearchParams): boolean {
  const { name, status } = Object.fromEntries(query);
  if (name !== undefined && image.name !== name) return false;
  if (status !== undefined && imageStatus(image.status) !== status.toUpperCase()) return false;
  const wanted = [...query].flatMap(([key, value]): [string, string][] => {
    if (key.startsWith('property-')) return [[key.slice('property-'.length), value]];
    return key === 'type' ? [['image_type', value]] : key === 'server' ? [['instance_ref', value]] : [];
  });
  if (wanted.length === 0) return true;
  const metadata = imageMetadata(image);
  return wanted.every(([key, value]) => Object.hasOwn(metadata, key) && metadata[key] === value);
}

/** @throws ImageNotFound for what is no number */
export function imageId(text: string): number {
  const id = idNumber(text);
  if (id === undefined) throw new ImageNotFound(`there is no image ${text.slice(0, 80)}`);
  return id;
}

export const imageRoutes = [
  route({
    method: 'GET',
    path: '/images',
    about: 'Names of the images that the project may use',
    policy: 'member',
    status: 200,
    cached: true,
    run: imagePage,
    view: (images, req) =>
      viewPage('images', images, req, {
        key: idOf,
        views: (page) => page.map((image) => viewImageName(image, req.urls)),
      }),
  }),
  route({
    method: 'GET',
    path: '/images/detail',
    about: 'The images in full',
    policy: 'member',
    status: 200,
    cached: true,
    run: imagePage,
    view: (images, req) =>
      viewPage('images', images, req, { key: idOf, views: (page) => page.map((image) => viewImage(image, req.urls)) }),
  }),
  route({
    method: 'GET',
    path: '/images/:id',
    about: 'One image',
    policy: 'member',
    status: 200,
    run: async ({ ctx, params }, { images }) => images.show(ctx, imageId(params.id)),
    view: (image, { urls }) => ({ image: viewImage(image, urls) }),
  }),
  route({
    method: 'DELETE',
    path: '/images/:id',
    about: 'Deletes an image; servers made of it go on',
    policy: 'member',
    status: 204,
    run: async ({ ctx, params }, { images }) => images.deregister(ctx, imageId(params.id)),
  }),
];
