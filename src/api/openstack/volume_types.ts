import { z } from 'zod';
import type { VolumeType } from '../../common/db/volume_types.ts';
import { InvalidInput, NotFound, VolumeTypeNotFound } from '../../common/errors.ts';
import { idNumber } from './pagination.ts';
import { route } from './route.ts';
import type { Urls } from './urls.ts';

const viewType = ({ id, name, extra_specs }: VolumeType, { text_ids }: Urls): object => ({
  id: text_ids ? String(id) : id,
  name,
  extra_specs,
});

/** @throws VolumeTypeNotFound */
export function typeId(text: string): number {
  const id = idNumber(text);
  if (id === undefined) throw new VolumeTypeNotFound(`there is no volume type ${text.slice(0, 80)}`);
  return id;
}

const noProperty = ({ id, key }: { id: string; key: string }): NotFound =>
  new NotFound(`volume type ${id} has no property ${key.slice(0, 80)}`);

const Specs = z.record(z.string().min(1).max(255), z.string().max(255));
const path = '/os-volume-types/:id/extra_specs';

/** Source: Nova 2011.3 nova/api/openstack/contrib/volumetypes.py; its list is an object by name, that of 2.0 a list */
export const volumeTypeRoutes = [
  route({
    method: 'GET',
    path: '/os-volume-types',
    about: 'The types of volumes',
    policy: 'member',
    status: 200,
    run: ({ ctx }, { volumes }) => volumes.types.list(ctx),
    view: (types, { urls }) =>
      urls.text_ids
        ? { volume_types: types.map((type) => viewType(type, urls)) }
        : Object.fromEntries(types.map((type) => [type.name, viewType(type, urls)])),
  }),
  route({
    method: 'POST',
    path: '/os-volume-types',
    about: 'Makes a type of volumes',
    policy: 'admin',
    body: z.object({ volume_type: z.object({ name: z.string().min(1).max(255), extra_specs: Specs.nullish() }) }),
    status: 200,
    run: ({ ctx, body: { volume_type } }, { volumes }) =>
      volumes.types.create(ctx, volume_type.name, volume_type.extra_specs ?? {}),
    view: (type, { urls }) => ({ volume_type: viewType(type, urls) }),
  }),
  route({
    method: 'GET',
    path: '/os-volume-types/:id',
    about: 'One type',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.types.get(ctx, typeId(params.id)),
    view: (type, { urls }) => ({ volume_type: viewType(type, urls) }),
  }),
  route({
    method: 'DELETE',
    path: '/os-volume-types/:id',
    about: 'Forgets a type; volumes of it stay',
    policy: 'admin',
    status: 202,
    run: ({ ctx, params }, { volumes }) => volumes.types.delete(ctx, typeId(params.id)),
  }),
  route({
    method: 'GET',
    path,
    about: 'Further properties of a type',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { volumes }) => volumes.types.get(ctx, typeId(params.id)),
    view: ({ extra_specs }) => ({ extra_specs }),
  }),
  route({
    method: 'POST',
    path,
    about: 'Sets properties of a type; others stay',
    policy: 'admin',
    body: z.object({ extra_specs: Specs }),
    status: 200,
    async run({ ctx, params, body }, { volumes }) {
      await volumes.types.writeExtraSpecs(ctx, typeId(params.id), body.extra_specs);
      return body;
    },
    view: (body) => body,
  }),
  route({
    method: 'GET',
    path: `${path}/:key`,
    about: 'One property of a type',
    policy: 'member',
    status: 200,
    async run({ ctx, params }, { volumes }) {
      const { extra_specs } = await volumes.types.get(ctx, typeId(params.id));
      const value = Object.hasOwn(extra_specs, params.key) ? extra_specs[params.key] : undefined;
      if (value !== undefined) return { [params.key]: value };
      throw noProperty(params);
    },
    view: (property) => property,
  }),
  route({
    method: 'PUT',
    path: `${path}/:key`,
    about: 'Sets one property of a type: `{key: value}`',
    policy: 'admin',
    body: Specs,
    status: 200,
    async run({ ctx, params, body }, { volumes }) {
      const value = body[params.key];
      if (value === undefined || Object.keys(body).length > 1)
        throw new InvalidInput(`the body is {"${params.key.slice(0, 80)}": its value}`);
      await volumes.types.writeExtraSpecs(ctx, typeId(params.id), body);
      return body;
    },
    view: (body) => body,
  }),
  route({
    method: 'DELETE',
    path: `${path}/:key`,
    about: 'Forgets one property of a type',
    policy: 'admin',
    status: 202,
    async run({ ctx, params }, { volumes }) {
      await volumes.types.get(ctx, typeId(params.id));
      if (!(await volumes.types.deleteExtraSpec(ctx, typeId(params.id), params.key))) throw noProperty(params);
    },
  }),
];
