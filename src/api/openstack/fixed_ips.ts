import { z } from 'zod';
import { route } from './route.ts';
import { serverId } from './server_query.ts';

const action = '/servers/:id/action';
const number = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);
const NO_NETWORK = 'is no number or uuid of a network';
/** What a body names and cannot be is a bad request, as in Diablo; so is a network without a free address. */
const statuses = { 409: 400, 503: 400 };

/** Source: Nova 2011.3 nova/api/openstack/contrib/multinic.py */
export const fixedIpRoutes = [
  route({
    method: 'POST',
    path: action,
    action: 'addFixedIp',
    about: 'Gives a server a further address on a network that it has a card on, by number or uuid',
    policy: 'member',
    body: z.object({
      networkId: z.union(
        [
          z.uuid(),
          number,
          z
            .string()
            .regex(/^\d{1,9}$/)
            .transform(Number),
        ],
        NO_NETWORK,
      ),
    }),
    status: 202,
    statuses,
    run: async ({ ctx, params, body }, { network }) => {
      await network.addFixedIp(ctx, serverId(params.id), body.networkId);
    },
  }),
  route({
    method: 'POST',
    path: action,
    action: 'removeFixedIp',
    about: 'Takes an address from a server; each card keeps at least one',
    policy: 'member',
    body: z.object({ address: z.ipv4('is no IPv4 address') }),
    status: 202,
    statuses,
    run: ({ ctx, params, body }, { network }) => network.removeFixedIp(ctx, serverId(params.id), body.address),
  }),
];
