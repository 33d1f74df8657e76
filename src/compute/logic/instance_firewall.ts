import { Address6 } from 'ip-address';
import type { FirewallCard, FirewallRows } from '../../common/db/guest_firewall.ts';
import type { AddressSet } from '../../common/linux/ipset.ts';
import type { HeadRule, Tables, WantedTable } from '../../common/linux/iptables_text.ts';
import { eui64Address } from '../../common/eui64.ts';
import { SHARED_CHAINS } from '../../network/logic/firewall.ts';
import { ANY_TAP, tapName } from './tap_name.ts';

export interface FirewallPolicy {
  /** Guests of one network reach each other, whatever their groups say. */
  allow_project_net_traffic: boolean;
  use_ipv6: boolean;
}

/** The rules of a host and the sets that they use. */
export interface InstanceFirewall {
  tables: Tables;
  sets: AddressSet[];
  /** The hosts' ends of the guests' cards. */
  taps: string[];
}

/** A card with the name of the host's end of it, and of the chain for what it sends. */
type Card = Omit<FirewallCard, 'address'> & { addresses: string[]; tap: string; from: string };
type Ports = Pick<FirewallRows['rules'][number], 'protocol' | 'from_port' | 'to_port'>;
type Source = { cidr: string | null; group_id?: number | null };
type Version = 'v4' | 'v6';

/**
 * The rules of all guests of a host.
 *
 *   filter  FORWARD, OUTPUT: nova-filter-top -> local -> by tap (bridged) or address (routed, from this host) -> inst-ID
 *           of ebtables: FORWARD -> reflected: of a guest's own frames it gets back only those that are for its own MAC
 *           inst-ID: INVALID dropped, what is established let in, provider, DHCP, its network, its groups (sg-ID), sg-fallback
 *           provider: what no guest is sent, dropped
 *           sg-ID: one rule of the group a line; every guest of the host that is in the group jumps there
 *   nat     of ebtables: PREROUTING -> sources -> by tap -> from-ID-CARD: only the card's own MAC and addresses, no DHCP server
 *                        PREROUTING -> strangers: nothing from a tap without a card
 *   mangle  of ip6tables: PREROUTING -> neighbours -> by tap -> from-ID-CARD: claims no address but the card's own
 *
 * A tap without a card is that of a guest that the rows do not know: deleted while this host was cut off, or launched after
 * the backup that the database was restored from. No rule speaks for it, so nothing passes it, either way; a guest that is
 * being launched has its card before its tap. Of a group's members the addresses are in the set nova-sg-ID (nova-sg6-ID). Source: Nova 2011.3
 * nova/virt/libvirt/firewall.py, IptablesFirewallDriver; there, anti-spoofing was nwfilter's.
 */
export function instanceFirewall(rows: FirewallRows, policy: FirewallPolicy): InstanceFirewall {
  const cards = withTaps(rows.cards);
  const all = [...cards.values()].flat();
  const versions = policy.use_ipv6 ? (['v4', 'v6'] as const) : (['v4'] as const);
  const filter = (version: Version) => [filterTable(cards, rows, policy, version)];
  return {
    tables: {
      v4: filter('v4'),
      v6: policy.use_ipv6 ? [...filter('v6'), neighboursTable(all)] : [],
      frames: [framesTable(all, policy), reflectedTable(all)],
    },
    taps: all.map(({ tap }) => tap),
    sets: versions.flatMap((version) => addressSets(rows, version)),
  };
}

/** Cards by instance; a card's number is its place in the guest. */
function withTaps(cards: readonly FirewallCard[]): Map<number, Card[]> {
  const of = new Map<number, Card[]>();
  for (const { address, ...card } of cards) {
    const own = of.get(card.instance_id) ?? [];
    of.set(card.instance_id, own);
    const before = own.find(({ mac }) => mac === card.mac);
    if (before) {
      before.addresses.push(address);
      continue;
    }
    const from = `from-${hex(card.instance_id)}-${own.length}`; // ebtables takes 31 characters
    own.push({ ...card, addresses: [address], tap: tapName(card.instance_id, own.length), from });
  }
  return of;
}

const hex = (id: number): string => id.toString(16);
const TO_FILTER_TOP: HeadRule[] = [{ rule: '-j nova-filter-top', place: 'first' }];

function filterTable(
  guests: ReadonlyMap<number, Card[]>,
  rows: FirewallRows,
  policy: FirewallPolicy,
  version: Version,
): WantedTable {
  const groups = new Map<number, number[]>();
  for (const { instance_id, security_group_id } of rows.links)
    groups.set(instance_id, [...(groups.get(instance_id) ?? []), security_group_id]);
  const local: string[] = [];
  const chains: Record<string, string[]> = {
    local,
    'sg-fallback': ['-j DROP'],
    provider: rows.provider.flatMap((rule) => ruleText(rule, version, 'DROP') ?? []),
  };
  for (const id of new Set([...guests.keys()].flatMap((instance_id) => groups.get(instance_id) ?? [])))
    chains[`sg-${hex(id)}`] = [];
  for (const rule of rows.rules) {
    const text = ruleText(rule, version, 'ACCEPT');
    if (text !== null) chains[`sg-${hex(rule.parent_group_id)}`]?.push(text);
  }
  for (const [instance_id, cards] of guests) {
    const chain = `inst-${hex(instance_id)}`;
    for (const card of cards) {
      local.push(`-m physdev --physdev-out ${card.tap} --physdev-is-bridged -j $${chain}`);
      for (const address of addressesOf(card, version))
        local.push(`-d ${address}/${version === 'v4' ? 32 : 128} -j $${chain}`);
    }
    chains[chain] = [
      '-m conntrack --ctstate INVALID -j DROP',
      '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      '-j $provider',
      ...cards.flatMap((card) => networkRules(card, policy, version)),
      ...(groups.get(instance_id) ?? []).map((id) => `-j $sg-${hex(id)}`),
      '-j $sg-fallback',
    ];
  }
  local.push(`-m physdev --physdev-out ${ANY_TAP} --physdev-is-bridged -j $sg-fallback`);
  return {
    table: 'filter',
    chains,
    shared: SHARED_CHAINS.filter,
    builtin: { FORWARD: TO_FILTER_TOP, OUTPUT: TO_FILTER_TOP },
  };
}

const addressesOf = (card: Pick<Card, 'addresses' | 'cidr_v6' | 'mac'>, version: Version): string[] =>
  version === 'v4' ? card.addresses : card.cidr_v6 === null ? [] : [eui64Address(card.cidr_v6, card.mac)];

const SOLICITATION = 135;
const ADVERTISEMENT = 136;
/** Without them no IPv6 address is found. */
const NEIGHBOURS = [SOLICITATION, ADVERTISEMENT];
const ROUTER_ADVERTISEMENT = 134;

/** What the guest's own network may send it before any group is asked. */
function networkRules(card: Card, { allow_project_net_traffic }: FirewallPolicy, version: Version): string[] {
  if (version === 'v4') {
    const dhcp =
      card.dhcp_server === null ? [] : [`-s ${card.dhcp_server}/32 -p udp -m udp --sport 67 --dport 68 -j ACCEPT`];
    return [...dhcp, ...(allow_project_net_traffic ? [`-s ${card.cidr} -j ACCEPT`] : [])];
  }
  return [
    ...NEIGHBOURS.map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j ACCEPT`),
    `-s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type ${ROUTER_ADVERTISEMENT} -j ACCEPT`,
    ...(allow_project_net_traffic && card.cidr_v6 !== null ? [`-s ${card.cidr_v6} -j ACCEPT`] : []),
  ];
}

/** A rule of a group, or of the provider, as iptables-save spells it; null where it says nothing about this version of IP. */
function ruleText(rule: Ports & Source, version: Version, target: 'ACCEPT' | 'DROP'): string | null {
  const { cidr, group_id = null } = rule;
  if (cidr !== null && cidr.includes(':') !== (version === 'v6')) return null;
  const range = cidr === null || cidr.endsWith('/0') ? '' : `-s ${cidr} `;
  const set = group_id === null ? '' : `-m set --match-set ${setName(group_id, version)} src `;
  return `${range}${portsText(rule, version)}${set}-j ${target}`;
}

function portsText({ protocol, from_port, to_port }: Ports, version: Version): string {
  if (protocol === '-1') return '';
  if (protocol !== 'icmp') {
    if (from_port === 0 && to_port === 65535) return `-p ${protocol} `;
    const range = from_port === to_port ? String(from_port) : `${from_port}:${to_port}`;
    return `-p ${protocol} -m ${protocol} --dport ${range} `;
  }
  const [name, match, option] =
    version === 'v4' ? ['icmp', 'icmp', '--icmp-type'] : ['ipv6-icmp', 'icmp6', '--icmpv6-type'];
  if (from_port === null || from_port === -1) return `-p ${name} `;
  const code = to_port === null || to_port === -1 ? '' : `/${to_port}`;
  return `-p ${name} -m ${match} ${option} ${from_port}${code} `;
}

/** Begins the names of all sets of ours. */
export const SET_PREFIX = 'nova-sg';
const setName = (group_id: number, version: Version): string =>
  `${SET_PREFIX}${version === 'v4' ? '' : '6'}-${hex(group_id)}`;

function addressSets({ rules, members }: FirewallRows, version: Version): AddressSet[] {
  const of = new Map<number, Set<string>>();
  for (const { group_id } of rules) if (group_id !== null) of.set(group_id, new Set());
  for (const { security_group_id, address, ...card } of members)
    for (const one of addressesOf({ ...card, addresses: [address] }, version)) of.get(security_group_id)?.add(one);
  return [...of].map(([group_id, addresses]) => ({
    name: setName(group_id, version),
    family: version === 'v4' ? 'inet' : 'inet6',
    members: [...addresses],
  }));
}

/** Frames that a guest sends: as itself, or not at all. Frames to a guest: no IPv6 where no rule would judge it. */
function framesTable(cards: readonly Card[], { use_ipv6 }: FirewallPolicy): WantedTable {
  const chains: Record<string, string[]> = {
    sources: cards.map(({ tap, from }) => `-i ${tap} -j $${from}`),
    strangers: [...cards.map(({ tap }) => `-i ${tap} -j RETURN`), `-i ${ANY_TAP} -j DROP`],
    targets: use_ipv6 ? [] : [`-p IPv6 -o ${ANY_TAP} -j DROP`],
  };
  for (const card of cards) chains[card.from] = ownFrames(card, use_ipv6);
  return {
    table: 'nat', // its PREROUTING sees frames to other guests and to this host alike
    chains,
    shared: {},
    builtin: {
      PREROUTING: ['sources', 'strangers'].map((chain) => ({ rule: `-j $${chain}`, place: 'any' })),
      POSTROUTING: [{ rule: '-j $targets', place: 'any' }],
    },
  };
}

const ownV6 = (card: Card): string[] => [eui64Address('fe80::/64', card.mac), ...addressesOf(card, 'v6')];

function ownFrames(card: Card, use_ipv6: boolean): string[] {
  const { mac, addresses } = card;
  const v6 = [...ownV6(card), '::'];
  return [
    `-s ! ${mac} -j DROP`,
    '-p IPv4 --ip-proto udp --ip-sport 67 -j DROP',
    ...addresses.map((address) => `-p IPv4 --ip-src ${address} -j RETURN`),
    '-p IPv4 --ip-src 0.0.0.0 --ip-proto udp --ip-sport 68 --ip-dport 67 -j RETURN',
    ...addresses.map((address) => `-p ARP --arp-ip-src ${address} --arp-mac-src ${mac} -j RETURN`),
    `-p ARP --arp-ip-src 0.0.0.0 --arp-mac-src ${mac} -j RETURN`, // asks whether its address is free
    ...(use_ipv6
      ? [
          `-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type router-advertisement -j DROP`,
          ...v6.map((own) => `-p IPv6 --ip6-src ${own} -j RETURN`),
        ]
      : []),
    '-j DROP',
  ];
}

/**
 * What a guest says of addresses inside a packet: whose it advertises, and whose it asks for from `::`, by which it says
 * that it is taking it. ebtables sees the source only. Frames to other guests and to this host pass here.
 */
function neighboursTable(cards: readonly Card[]): WantedTable {
  const chains: Record<string, string[]> = {
    neighbours: cards.map(({ tap, from }) => `-m physdev --physdev-in ${tap} -j $${from}`),
  };
  for (const card of cards)
    chains[card.from] = [...ownV6(card).map((own) => `${neighbourTarget(own)} -j RETURN`), '-j DROP'];
  const jump = (from: string, type: number): HeadRule => ({
    rule: `${from}-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j $neighbours`,
    place: 'any',
  });
  return {
    table: 'mangle',
    chains,
    shared: SHARED_CHAINS.mangle,
    builtin: { PREROUTING: [jump('', ADVERTISEMENT), jump('-s ::/128 ', SOLICITATION)] },
  };
}

/**
 * Matches the target address of a neighbour solicitation or advertisement, for which the kernel needs xt_u32. ICMPv6 must
 * follow the header of IPv6 at once: in an extension header between them, a guest could put its own address at this place.
 */
export function neighbourTarget(address: string): string {
  const hex = new Address6(address).bigInt().toString(16).padStart(32, '0');
  const words = [0, 4, 8, 12].map((at) => `0x${(48 + at).toString(16)}=0x${parseInt(hex.slice(2 * at, 2 * at + 8), 16).toString(16)}`); // prettier-ignore
  return `-m u32 --u32 "${['0x6>>0x18=0x3a', ...words].join('&&')}"`;
}

/**
 * A packet to a guest's own floating address turns around in the bridge, at the guest's own port: by then it is for the
 * guest's MAC. Nothing else may turn around there, above all no broadcast, in which a guest would meet itself.
 */
function reflectedTable(cards: readonly Card[]): WantedTable {
  return {
    table: 'filter',
    chains: { reflected: cards.map(({ tap, mac }) => `-d ! ${mac} -i ${tap} -o ${tap} -j DROP`) },
    shared: {},
    builtin: { FORWARD: [{ rule: '-j $reflected', place: 'any' }] },
  };
}

const empty = (table: WantedTable['table'], shared: WantedTable['shared']): WantedTable => ({
  table,
  chains: {},
  shared,
  builtin: {},
});

/** The tables that hold rules of ours, to take them away. */
export const NO_INSTANCES: Required<Tables> = {
  v4: [empty('filter', SHARED_CHAINS.filter)],
  v6: [empty('filter', SHARED_CHAINS.filter), empty('mangle', SHARED_CHAINS.mangle)],
  frames: [empty('nat', {}), empty('filter', {})],
};
