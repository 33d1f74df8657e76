/** The texts that dnsmasq reads: who gets which address, which leases are out, and its own command line. */

/** A guest's card as DHCP knows it. */
export interface DhcpHost {
  /** Lower case, colons. */
  mac: string;
  /** Dotted IPv4. */
  address: string;
  /** As the user gave it; anything may be in it. */
  hostname: string | null;
}

/** One network as a dnsmasq serves it. Addresses are dotted IPv4. */
export interface DhcpNetwork {
  network_id: number;
  bridge: string;
  /** Our own address on the bridge, which dnsmasq listens on. */
  dhcp_server: string;
  /** Router told to guests. */
  gateway: string;
  netmask: string;
  dhcp_start: string;
  /** A /64 that guests make addresses of their own from, told by router advertisements; null: no IPv6. */
  cidr_v6: string | null;
  /** DNS servers told to guests, dotted IPv4; none: dnsmasq itself, which asks others. */
  dns: readonly string[];
  /** Most leases at once: the number of addresses of the network. */
  lease_max: number;
}

/** Those of one bridge, which have one dnsmasq. */
export type DhcpNetworks = readonly [DhcpNetwork, ...DhcpNetwork[]];

export interface DhcpSettings {
  networks_path: string;
  dhcp_domain: string;
  /** Seconds. */
  dhcp_lease_time: number;
  /** Absolute path of nova-dhcpbridge. */
  dhcpbridge: string;
  /** The operator's dnsmasq configuration; '' for none. */
  dnsmasq_config_file: string;
  /** DNS server in place of the host's resolv.conf and hosts file, or null. */
  dns_server: string | null;
}

export interface DhcpFiles {
  /** `MAC,NAME,ADDRESS` lines: dnsmasq reads it at start and on SIGHUP. */
  hosts: string;
  pid: string;
  /** What nova-dhcpbridge prints for `init`. */
  leases: string;
  /** Which dnsmasq was told of which hosts file. */
  told: string;
}

export const dhcpFiles = (networks_path: string, bridge: string): DhcpFiles => {
  const file = (suffix: string) => `${networks_path}/nova-${bridge}.${suffix}`;
  return { hosts: file('conf'), pid: file('pid'), leases: file('leases'), told: file('told') };
};

/** Where nova-dhcpbridge leaves the last event of a card; it is written under the name with `new` first. */
export const eventFile = (networks_path: string, bridge: string, mac: string, suffix: 'event' | 'new'): string =>
  `${networks_path}/nova-${bridge}.${mac}.${suffix}`;

/**
 * A name that dnsmasq takes as one, made from a user's: letters, digits and inner hyphens, at most 63.
 * A comma or a line break in a display name would otherwise give its owner someone else's address, and a bare
 * `1h` or `infinite` would be read as a lease time.
 */
export function dhcpName({ hostname, address }: Pick<DhcpHost, 'hostname' | 'address'>): string {
  const name = (hostname ?? '')
    .toLowerCase()
    .replace(/[ _.]+/g, '-')
    .replace(/[^a-z0-9-]/g, '')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
  return name === '' || /^(\d+[smhdw]?|infinite|ignore)$/.test(name) ? `host-${address.replaceAll('.', '-')}` : name;
}

/** Sorted by address, so that the same guests always make the same bytes and dnsmasq is not told for nothing. */
export function hostsFile(hosts: readonly DhcpHost[], dhcp_domain: string): string {
  const domain = dhcp_domain === '' ? '' : `.${dhcp_domain}`;
  const lines = inOrder(hosts).map((host) => `${host.mac},${dhcpName(host)}${domain},${host.address}\n`);
  return lines.join('');
}

/**
 * dnsmasq's lease database in its own format: `EXPIRY MAC ADDRESS NAME CLIENT-ID`.
 * @param expiry epoch seconds: a lease from before a restart of dnsmasq holds for one more lease time, in which a guest
 * that lives renews it. Nova counted from the instance's row, so a long-lived guest's lease was over at once.
 */
export function leasesFile(hosts: readonly DhcpHost[], expiry: number): string {
  const lines = inOrder(hosts).map((host) => `${expiry} ${host.mac} ${host.address} ${dhcpName(host)} *\n`);
  return lines.join('');
}

const inOrder = (hosts: readonly DhcpHost[]): DhcpHost[] => {
  const key = (host: DhcpHost) => host.address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
  return [...hosts].sort((a, b) => key(a) - key(b));
};

/**
 * `--interface` beside Nova's options ties the DHCP socket to the bridge: without it two dnsmasq on a host take each
 * other's requests. dnsmasq sends the router advertisements too, for which Nova ran radvd. Source: Nova 2011.3 nova/network/linux_net.py, update_dhcp; Cactus where it differs.
 */
export function dnsmasqArgv(networks: DhcpNetworks, settings: DhcpSettings): string[] {
  const [{ bridge }] = networks;
  const files = dhcpFiles(settings.networks_path, bridge);
  const v6 = networks.map(({ cidr_v6 }) => cidr_v6).filter((cidr) => cidr !== null);
  return [
    'dnsmasq',
    '--strict-order',
    '--bind-interfaces',
    `--interface=${bridge}`,
    `--conf-file=${settings.dnsmasq_config_file}`,
    `--domain=${settings.dhcp_domain}`,
    `--pid-file=${files.pid}`,
    ...networks.map(({ dhcp_server }) => `--listen-address=${dhcp_server}`),
    '--except-interface=lo',
    ...networks.flatMap((network) => rangeWords(network, settings)),
    `--dhcp-lease-max=${networks.reduce((sum, { lease_max }) => sum + lease_max, 0)}`,
    `--dhcp-hostsfile=${files.hosts}`,
    `--dhcp-script=${settings.dhcpbridge}`,
    '--leasefile-ro',
    ...(v6.length === 0 ? [] : ['--enable-ra', ...v6.map((cidr) => `--dhcp-range=${cidr.replace('/', ',ra-only,')}`)]),
    ...(settings.dns_server === null ? [] : ['--no-hosts', '--no-resolv', `--server=${settings.dns_server}`]),
  ];
}

/** Router and DNS servers are told by a tag, since those of another network on the bridge may be of no use. */
const rangeWords = (
  { network_id, dhcp_start, netmask, gateway, dns }: DhcpNetwork,
  { dhcp_lease_time }: DhcpSettings,
): string[] => [
  `--dhcp-range=set:net${network_id},${dhcp_start},static,${netmask},${dhcp_lease_time}s`,
  `--dhcp-option=tag:net${network_id},option:router,${gateway}`,
  ...(dns.length === 0 ? [] : [`--dhcp-option=tag:net${network_id},option:dns-server,${dns.join()}`]),
];

/** Something that dnsmasq told nova-dhcpbridge. */
export interface DhcpEvent {
  /** `add`: a lease was given; `old`: it is still held; `del`: it ended. */
  event: 'add' | 'old' | 'del';
  mac: string;
  address: string;
}

/** Reads what nova-dhcpbridge wrote: `add MAC ADDRESS NAME`. @returns null for a text that is no event */
export function parseEvent(text: string): DhcpEvent | null {
  const found = /^(add|old|del) ([0-9a-f]{2}(?::[0-9a-f]{2}){5}) (\d+\.\d+\.\d+\.\d+)( |$)/im.exec(text);
  const [, event, mac, address] = found ?? [];
  if (!event || !mac || !address) return null;
  return { event: event as DhcpEvent['event'], mac: mac.toLowerCase(), address };
}
