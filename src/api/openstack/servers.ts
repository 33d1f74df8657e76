import { z } from 'zod';
import { renameInstance } from '../../common/db/instance_updates.ts';
import { NotOffered } from '../json_body.ts';
import { generatePassword } from './admin_pass.ts';
import { viewPage } from './pagination.ts';
import { route } from './route.ts';
import { launchSpec, NewServer, ServerName } from './server_body.ts';
import { serverId, serverPage } from './server_query.ts';
import { NotFound } from '../../common/errors.ts';
import { serverKey, viewAddresses, viewServer, viewServerName, viewServers } from './views/servers.ts';

/** Source: Nova 2011.3 nova/api/openstack/servers.py, ips.py */
export const serverRoutes = [
  route({
    method: 'GET',
    path: '/servers',
    about: "Names of the project's servers",
    policy: 'member',
    status: 200,
    cached: true,
    run: serverPage,
    view: (servers, req) =>
      viewPage('servers', servers, req, {
        key: (server) => serverKey(server, req.urls),
        views: (page) => page.map((server) => viewServerName(server, req.urls)),
      }),
  }),
  route({
    method: 'GET',
    path: '/servers/detail',
    about: "The project's servers in full",
    policy: 'member',
    status: 200,
    cached: true,
    run: serverPage,
    view: (servers, req) =>
      viewPage('servers', servers, req, {
        key: (server) => serverKey(server, req.urls),
        views: (page) => viewServers(page, req.urls),
      }),
  }),
  // The second is Diablo's way to say that there is a block device mapping.
  ...(['/servers', '/os-volumes_boot'] as const).map((path) =>
    route({
      method: 'POST',
      path,
      about: 'Launches a server; of several the first is told',
      policy: 'member',
      body: NewServer,
      status: 202,
      statuses: { 404: 400 }, // the image, the flavor, the key or the group that the body names
      async run({ ctx, body }, { compute }) {
        const { instances } = await compute.create(ctx, launchSpec(body.server));
        return { instance: instances[0], adminPass: body.server.adminPass ?? generatePassword() };
      },
      view: ({ instance, adminPass }, { urls }) => ({
        server: { ...(instance && viewServer(instance, urls)), adminPass },
      }),
      headers: ({ instance }, { urls }) =>
        instance ? { Location: urls.self('servers', serverKey(instance, urls)) } : {},
    }),
  ),
  route({
    method: 'GET',
    path: '/servers/:id',
    about: 'One server',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { compute }) => compute.get(ctx, serverId(params.id)),
    view: (server, { urls }) => ({ server: viewServer(server, urls) }),
  }),
  route({
    method: 'PUT',
    path: '/servers/:id',
    about: 'Gives a server another name',
    policy: 'member',
    body: z.object({ server: z.object({ name: ServerName, accessIPv4: NotOffered, accessIPv6: NotOffered }) }),
    status: 200,
    async run({ ctx, params, body }, { db, compute }) {
      const { id } = await compute.get(ctx, serverId(params.id));
      await renameInstance(db, id, body.server.name);
      return compute.get(ctx, id);
    },
    view: (server, { urls }) => ({ server: viewServer(server, urls) }),
  }),
  route({
    method: 'DELETE',
    path: '/servers/:id',
    about: 'Ends a server',
    policy: 'member',
    status: 204,
    run: ({ ctx, params }, { compute }) => compute.terminate(ctx, serverId(params.id)),
  }),
  route({
    method: 'GET',
    path: '/servers/:id/ips',
    about: 'Addresses of a server, by network',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { compute }) => compute.get(ctx, serverId(params.id)),
    view: (server) => ({ addresses: viewAddresses(server) }),
  }),
  route({
    method: 'GET',
    path: '/servers/:id/ips/:network',
    about: 'Addresses of a server on one network',
    policy: 'member',
    status: 200,
    async run({ ctx, params }, { compute }) {
      const addresses = viewAddresses(await compute.get(ctx, serverId(params.id)));
      if (Object.hasOwn(addresses, params.network)) return { [params.network]: addresses[params.network] };
      throw new NotFound(`server ${params.id} is on no network ${params.network.slice(0, 80)}`);
    },
    view: (network) => network,
  }),
];
