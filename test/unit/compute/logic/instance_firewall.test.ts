import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FirewallRows } from '../../../../src/common/db/guest_firewall.ts';
import { restoreText } from '../../../../src/common/linux/iptables_text.ts';
import { instanceFirewall, NO_INSTANCES } from '../../../../src/compute/logic/instance_firewall.ts';

const POLICY = { allow_project_net_traffic: true, use_ipv6: false };
const card = (instance_id: number, n: number) => ({
  instance_id,
  mac: `02:16:3e:00:00:0${n}`,
  address: `10.0.0.${n}`,
  cidr: '10.0.0.0/24',
  cidr_v6: 'fd00::/64',
  gateway_v6: null,
  dhcp_server: '10.0.0.1',
});
const rule = (over: Partial<FirewallRows['rules'][number]>): FirewallRows['rules'][number] => ({
  parent_group_id: 3,
  protocol: '-1',
  from_port: null,
  to_port: null,
  cidr: null,
  group_id: null,
  ...over,
});
const rows = (over: Partial<FirewallRows> = {}): FirewallRows => ({
  cards: [card(10, 2)],
  links: [{ instance_id: 10, security_group_id: 3 }],
  rules: [],
  provider: [],
  members: [],
  ...over,
});
const chainsOf = (given: FirewallRows, policy = POLICY, version: 'v4' | 'v6' | 'frames' = 'v4') =>
  instanceFirewall(given, policy).tables[version]?.[0]?.chains ?? {};

test('what reaches a guest is judged in the order of Nova, and dropped at the end', () => {
  const chains = chainsOf(rows());

  assert.deepEqual(chains['local'], [
    '-m physdev --physdev-out novaa-0 --physdev-is-bridged -j $inst-a',
    '-d 10.0.0.2/32 -j $inst-a',
    '-m physdev --physdev-out nova+ --physdev-is-bridged -j $sg-fallback',
  ]);
  assert.deepEqual(chains['inst-a'], [
    '-m conntrack --ctstate INVALID -j DROP',
    '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-j $provider',
    '-s 10.0.0.1/32 -p udp -m udp --sport 67 --dport 68 -j ACCEPT',
    '-s 10.0.0.0/24 -j ACCEPT',
    '-j $sg-3',
    '-j $sg-fallback',
  ]);
  assert.deepEqual(chains['sg-fallback'], ['-j DROP']);
  assert.ok(
    !chainsOf(rows(), { ...POLICY, allow_project_net_traffic: false })['inst-a']?.includes('-s 10.0.0.0/24 -j ACCEPT'),
  );
});

test('each kind of rule has its spelling, and speaks of one version of IP', () => {
  const rules = [
    rule({ protocol: 'tcp', from_port: 22, to_port: 22, cidr: '192.0.2.0/24' }),
    rule({ protocol: 'udp', from_port: 0, to_port: 99, cidr: '0.0.0.0/0' }),
    rule({ protocol: 'tcp', from_port: 0, to_port: 65535, cidr: '192.0.2.1/32' }),
    rule({ protocol: 'icmp', from_port: -1, to_port: -1, cidr: '0.0.0.0/0' }),
    rule({ protocol: 'icmp', from_port: 8, to_port: -1, cidr: '0.0.0.0/0' }),
    rule({ protocol: 'icmp', from_port: 3, to_port: 0, cidr: '0.0.0.0/0' }),
    rule({ protocol: '-1', cidr: '0.0.0.0/0' }),
    rule({ protocol: '-1', group_id: 26 }),
    rule({ protocol: 'tcp', from_port: 80, to_port: 80, group_id: 26 }),
    rule({ protocol: 'icmp', from_port: 128, to_port: 0, cidr: '2001:db8::/32' }),
  ];

  assert.deepEqual(chainsOf(rows({ rules }))['sg-3'], [
    '-s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT',
    '-p udp -m udp --dport 0:99 -j ACCEPT',
    '-s 192.0.2.1/32 -p tcp -j ACCEPT',
    '-p icmp -j ACCEPT',
    '-p icmp -m icmp --icmp-type 8 -j ACCEPT',
    '-p icmp -m icmp --icmp-type 3/0 -j ACCEPT',
    '-j ACCEPT',
    '-m set --match-set nova-sg-1a src -j ACCEPT',
    '-p tcp -m tcp --dport 80 -m set --match-set nova-sg-1a src -j ACCEPT',
  ]);
  assert.deepEqual(chainsOf(rows({ rules }), { ...POLICY, use_ipv6: true }, 'v6')['sg-3'], [
    '-m set --match-set nova-sg6-1a src -j ACCEPT',
    '-p tcp -m tcp --dport 80 -m set --match-set nova-sg6-1a src -j ACCEPT',
    '-s 2001:db8::/32 -p ipv6-icmp -m icmp6 --icmpv6-type 128/0 -j ACCEPT',
  ]);
});

test('what is blocked for all guests is dropped before DHCP, their network and their groups are asked', () => {
  const provider = [
    { protocol: 'tcp', from_port: 1, to_port: 65535, cidr: '192.0.2.0/24' },
    { protocol: 'icmp', from_port: -1, to_port: null, cidr: '192.0.2.0/24' },
    { protocol: 'icmp', from_port: -1, to_port: null, cidr: '2001:db8::/32' },
  ];

  assert.deepEqual(chainsOf(rows({ provider }))['provider'], [
    '-s 192.0.2.0/24 -p tcp -m tcp --dport 1:65535 -j DROP',
    '-s 192.0.2.0/24 -p icmp -j DROP',
  ]);
  assert.deepEqual(chainsOf(rows({ provider }), { ...POLICY, use_ipv6: true }, 'v6')['provider'], [
    '-s 2001:db8::/32 -p ipv6-icmp -j DROP',
  ]);
});

test('guests of one group share its chain, so that a rule is there once however many they are', () => {
  const guests = Array.from({ length: 200 }, (_, i) => i + 1);
  const many = rows({
    cards: guests.map((id) => ({ ...card(id, 2), address: `10.0.1.${id}` })),
    links: guests.map((instance_id) => ({ instance_id, security_group_id: 3 })),
    rules: [rule({ protocol: 'tcp', from_port: 22, to_port: 22, cidr: '192.0.2.0/24' })],
  });

  const lines = Object.values(chainsOf(many)).flat();

  assert.equal(lines.filter((line) => line.includes('192.0.2.0/24')).length, 1);
  assert.equal(lines.filter((line) => line === '-j $sg-3').length, 200);
});

test("a group's members are a set of addresses, empty where it has none", () => {
  const rules = [rule({ group_id: 4 }), rule({ group_id: 5 })];
  const members = [{ security_group_id: 4, address: '10.0.0.9', mac: '02:16:3e:00:00:09', cidr_v6: 'fd00::/64' }];

  const { sets } = instanceFirewall(rows({ rules, members }), { ...POLICY, use_ipv6: true });

  assert.deepEqual(
    sets.map(({ name, members }) => [name, members]),
    [
      ['nova-sg-4', ['10.0.0.9']],
      ['nova-sg-5', []],
      ['nova-sg6-4', ['fd00::16:3eff:fe00:9']],
      ['nova-sg6-5', []],
    ],
  );
});

test('a guest with two cards speaks through each as itself', () => {
  const frames = chainsOf(rows({ cards: [card(10, 2), card(10, 3)] }), POLICY, 'frames');

  assert.deepEqual(frames['sources'], ['-i novaa-0 -j $from-a-0', '-i novaa-1 -j $from-a-1']);
  assert.deepEqual(frames['strangers'], ['-i novaa-0 -j RETURN', '-i novaa-1 -j RETURN', '-i nova+ -j DROP']);
  assert.deepEqual(frames['from-a-1'], [
    '-s ! 02:16:3e:00:00:03 -j DROP',
    '-p IPv4 --ip-proto udp --ip-sport 67 -j DROP',
    '-p IPv4 --ip-src 10.0.0.3 -j RETURN',
    '-p IPv4 --ip-src 0.0.0.0 --ip-proto udp --ip-sport 68 --ip-dport 67 -j RETURN',
    '-p ARP --arp-ip-src 10.0.0.3 --arp-mac-src 02:16:3e:00:00:03 -j RETURN',
    '-p ARP --arp-ip-src 0.0.0.0 --arp-mac-src 02:16:3e:00:00:03 -j RETURN',
    '-j DROP',
  ]);
});

test('no name is longer than the kernel takes, for the largest ids', () => {
  const id = 2 ** 31 - 1;
  const given = rows({
    cards: [card(id, 2)],
    links: [{ instance_id: id, security_group_id: id }],
    rules: [rule({ parent_group_id: id, group_id: id })],
  });

  const { tables, sets } = instanceFirewall(given, { ...POLICY, use_ipv6: true });

  for (const { chains } of [...tables.v4, ...tables.v6, ...(tables.frames ?? [])])
    for (const name of Object.keys(chains)) assert.ok(`nova-compute-${name}`.length <= 28, name);
  for (const { name } of sets) assert.ok(`${name}-new`.length <= 31, name);
  const text = tables.v4[0] && restoreText(new Map(), 'nova-compute', tables.v4[0]);
  assert.match(text ?? '', /-A nova-compute-local -d 10.0.0.2\/32 -j nova-compute-inst-7fffffff/);
});

test('a card with several addresses has one tap and one chain for what it sends, from each of them', () => {
  const two = rows({ cards: [card(10, 2), { ...card(10, 2), address: '10.0.0.9' }] });

  const { tables, taps } = instanceFirewall(two, POLICY);

  assert.deepEqual(taps, ['novaa-0']);
  assert.deepEqual(tables.v4[0]?.chains['local'], [
    '-m physdev --physdev-out novaa-0 --physdev-is-bridged -j $inst-a',
    '-d 10.0.0.2/32 -j $inst-a',
    '-d 10.0.0.9/32 -j $inst-a',
    '-m physdev --physdev-out nova+ --physdev-is-bridged -j $sg-fallback',
  ]);
  const from = tables.frames?.[0]?.chains['from-a-0'] ?? [];
  for (const address of ['10.0.0.2', '10.0.0.9'])
    assert.equal(from.filter((line) => line.includes(address) && line.endsWith('-j RETURN')).length, 2, address);
});

test('with IPv6 a card claims its own two addresses only, in packets whose ICMPv6 follows the header at once', () => {
  const two = rows({ cards: [card(10, 2), { ...card(10, 3), cidr_v6: null }] });

  const [filter, neighbours, ...more] = instanceFirewall(two, { ...POLICY, use_ipv6: true }).tables.v6;

  assert.deepEqual([filter?.table, neighbours?.table, more], ['filter', 'mangle', []]);
  assert.deepEqual(neighbours?.builtin, {
    PREROUTING: [
      { rule: '-p ipv6-icmp -m icmp6 --icmpv6-type 136 -j $neighbours', place: 'any' },
      { rule: '-s ::/128 -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j $neighbours', place: 'any' },
    ],
  });
  assert.deepEqual(neighbours.chains, {
    neighbours: ['-m physdev --physdev-in novaa-0 -j $from-a-0', '-m physdev --physdev-in novaa-1 -j $from-a-1'],
    'from-a-0': [
      '-m u32 --u32 "0x6>>0x18=0x3a&&0x30=0xfe800000&&0x34=0x0&&0x38=0x163eff&&0x3c=0xfe000002" -j RETURN',
      '-m u32 --u32 "0x6>>0x18=0x3a&&0x30=0xfd000000&&0x34=0x0&&0x38=0x163eff&&0x3c=0xfe000002" -j RETURN',
      '-j DROP',
    ],
    'from-a-1': [
      '-m u32 --u32 "0x6>>0x18=0x3a&&0x30=0xfe800000&&0x34=0x0&&0x38=0x163eff&&0x3c=0xfe000003" -j RETURN',
      '-j DROP',
    ],
  });
  assert.ok(
    NO_INSTANCES.v6.some(({ table }) => table === 'mangle'),
    'it is taken down',
  );
  assert.deepEqual(instanceFirewall(two, POLICY).tables.v6, []);
});
