import { createHash } from 'node:crypto';
import { NO_IMAGE } from '../../../common/db/images.ts';
import type { InstanceView } from '../../../common/db/instance_views.ts';
import type { Urls } from '../urls.ts';
import { serverStatus } from './status.ts';

/** `2011-09-22T12:00:00Z` of the database's `2011-09-22T12:00:00.000Z`. */
export const isoSeconds = (time: string): string => `${time.slice(0, 19)}Z`;

interface ServerAddress {
  version: 4 | 6;
  addr: string;
}

/** In a list without details. */
export const viewServerName = (server: InstanceView, urls: Urls): object => ({
  ...ids(server, urls),
  name: server.display_name,
  links: urls.links('servers', serverKey(server, urls)),
});

/** What a server's URL ends in. */
export const serverKey = ({ id, uuid }: InstanceView, urls: Urls): number | string => (urls.text_ids ? uuid : id);
const ids = ({ id, uuid }: InstanceView, urls: Urls): object => (urls.text_ids ? { id: uuid } : { id, uuid });

export function viewServers(servers: readonly InstanceView[], urls: Urls): object[] {
  const hashes = new Map<string | null, string>();
  const hash = (host: string | null): string => {
    const known = hashes.get(host) ?? hostId(host);
    hashes.set(host, known);
    return known;
  };
  return servers.map((server) => viewServer(server, urls, hash));
}

/** Source: Nova 2011.3 nova/api/openstack/views/servers.py; `fault` is of later releases. */
export function viewServer(server: InstanceView, urls: Urls, hash = hostId): Record<string, unknown> {
  const status = serverStatus(server);
  const updated = isoSeconds(server.updated_at ?? server.created_at);
  // No spread: an object that begins with one is slow to fill, and lists are long.
  const view: Record<string, unknown> = {
    id: serverKey(server, urls),
    uuid: urls.text_ids ? undefined : server.uuid, // undefined is left out of the answer
    name: server.display_name,
    status,
    user_id: server.user_id,
    tenant_id: server.project_id,
    created: isoSeconds(server.created_at),
    updated,
    hostId: hash(server.host),
    image: server.image_id === NO_IMAGE ? '' : urls.reference('images', server.image_id), // '': of a volume
    flavor: urls.reference('flavors', server.flavorid),
    addresses: viewAddresses(server),
    accessIPv4: '',
    accessIPv6: '',
    metadata: server.metadata,
    key_name: server.key_name ?? '',
    config_drive: '',
    links: urls.links('servers', serverKey(server, urls)),
  };
  if (urls.text_ids) Object.assign(view, viewOfEssex(server));
  if (status === 'ACTIVE') view['progress'] = 100;
  if (status === 'BUILD') view['progress'] = 0;
  if (status === 'ERROR' && server.fault !== null)
    view['fault'] = { code: 500, message: server.fault, created: updated };
  return view;
}

/** What clients of 2.0 show beside it. */
const viewOfEssex = (server: InstanceView): object => ({
  security_groups: server.security_groups.map(({ name }) => ({ name })),
  'os-extended-volumes:volumes_attached': server.volumes.map(({ volume_id }) => ({ id: String(volume_id) })),
  'OS-EXT-STS:vm_state': server.vm_state,
  'OS-EXT-STS:task_state': server.task_state,
  'OS-EXT-STS:power_state': server.power_state,
});

/** By network; of each address the floating ones after it, then the card's IPv6 address. */
export function viewAddresses({ addresses }: Pick<InstanceView, 'addresses'>): Record<string, ServerAddress[]> {
  const networks: Record<string, ServerAddress[]> = {};
  for (const { network_label, address, floating, address_v6 } of addresses) {
    const network = (networks[network_label] ??= []);
    for (const addr of [address, ...floating]) network.push({ version: 4, addr });
    if (address_v6 !== null) network.push({ version: 6, addr: address_v6 });
  }
  return networks;
}

/** Tells hosts apart without naming them; empty while there is none. */
export const hostId = (host: string | null): string =>
  host === null ? '' : createHash('sha224').update(host).digest('hex');
