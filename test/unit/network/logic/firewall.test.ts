import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forwardsOf, networkFirewall, type FirewallState } from '../../../../src/network/logic/firewall.ts';
import {
  parseSave,
  removalText,
  restoreText,
  whatIsMissing,
  type WantedTable,
} from '../../../../src/common/linux/iptables_text.ts';

const aState = (over: Partial<FirewallState> = {}): FirewallState => ({
  fixed_range: '10.0.0.0/8',
  networks: [{ bridge: 'br100', cidr: '10.0.0.0/24', project_id: null }],
  dmz_cidr: '10.128.0.0/24',
  routing_source_ip: '192.0.2.1',
  metadata: { host: '192.0.2.1', port: 8773 },
  ...over,
});
const tables = (over: Partial<FirewallState> = {}) => {
  const [filter, nat] = networkFirewall(aState(over), false).v4;
  assert.ok(filter && nat);
  return { filter, nat };
};

/** What iptables-restore --noflush does, as far as these texts use it. */
function restore(current: Map<string, string[]>, text: string | null): Map<string, string[]> {
  const chains = new Map([...current].map(([chain, rules]) => [chain, [...rules]]));
  const rules = (chain: string) => {
    const found = chains.get(chain);
    assert.ok(found, `no chain ${chain}`);
    return found;
  };
  for (const line of (text ?? '').split('\n')) {
    const [, op, chain, rest] = /^(-[AIDFX]|:)\s?(\S+) ?(.*)$/.exec(line) ?? [];
    if (!op || !chain || rest === undefined) continue;
    if (op === ':') chains.set(chain, []);
    if (op === '-A') rules(chain).push(rest);
    if (op === '-F') rules(chain).splice(0);
    if (op === '-X') assert.ok(chains.delete(chain));
    if (op === '-I') rules(chain).splice(Number(rest.split(' ')[0]) - 1, 0, rest.replace(/^\d+ /, ''));
    if (op === '-D') {
      assert.ok(rules(chain).includes(rest), `no rule ${chain} ${rest}`);
      rules(chain).splice(rules(chain).indexOf(rest), 1);
    }
  }
  return chains;
}
const empty = { filter: ['INPUT', 'FORWARD', 'OUTPUT'], nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'] };
const anEmpty = (table: 'filter' | 'nat') => new Map(empty[table].map((chain) => [chain, [] as string[]]));
const apply = (current: Map<string, string[]>, wanted: WantedTable, binary = 'nova-network') =>
  restore(current, restoreText(current, binary, wanted));

test('traffic between guests and to the dmz keeps its source, other traffic leaves with the routing source ip', () => {
  const { nat } = tables();

  assert.deepEqual(nat.chains['POSTROUTING'], [
    '-s 10.0.0.0/8 -d 192.0.2.1/32 -j ACCEPT',
    '-s 10.0.0.0/8 -d 10.128.0.0/24 -j ACCEPT',
    '-s 10.0.0.0/8 -d 10.0.0.0/8 -j ACCEPT',
  ]);
  assert.deepEqual(nat.chains['snat'], ['-j $floating-snat', '-s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1']);
});

test('a floating address leads to its guest from outside and from the host, and is the guest’s own way out', () => {
  const { nat } = tables({ floating: [{ address: '203.0.113.5', fixed: '10.0.0.9' }] });

  const inward = '-d 203.0.113.5/32 -j DNAT --to-destination 10.0.0.9';
  assert.equal(nat.chains['PREROUTING']?.[1], inward);
  assert.deepEqual(nat.chains['OUTPUT'], [inward]);
  assert.deepEqual(nat.chains['floating-snat'], ['-s 10.0.0.9/32 -j SNAT --to-source 203.0.113.5']);
  assert.deepEqual(forwardsOf(nat.chains['PREROUTING'] ?? []), [{ address: '203.0.113.5', fixed: '10.0.0.9' }]);
});

test('a guest that asks for the floating address of another on its bridge does so with an address from outside', () => {
  const floating = [{ address: '203.0.113.5', fixed: '10.0.0.9' }];
  const match = '-s 10.0.0.0/8 -d 10.0.0.0/8 -m conntrack --ctstate DNAT';

  const rules = tables({ floating }).nat.chains['POSTROUTING'] ?? [];
  assert.ok(rules.indexOf(`${match} -j $snat`) < rules.indexOf('-s 10.0.0.0/8 -d 10.0.0.0/8 -j ACCEPT'));
  assert.ok(rules.indexOf(`${match} -j $snat`) > rules.indexOf('-s 10.0.0.0/8 -d 192.0.2.1/32 -j ACCEPT')); // metadata
  assert.deepEqual(tables({ floating, routing_source_ip: null }).nat.chains['POSTROUTING'], [
    `${match} -j $floating-snat`,
    `${match} -j MASQUERADE`,
  ]);
});

test('a network outside of --fixed_range has its way out too', () => {
  const { nat } = tables({ networks: [{ bridge: 'br100', cidr: '172.16.0.0/24', project_id: null }] });

  assert.ok(nat.chains['snat']?.includes('-s 172.16.0.0/24 -j SNAT --to-source 192.0.2.1'));
  assert.ok(nat.chains['POSTROUTING']?.includes('-s 172.16.0.0/24 -d 10.0.0.0/8 -j ACCEPT'));
});

test('169.254.169.254 goes to the metadata server, by the bridge where that is on loopback, and nowhere in Flat mode', () => {
  const rule = (over: Partial<FirewallState>) => tables(over).nat.chains['PREROUTING'];

  assert.deepEqual(rule({}), [
    '-d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.1:8773',
  ]);
  assert.deepEqual(rule({ metadata: { host: '127.0.0.1', port: 8773 } }), [
    '-d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8773',
  ]);
  assert.deepEqual(rule({ metadata: null }), []);
});

test("the host's own rules and chains stay as they are and in order", () => {
  const current = parseSave(
    '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [9:99]\n:OUTPUT ACCEPT [0:0]\n:nova-network-watch - [0:0]\n:DOCKER - [0:0]\n' +
      '-A FORWARD -j DOCKER\n-A FORWARD -m comment --comment "nova-network-ish" -j ACCEPT\n-A DOCKER -j RETURN\nCOMMIT\n',
  );

  const after = apply(current, tables().filter);

  assert.deepEqual(after.get('FORWARD'), [
    '-j nova-filter-top',
    '-j nova-network-FORWARD',
    '-j DOCKER',
    '-m comment --comment "nova-network-ish" -j ACCEPT',
  ]);
  assert.deepEqual(after.get('DOCKER'), ['-j RETURN']);
});

test('applying the same rules again changes nothing', () => {
  for (const table of ['filter', 'nat'] as const) {
    const wanted = tables()[table];
    const once = apply(anEmpty(table), wanted);

    assert.equal(whatIsMissing(once, 'nova-network', wanted), null);
    assert.equal(restoreText(once, 'nova-network', wanted), null);
  }
});

test('nova-filter-top moves back to the head when another tool put a rule before it', () => {
  const wanted = tables().filter;
  const current = apply(anEmpty('filter'), wanted);
  current.get('FORWARD')?.unshift('-j LIBVIRT_FWX');

  const after = apply(current, wanted);

  assert.deepEqual(after.get('FORWARD'), ['-j nova-filter-top', '-j nova-network-FORWARD', '-j LIBVIRT_FWX']);
});

test('two daemons share the shared chains and do not move the jumps of each other', () => {
  const wanted = tables().nat;
  let current = apply(anEmpty('nat'), wanted);
  current = apply(current, wanted, 'nova-compute');

  assert.deepEqual(current.get('POSTROUTING')?.at(-1), '-j nova-postrouting-bottom');
  assert.equal(current.get('POSTROUTING')?.length, 3);
  assert.deepEqual(current.get('nova-postrouting-bottom'), ['-j nova-network-snat', '-j nova-compute-snat']);
  assert.equal(restoreText(current, 'nova-network', wanted), null);
  assert.equal(restoreText(current, 'nova-compute', wanted), null);
});

test('a rule that was doubled by a race is there once after the next apply', () => {
  const wanted = tables().nat;
  const current = apply(anEmpty('nat'), wanted);
  current.get('PREROUTING')?.push('-j nova-network-PREROUTING');
  current.get('nova-postrouting-bottom')?.push('-j nova-network-snat');

  const after = apply(current, wanted);

  assert.deepEqual(after.get('PREROUTING'), ['-j nova-network-PREROUTING']);
  assert.deepEqual(after.get('nova-postrouting-bottom'), ['-j nova-network-snat']);
});

test('an own chain that is no longer wanted goes with the jumps to it, and inst-10 stays when inst-1 goes', () => {
  const wanted: WantedTable = {
    table: 'filter',
    chains: { 'inst-10': [], local: ['-d 10.0.0.3/32 -j $inst-10'] },
    shared: {},
    builtin: {},
  };
  const current = new Map([
    ['FORWARD', ['-j nova-compute-inst-1', '-j nova-compute-inst-10']],
    ['nova-compute-local', ['-d 10.0.0.2/32 -j nova-compute-inst-1', '-d 10.0.0.3/32 -j nova-compute-inst-10']],
    ['nova-compute-inst-1', ['-j DROP']],
    ['nova-compute-inst-10', []],
  ]);

  const after = apply(current, wanted, 'nova-compute');

  assert.deepEqual([...after.keys()], ['FORWARD', 'nova-compute-local', 'nova-compute-inst-10']);
  assert.deepEqual(after.get('FORWARD'), ['-j nova-compute-inst-10']);
});

test('removal leaves the table as it was before, with the last daemon taking the shared chains along', () => {
  for (const table of ['filter', 'nat'] as const) {
    const wanted = tables()[table];
    const before = anEmpty(table);
    before.get('OUTPUT')?.push('-j FOREIGN');
    before.set('FOREIGN', []);
    const both = apply(apply(before, wanted), wanted, 'nova-compute');

    const one = restore(both, removalText(both, 'nova-network', wanted));
    const none = restore(one, removalText(one, 'nova-compute', wanted));

    assert.equal(restoreText(one, 'nova-compute', wanted), null);
    assert.deepEqual(none, before);
    assert.equal(removalText(none, 'nova-compute', wanted), null);
  }
});

test('a chain that the kernel did not fill is reported with the numbers', () => {
  const wanted = tables().nat;
  const current = apply(anEmpty('nat'), wanted);
  current.get('nova-network-snat')?.pop();

  assert.match(whatIsMissing(current, 'nova-network', wanted) ?? '', /nova-network-snat has 1 of 2 rules/);
});
