import type { HeadRule, Tables, WantedTable } from '../../common/linux/iptables_text.ts';
import { contains, holds, parseCidr, parseIpv4 } from './addresses.ts';
import { isolationTable, vpnAccepts, vpnInward, type VpnForward } from './project_rules.ts';

/** All that decides a network host's rules; read whole from database and flags each time. Addresses dotted IPv4. */
export interface FirewallState {
  /** The guests' address space as the flag `--fixed_range` has it. */
  fixed_range: string;
  /** Networks that this host serves. */
  networks: { bridge: string; cidr: string; cidr_v6?: string | null; project_id?: string | null }[];
  /** Guests' traffic to here keeps its source address. */
  dmz_cidr: string;
  /** Guests' other traffic leaves with this address; null: no SNAT (Flat, where the operator routes). */
  routing_source_ip: string | null;
  /** Floating addresses that lead to guests of these networks; of a guest's several the first is its own way out. */
  floating?: readonly Forward[];
  /** Networks belong to projects, which are kept apart. */
  by_project?: boolean;
  /** VPN instances of projects. */
  vpns?: readonly VpnForward[];
  /** Who answers 169.254.169.254; null: the operator sees to it (Flat). */
  metadata: { host: string; port: number } | null;
}

/** A floating address and the fixed one that it leads to. */
export interface Forward {
  address: string;
  fixed: string;
}

/** The rules of one host. */
export type Firewall = Tables;

const METADATA_IP = '169.254.169.254/32';

/** Chains that every nova daemon of a host shares. */
export const SHARED_CHAINS = {
  filter: { 'nova-filter-top': ['-j $local'] },
  nat: { 'nova-postrouting-bottom': ['-j $snat'] },
  mangle: {},
} as const;

/**
 * The rules of a host that serves networks.
 *
 *   filter  FORWARD: nova-filter-top (-> B-local, of every daemon), B-FORWARD     INPUT: B-INPUT     OUTPUT: like FORWARD
 *   nat     PREROUTING: B-PREROUTING     OUTPUT: B-OUTPUT
 *           POSTROUTING: B-POSTROUTING (who keeps his source address), then nova-postrouting-bottom -> B-snat
 *           B-snat: B-floating-snat (a guest with a floating address leaves with it), then the others
 *
 * Source: Nova 2011.2 nova/network/linux_net.py, init_host, metadata_forward, ensure_bridge; ports from 2011.3.
 */
export function networkFirewall(state: FirewallState, use_ipv6: boolean): Firewall {
  const bridges = distinctBridges(state.networks);
  const projects = state.networks.flatMap(({ project_id, ...network }) =>
    project_id ? [{ ...network, project_id }] : [],
  );
  const isolation = (layer: 'v4' | 'v6') => (state.by_project ? [isolationTable(projects, layer)] : []);
  const filter = filterTable(bridges, inputRules(bridges, state.metadata), vpnAccepts(state.vpns ?? []));
  return {
    v4: [...isolation('v4'), filter, natTable(state)],
    v6: use_ipv6 ? [...isolation('v6'), filterTable(bridges, inputRules(bridges, null))] : [],
  };
}

/** The rules of a host that only runs guests: their bridged traffic passes. Security groups come into `local`. */
export function computeFirewall(bridges: readonly string[], use_ipv6: boolean): Firewall {
  return { v4: [filterTable(bridges, [])], v6: use_ipv6 ? [filterTable(bridges, [])] : [] };
}

const distinctBridges = (networks: FirewallState['networks']): string[] => [
  ...new Set(networks.map((network) => network.bridge)),
];

const jump = (to: string, place: HeadRule['place']): HeadRule => ({ rule: `-j ${to}`, place });

/** DHCP and DNS for guests, and the metadata where it is answered on this host. */
function inputRules(bridges: readonly string[], metadata: FirewallState['metadata']): string[] {
  const ports = [
    ['udp', 67],
    ['tcp', 67],
    ['udp', 53],
    ['tcp', 53],
    ...(metadata ? [['tcp', metadata.port] as const] : []),
  ] as const;
  return bridges.flatMap((bridge) =>
    ports.map(([protocol, port]) => `-i ${bridge} -p ${protocol} -m ${protocol} --dport ${port} -j ACCEPT`),
  );
}

function filterTable(bridges: readonly string[], input: string[], forward: string[] = []): WantedTable {
  return {
    table: 'filter',
    chains: {
      local: [],
      INPUT: input,
      FORWARD: [...bridges.flatMap((bridge) => [`-i ${bridge} -j ACCEPT`, `-o ${bridge} -j ACCEPT`]), ...forward],
      OUTPUT: [],
    },
    shared: SHARED_CHAINS.filter,
    builtin: {
      INPUT: [jump('$INPUT', 'any')],
      FORWARD: [jump('nova-filter-top', 'first'), jump('$FORWARD', 'any')],
      OUTPUT: [jump('nova-filter-top', 'first'), jump('$OUTPUT', 'any')],
    },
  };
}

function natTable(state: FirewallState): WantedTable {
  const { routing_source_ip, dmz_cidr, metadata, floating = [], vpns = [] } = state;
  const ranges = guestRanges(state);
  const elsewhere = metadata && !isLoopback(metadata.host) ? [`${metadata.host}/32`] : [];
  const snat = routing_source_ip === null ? [] : ranges;
  const inward = [
    ...floating.map(({ address, fixed }) => `-d ${address}/32 -j DNAT --to-destination ${fixed}`),
    ...vpnInward(vpns),
  ];
  return {
    table: 'nat',
    chains: {
      PREROUTING: [...(metadata ? [metadataRule(metadata)] : []), ...inward],
      OUTPUT: inward,
      // A metadata server on another host knows a guest by its source address, so that must not be rewritten.
      POSTROUTING: [
        ...snat.flatMap((range) => elsewhere.map((to) => `-s ${range} -d ${to} -j ACCEPT`)),
        ...(floating.length > 0 ? hairpinRules(ranges, snat.length > 0) : []),
        ...snat.flatMap((range) => [canonicalCidr(dmz_cidr), ...ranges].map((to) => `-s ${range} -d ${to} -j ACCEPT`)),
      ],
      'floating-snat': floating.map(({ address, fixed }) => `-s ${fixed}/32 -j SNAT --to-source ${address}`),
      snat: ['-j $floating-snat', ...snat.map((range) => `-s ${range} -j SNAT --to-source ${routing_source_ip}`)],
    },
    shared: SHARED_CHAINS.nat,
    builtin: {
      PREROUTING: [jump('$PREROUTING', 'any')],
      OUTPUT: [jump('$OUTPUT', 'any')],
      POSTROUTING: [
        jump('$POSTROUTING', 'any'),
        { rule: '-j nova-postrouting-bottom', place: 'last', after: /^-j nova-[a-z]+-POSTROUTING$/ },
      ],
    },
  };
}

/**
 * A guest that asks for the floating address of another on its bridge: were its source kept, the answer would go to it
 * directly, from an address that it did not ask. So it leaves as to anywhere else, and the answer comes back through here.
 */
const hairpinRules = (ranges: readonly string[], has_way_out: boolean): string[] =>
  ranges.flatMap((from) =>
    ranges.flatMap((to) => {
      const match = `-s ${from} -d ${to} -m conntrack --ctstate DNAT`;
      return [
        `${match} -j $${has_way_out ? 'snat' : 'floating-snat'}`,
        ...(has_way_out ? [] : [`${match} -j MASQUERADE`]),
      ];
    }),
  );

/** The bridges that the rules of our FORWARD chain let through. */
export const bridgesOf = (rules: readonly string[]): string[] =>
  rules.flatMap((rule) => /^-i (\S+) -j ACCEPT$/.exec(rule)?.[1] ?? []);

/** The forwards among the rules of our PREROUTING chain. */
export const forwardsOf = (rules: readonly string[]): Forward[] =>
  rules.flatMap((rule) => {
    const [, address, fixed] = /^-d ([\d.]+)\/32 -j DNAT --to-destination ([\d.]+)$/.exec(rule) ?? [];
    return address === undefined || fixed === undefined ? [] : [{ address, fixed }];
  });

/** `--fixed_range`, and any network that the operator made outside of it: its guests need the way out as well. */
function guestRanges({ fixed_range, networks }: FirewallState): string[] {
  const range = parseCidr(fixed_range);
  const outside = networks.map((network) => network.cidr).filter((cidr) => !contains(range, parseCidr(cidr)));
  return [...new Set([fixed_range, ...outside])].map(canonicalCidr);
}

/** A packet from a bridge cannot be sent to 127.0.0.1, so a local server is reached at the bridge's own address. */
const metadataRule = ({ host, port }: { host: string; port: number }): string =>
  `-d ${METADATA_IP} -p tcp -m tcp --dport 80 ` +
  (isLoopback(host) ? `-j REDIRECT --to-ports ${port}` : `-j DNAT --to-destination ${host}:${port}`);

const isLoopback = (host: string): boolean => holds(parseCidr('127.0.0.0/8'), parseIpv4(host));

/** iptables-save leaves out `/0` blocks altogether; those have no place in these rules. */
const canonicalCidr = (cidr: string): string => {
  parseCidr(cidr);
  return cidr;
};

const emptyTable = (table: 'filter' | 'nat' | 'mangle'): WantedTable => ({
  table,
  chains: {},
  shared: SHARED_CHAINS[table],
  builtin: {},
});

/** The tables that hold rules of ours, to take them away. */
export const NO_RULES: Firewall = {
  v4: [emptyTable('filter'), emptyTable('nat'), emptyTable('mangle')],
  v6: [emptyTable('filter'), emptyTable('mangle')],
};
