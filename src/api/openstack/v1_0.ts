import { z } from 'zod';
import { listInstanceTypes } from '../../common/db/instance_types.ts';
import { renameInstance } from '../../common/db/instance_updates.ts';
import { NotImplemented } from '../http_errors.ts';
import { generatePassword } from './admin_pass.ts';
import { flavorByText } from './flavors.ts';
import { imageId } from './images.ts';
import { limitsOf, viewAbsolute } from './limits.ts';
import { cutByOffset } from './pagination.ts';
import { route, type Method, type OsRequest, type Route, type RouteDeps } from './route.ts';
import { serverActionRoutes } from './server_actions.ts';
import { launchSpec, NewServer10, ServerName } from './server_body.ts';
import { serverId, serversByOffset } from './server_query.ts';
import * as view from './views/v1_0.ts';

/**
 * The API 1.0, which 1.1 replaced: the same things in fewer words, pages by `offset`. Where 1.1 does something with other
 * words or another status, it is here; Nova never offered what ends in 501. Source: Nova 2011.3 nova/api/openstack/, V10 classes
 */
const read = { method: 'GET', policy: 'member', status: 200 } as const;

const serverOf = async ({ ctx, params }: OsRequest<{ id: string }>, { compute }: RouteDeps) =>
  compute.get(ctx, serverId(params.id));
const flavorPage = async ({ query }: OsRequest, { db, settings }: RouteDeps) =>
  cutByOffset(await listInstanceTypes(db), query, settings.osapi_max_limit);
const imagePage = async ({ ctx, query }: OsRequest, { images, settings }: RouteDeps) =>
  cutByOffset(await images.list(ctx), query, settings.osapi_max_limit);

const servers = [
  route({
    ...read,
    path: '/servers',
    about: "Names of the project's servers",
    cached: true,
    run: serversByOffset,
    view: (all) => ({ servers: all.map(view.viewServerName10) }),
  }),
  route({
    ...read,
    path: '/servers/detail',
    about: "The project's servers in full",
    cached: true,
    run: serversByOffset,
    view: (all) => ({ servers: all.map(view.viewServer10) }),
  }),
  route({
    method: 'POST',
    path: '/servers',
    about: 'Launches a server',
    policy: 'member',
    body: NewServer10,
    status: 202,
    statuses: { 404: 400 },
    async run({ ctx, body }, { compute }) {
      const { instances } = await compute.create(ctx, launchSpec(body.server));
      return { instance: instances[0], adminPass: body.server.adminPass ?? generatePassword() };
    },
    view: ({ instance, adminPass }) => ({ server: { ...(instance && view.viewServer10(instance)), adminPass } }),
  }),
  route({
    ...read,
    path: '/servers/:id',
    about: 'One server',
    run: serverOf,
    view: (server) => ({ server: view.viewServer10(server) }),
  }),
  route({
    method: 'PUT',
    path: '/servers/:id',
    about: 'Gives a server another name',
    policy: 'member',
    body: z.object({ server: z.object({ name: ServerName }) }),
    status: 204,
    async run(req, deps) {
      const { id } = await serverOf(req, deps);
      await renameInstance(deps.db, id, req.body.server.name);
    },
  }),
  route({
    method: 'DELETE',
    path: '/servers/:id',
    about: 'Ends a server',
    policy: 'member',
    status: 202,
    run: async ({ ctx, params }, { compute }) => compute.terminate(ctx, serverId(params.id)),
  }),
  route({
    ...read,
    path: '/servers/:id/ips',
    about: 'Addresses of a server',
    run: serverOf,
    view: (server) => ({ addresses: view.viewAddresses10(server) }),
  }),
  ...(['public', 'private'] as const).map((kind) =>
    route({
      ...read,
      path: `/servers/:id/ips/${kind}`,
      about: `The ${kind} addresses of a server`,
      run: serverOf,
      view: (server) => ({ [kind]: view.viewAddresses10(server)[kind] }),
    }),
  ),
];

const others = [
  route({
    ...read,
    path: '/flavors',
    about: 'Names of the flavors',
    cached: true,
    run: flavorPage,
    view: (types) => ({ flavors: types.map(view.viewFlavorName10) }),
  }),
  route({
    ...read,
    path: '/flavors/detail',
    about: 'The flavors in full',
    cached: true,
    run: flavorPage,
    view: (types) => ({ flavors: types.map(view.viewFlavor10) }),
  }),
  route({
    ...read,
    path: '/flavors/:id',
    about: 'One flavor',
    run: ({ params }, { db }) => flavorByText(db, params.id),
    view: (type) => ({ flavor: view.viewFlavor10(type) }),
  }),
  route({
    ...read,
    path: '/images',
    about: 'Names of the images that the project may use',
    cached: true,
    run: imagePage,
    view: (all) => ({ images: all.map(view.viewImageName10) }),
  }),
  route({
    ...read,
    path: '/images/detail',
    about: 'The images in full',
    cached: true,
    run: imagePage,
    view: (all) => ({ images: all.map(view.viewImage10) }),
  }),
  route({
    ...read,
    path: '/images/:id',
    about: 'One image',
    run: async ({ ctx, params }, { images }) => images.show(ctx, imageId(params.id)),
    view: (image) => ({ image: view.viewImage10(image) }),
  }),
  route({
    method: 'DELETE',
    path: '/images/:id',
    about: 'Deletes an image; servers made of it go on',
    policy: 'member',
    status: 204,
    run: async ({ ctx, params }, { images }) => images.deregister(ctx, imageId(params.id)),
  }),
  route({
    ...read,
    path: '/limits',
    about: "The project's quotas, what is used of them, and the limits on how often one may ask",
    run: limitsOf,
    view: (limits) => ({ limits: { rate: limits.rates.map(view.viewRate10), absolute: viewAbsolute(limits) } }),
  }),
];

const NOT_OFFERED: readonly [Method, string][] = [
  ['POST', '/images'],
  ...(['GET', 'POST'] as const).map((method): [Method, string] => [method, '/shared_ip_groups']),
  ['GET', '/shared_ip_groups/detail'],
  ...(['GET', 'PUT', 'DELETE'] as const).map((method): [Method, string] => [method, '/shared_ip_groups/:id']),
  ...(['GET', 'POST'] as const).map((method): [Method, string] => [method, '/servers/:id/backup_schedule']),
  ...(['GET', 'DELETE'] as const).map((method): [Method, string] => [method, '/servers/:id/backup_schedule/:schedule']),
];

export const ROUTES_1_0: readonly Route[] = [
  ...servers,
  ...serverActionRoutes,
  ...others,
  ...NOT_OFFERED.map(([method, path]) =>
    route({
      method,
      path,
      about: 'Not offered',
      policy: 'member',
      status: 501,
      run: () => Promise.reject(new NotImplemented(`${method} ${path} is not offered`)),
    }),
  ),
];
