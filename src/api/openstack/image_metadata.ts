import { InvalidInput } from '../../common/errors.ts';
import { imageId } from './images.ts';
import { metadataRoutes } from './metadata_routes.ts';
import type { OsRequest, RouteDeps } from './route.ts';
import { imageMetadata, OF_THE_IMAGE } from './views/images.ts';

type OfImage = OsRequest<{ id: string }>;

const imageOf = async ({ ctx, params }: OfImage, { images }: RouteDeps) => images.show(ctx, imageId(params.id));
const propertiesOf = async (req: OfImage, deps: RouteDeps): Promise<string[]> =>
  Object.keys(JSON.parse((await imageOf(req, deps)).properties) as object);

/** Null takes a property away. @throws InvalidInput for what is no property, but part of the image */
async function update({ ctx, params }: OfImage, { images }: RouteDeps, properties: Record<string, string | null>) {
  const fixed = OF_THE_IMAGE.find((key) => Object.hasOwn(properties, key));
  if (fixed !== undefined) throw new InvalidInput(`${fixed} is part of the image and cannot be changed`);
  return imageMetadata(await images.update(ctx, imageId(params.id), { properties }));
}

/** An image's properties, and what of it Nova showed among them. */
export const imageMetadataRoutes = metadataRoutes({
  path: '/images/:id',
  what: 'image',
  deleted: 204,
  read: async (req, deps) => imageMetadata(await imageOf(req, deps)),
  async write(req, deps, pairs, replace) {
    const before = replace ? await propertiesOf(req, deps) : [];
    return update(req, deps, { ...Object.fromEntries(before.map((key) => [key, null])), ...pairs });
  },
  async remove(req, deps, key) {
    if (!(await propertiesOf(req, deps)).includes(key)) return false;
    await update(req, deps, { [key]: null });
    return true;
  },
});
