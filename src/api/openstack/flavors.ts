import { flavorById, listInstanceTypes, type InstanceType } from '../../common/db/instance_types.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { InstanceTypeNotFound } from '../../common/errors.ts';
import { cutPage, idNumber, idOf, pageOf, viewPage, wholeNumber } from './pagination.ts';
import { route, type RouteDeps, type OsRequest } from './route.ts';
import { viewFlavor, viewFlavorName } from './views/flavors.ts';

async function flavorPage({ query }: OsRequest, { db, settings }: RouteDeps) {
  const page = pageOf(query, settings.osapi_max_limit);
  const [min_ram, min_disk] = [wholeNumber(query, 'minRam') ?? 0, wholeNumber(query, 'minDisk') ?? 0];
  const all = await listInstanceTypes(db);
  const types = all.filter(({ memory_mb, local_gb }) => memory_mb >= min_ram && local_gb >= min_disk);
  return cutPage(
    types.map((type) => ({ ...type, id: type.flavorid })),
    page,
  );
}

export async function flavorByText(db: NovaDb, text: string): Promise<InstanceType> {
  const id = idNumber(text);
  if (id === undefined) throw new InstanceTypeNotFound(`there is no flavor ${text.slice(0, 80)}`);
  return flavorById(db, id);
}

export const flavorRoutes = [
  route({
    method: 'GET',
    path: '/flavors',
    about: 'Names of the flavors, of those with `minRam` MB and `minDisk` GiB',
    policy: 'member',
    status: 200,
    cached: true,
    run: flavorPage,
    view: (types, req) =>
      viewPage('flavors', types, req, {
        key: idOf,
        views: (page) => page.map((type) => viewFlavorName(type, req.urls)),
      }),
  }),
  route({
    method: 'GET',
    path: '/flavors/detail',
    about: 'The flavors in full',
    policy: 'member',
    status: 200,
    cached: true,
    run: flavorPage,
    view: (types, req) =>
      viewPage('flavors', types, req, { key: idOf, views: (page) => page.map((type) => viewFlavor(type, req.urls)) }),
  }),
  route({
    method: 'GET',
    path: '/flavors/:id',
    about: 'One flavor',
    policy: 'member',
    status: 200,
    run: ({ params }, { db }) => flavorByText(db, params.id),
    view: (type, { urls }) => ({ flavor: viewFlavor(type, urls) }),
  }),
  route({
    method: 'GET',
    path: '/flavors/:id/os-extra_specs',
    about: 'Further properties of a flavor: there are none',
    policy: 'member',
    status: 200,
    run: ({ params }, { db }) => flavorByText(db, params.id),
    view: () => ({ extra_specs: {} }),
  }),
];
