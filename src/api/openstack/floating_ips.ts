import { isIPv4 } from 'node:net';
import { z } from 'zod';
import type { FloatingIpView } from '../../common/db/floating_ips.ts';
import { FloatingIpNotFound } from '../../common/errors.ts';
import { idNumber } from './pagination.ts';
import { route } from './route.ts';
import { serverId } from './server_query.ts';
import type { Urls } from './urls.ts';

/** All addresses are in one pool. */
const POOL = 'nova';
const action = '/servers/:id/action';

function viewFloatingIp(floating: FloatingIpView, urls: Urls): object {
  const { id, address, fixed_address, instance_id, instance_uuid } = floating;
  return {
    id: urls.text_ids ? String(id) : id,
    ip: address,
    fixed_ip: fixed_address,
    instance_id: urls.text_ids ? instance_uuid : instance_id,
    pool: POOL,
  };
}

/** Its number, or as today's client puts it the address itself. @throws FloatingIpNotFound */
function floatingKey(text: string): number | string {
  if (isIPv4(text)) return text;
  const id = idNumber(text);
  if (id === undefined) throw new FloatingIpNotFound(`there is no floating ip with the number ${text.slice(0, 80)}`);
  return id;
}

const address = z.ipv4('is no IPv4 address');

/** Source: Nova 2011.3 nova/api/openstack/contrib/floating_ips.py; pools are of later releases. */
export const floatingIpRoutes = [
  route({
    method: 'GET',
    path: '/os-floating-ips',
    about: "The project's floating addresses",
    policy: 'member',
    status: 200,
    run: ({ ctx }, { network }) => network.floatingIps(ctx),
    view: (floating, { urls }) => ({ floating_ips: floating.map((one) => viewFloatingIp(one, urls)) }),
  }),
  route({
    method: 'POST',
    path: '/os-floating-ips',
    about: 'Takes a floating address from the pool; a body is not looked at',
    policy: 'member',
    status: 200,
    statuses: { 503: 400 }, // as Diablo: none is free
    run: ({ ctx }, { network }) => network.allocate(ctx),
    view: (floating, { urls }) => ({ floating_ip: viewFloatingIp(floating, urls) }),
  }),
  route({
    method: 'GET',
    path: '/os-floating-ips/:id',
    about: 'One floating address',
    policy: 'member',
    status: 200,
    run: ({ ctx, params }, { network }) => network.floatingIp(ctx, floatingKey(params.id)),
    view: (floating, { urls }) => ({ floating_ip: viewFloatingIp(floating, urls) }),
  }),
  route({
    method: 'DELETE',
    path: '/os-floating-ips/:id',
    about: 'Gives a floating address back to the pool, after taking it from the server that it leads to',
    policy: 'member',
    status: 202,
    async run({ ctx, params }, { network }) {
      const id = floatingKey(params.id);
      await network.disassociate(ctx, id);
      await network.release(ctx, id);
    },
  }),
  route({
    method: 'GET',
    path: '/os-floating-ip-pools',
    about: 'The one pool of floating addresses',
    policy: 'member',
    status: 200,
    run: () => Promise.resolve([{ name: POOL }]),
    view: (pools) => ({ floating_ip_pools: pools }),
  }),
  route({
    method: 'POST',
    path: action,
    action: 'addFloatingIp',
    about: 'Leads a floating address to a server, to its first fixed address or to `fixed_address`',
    policy: 'member',
    body: z.object({ address, fixed_address: address.nullish() }),
    status: 202,
    statuses: { 403: 400, 409: 400 },
    async run({ ctx, params, body }, { network }) {
      const fixed = body.fixed_address == null ? {} : { fixed_address: body.fixed_address };
      await network.associate(ctx, body.address, serverId(params.id), fixed);
    },
  }),
  route({
    method: 'POST',
    path: action,
    action: 'removeFloatingIp',
    about: 'Takes a floating address from a server; it stays with the project',
    policy: 'member',
    body: z.object({ address }),
    status: 202,
    statuses: { 409: 400 },
    run: ({ ctx, params, body }, { network }) => network.disassociate(ctx, body.address, serverId(params.id)),
  }),
];
