import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flags } from '../../../src/common/flags.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { NetworkApi } from '../../../src/network/api.ts';
import { needs } from '../../rigs/needs.ts';
import { atEnd } from '../../rigs/tmp.ts';
import { Program } from '../../rigs/program.ts';
import { until } from '../../until.ts';
import { join } from 'node:path';
import { aGuardedHost, ctx, pings, rulesOn } from './a_guarded_host.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'ebtables', 'ipset', 'ping', 'socat');

const ICMP = { protocol: 'icmp', from_port: -1, to_port: -1 };
const from = (cidr: string) => ({ source: { cidr } });

test('a guest is reached by nobody until a rule says so, and no more when it is revoked', { skip }, async (t) => {
  const { guard, guest, api, host, settled } = await aGuardedHost(t);
  const a = await guest(2);
  const b = await guest(3);
  assert.equal(await pings(a, b.ip), true, 'without rules the bridge carries everything');

  await guard();
  assert.equal(await pings(a, b.ip, 1), false);
  assert.equal(await pings(host, b.ip, 1), false, 'nor from the host itself');

  await api.authorize(ctx, { name: 'default' }, [{ ...ICMP, ...from('10.77.0.2/32') }]);
  await settled();
  assert.equal(await pings(a, b.ip), true);
  assert.equal(await pings(host, b.ip, 1), false, 'the rule is for one address');

  await api.revoke(ctx, { name: 'default' }, [{ ...ICMP, ...from('10.77.0.2/32') }]);
  await settled();
  assert.equal(await pings(a, b.ip, 1), false);
});

test(
  'a rule for a source group lets its members in and no others, and follows who joins and leaves',
  { skip },
  async (t) => {
    const { guard, guest, api, terminate, settled } = await aGuardedHost(t);
    await guard();
    await api.create(ctx, 'web', 'web');
    await api.create(ctx, 'db', 'db');
    await api.authorize(ctx, { name: 'db' }, [{ source: { group: { name: 'web' } } }]);
    const db1 = await guest(2, ['db']);
    const other = await guest(3, ['default']);
    assert.equal(await pings(other, db1.ip, 1), false);

    const web = await guest(4, ['web']);
    await settled();
    assert.equal(await pings(web, db1.ip), true);
    assert.equal(await pings(other, db1.ip, 1), false);
    assert.equal(await pings(db1, web.ip, 1), false, 'it does not work backwards');

    await terminate(web);
    const later = await guest(4, ['default']);
    await serve(t, db1, 80);
    await settled();
    assert.equal(await answers(later, db1.ip, 80, 1), false, 'the address alone is not membership');
  },
);

test('a group that a running guest is put into is in force at once, and so is its end', { skip }, async (t) => {
  const { guard, guest, api, settled } = await aGuardedHost(t);
  await guard();
  await api.create(ctx, 'open', 'open');
  await api.authorize(ctx, { name: 'open' }, [{ ...ICMP, ...from('0.0.0.0/0') }]);
  const [a, b] = [await guest(2), await guest(3)];
  assert.equal(await pings(a, b.ip, 1), false);

  await api.join(ctx, b.id, 'open');
  await settled();
  assert.equal(await pings(a, b.ip), true);
  await api.leave(ctx, b.id, 'open');
  await settled();
  assert.equal(await pings(a, b.ip, 1), false);
});

test(
  'guests are under their rules again a period after somebody let bridged packets pass unfiltered',
  { skip },
  async (t) => {
    const { guard, guest, host, firewall } = await aGuardedHost(t);
    await guard();
    const [a, b] = [await guest(2), await guest(3)];
    await host.exec(['sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=0']);
    assert.equal(await pings(a, b.ip), true);

    await firewall.repair();

    assert.equal(await pings(a, b.ip, 1), false);
  },
);

test('ports and types of icmp are let in one by one', { skip }, async (t) => {
  const { guard, guest, api, settled } = await aGuardedHost(t);
  await guard();
  const a = await guest(2);
  const b = await guest(3);
  for (const port of [80, 81]) await serve(t, b, port);

  await api.authorize(ctx, { name: 'default' }, [
    { protocol: 'tcp', from_port: 80, to_port: 80, ...from('10.77.0.0/24') },
    { protocol: 'icmp', from_port: 13, to_port: 0, ...from('0.0.0.0/0') },
  ]);
  await settled();

  assert.equal(await answers(a, b.ip, 80), true);
  assert.equal(await answers(a, b.ip, 81, 1), false);
  assert.equal(await pings(a, b.ip, 1), false, 'an echo request is type 8, not 13');
  await api.authorize(ctx, { name: 'default' }, [
    { protocol: 'icmp', from_port: 8, to_port: -1, ...from('0.0.0.0/0') },
  ]);
  await settled();
  assert.equal(await pings(a, b.ip), true);
});

test(
  "guests of one network reach each other whatever their groups say, where the operator's flag is as it comes",
  { skip },
  async (t) => {
    const { guard, guest, host } = await aGuardedHost(t, { allow_project_net_traffic: true });
    await guard();
    const a = await guest(2);
    const b = await guest(3);

    assert.equal(await pings(a, b.ip), true);

    await host.exec(['ip', 'addr', 'add', '192.0.2.9/32', 'dev', 'lo']);
    await b.exec(['ip', 'route', 'add', 'default', 'via', '10.77.0.1']);
    const outside = await host.exec(['ping', '-c1', '-W1', '-I', '192.0.2.9', b.ip], { ok: [0, 1] });
    assert.equal(outside.exit_code, 1);
  },
);

test(
  'frames with another MAC, packets with another address and forged ARP do not leave a guest',
  { skip },
  async (t) => {
    const { guard, guest, api, settled } = await aGuardedHost(t);
    const a = await guest(2);
    const b = await guest(3);
    const spoofed = ['ping', '-c2', '-W5', '-I', '10.77.0.99', b.ip];
    await a.exec(['ip', 'addr', 'add', '10.77.0.99/24', 'dev', 'eth0']);
    assert.equal((await a.exec(spoofed)).exit_code, 0, 'nothing stops it before');
    await b.exec(['ip', 'neigh', 'flush', 'all']);

    await guard();
    await api.authorize(ctx, { name: 'default' }, [{ protocol: '-1', ...from('0.0.0.0/0') }]);
    await settled();

    assert.equal(await pings(a, b.ip), true, 'as itself it may');
    assert.equal((await a.exec(spoofed, { ok: [0, 1] })).exit_code, 1, 'not with an address that is not its own');
    const neighbours = (await b.exec(['ip', 'neigh'])).stdout;
    assert.doesNotMatch(neighbours, /10\.77\.0\.99.*lladdr/, 'and b was never told that a has it');

    await a.exec(['ip', 'addr', 'del', '10.77.0.99/24', 'dev', 'eth0']);
    await a.exec(['ip', 'link', 'set', 'eth0', 'address', '02:16:3e:00:00:77']);
    assert.equal(await pings(a, b.ip, 1), false, 'nor with a card that is not its own');
  },
);

test('a guest speaks from each address that its card was given, and from none that was taken', { skip }, async (t) => {
  const { db, guard, guest, api, firewall, settled } = await aGuardedHost(t);
  await guard();
  const a = await guest(2);
  const b = await guest(3);
  await api.authorize(ctx, { name: 'default' }, [{ ...ICMP, ...from('10.77.0.0/24') }]);
  await settled();
  const flags = Flags.of({ network_manager: 'nova.network.manager.FlatDHCPManager' });
  const network = new NetworkApi({ db, flags, bus: new MemoryBus() });
  const pingsFrom = async (ip: string) =>
    (await a.exec(['ping', '-c2', '-i0.2', '-W5', '-I', ip, b.ip], { ok: [0, 1] })).exit_code === 0;

  const more = await network.addFixedIp(ctx, a.id, 1);
  await a.exec(['ip', 'addr', 'add', `${more}/24`, 'dev', 'eth0']);
  assert.equal(await pingsFrom(more), false, 'its host has not heard of it');
  await firewall.join(ctx, a.id);
  assert.equal(await pingsFrom(more), true);
  assert.equal(await pings(b, more), true);
  assert.equal(await pingsFrom(a.ip), true);

  await network.removeFixedIp(ctx, a.id, more);
  await firewall.join(ctx, a.id);
  assert.equal(await pingsFrom(more), false);
  assert.equal(await pingsFrom(a.ip), true);
});

test(
  'a guest that serves DHCP is heard by nobody, and the host is',
  { skip: skip || needs('dnsmasq', 'busybox') },
  async (t) => {
    const { guard, guest, api, host, settled } = await aGuardedHost(t);
    const rogue = await guest(2);
    const b = await guest(3);
    await serveDhcp(t, rogue, '10.77.0.2', '10.77.0.200');
    await b.exec(['ip', 'addr', 'flush', 'dev', 'eth0']);
    assert.match(await asksDhcp(b), /10\.77\.0\.200/, 'nothing stops it before');

    await guard();
    await api.authorize(ctx, { name: 'default' }, [{ protocol: '-1', ...from('0.0.0.0/0') }]);
    await settled();
    assert.equal(await asksDhcp(b), '');

    await serveDhcp(t, host, '10.77.0.1', '10.77.0.3');
    assert.match(await asksDhcp(b), /10\.77\.0\.3/);
  },
);

test('rules are applied anew without breaking a connection or touching what others wrote', { skip }, async (t) => {
  const { firewall, guard, guest, api, host, settled } = await aGuardedHost(t);
  await host.exec(['iptables', '-A', 'FORWARD', '-s', '203.0.113.7/32', '-j', 'DROP']);
  await host.exec(['ebtables', '-t', 'nat', '-A', 'PREROUTING', '-s', '02:00:00:00:00:09', '-j', 'DROP']);
  await host.exec(['ipset', 'create', 'operators', 'hash:ip']);
  await guard();
  const a = await guest(2);
  const b = await guest(3);
  const http = { protocol: 'tcp', from_port: 80, to_port: 80, ...from('10.77.0.2/32') };
  await api.authorize(ctx, { name: 'default' }, [http]);
  await settled();
  await serve(t, b, 80);
  const talk = await aConversation(t, a, b.ip, 80);
  await talk.echoes('one');

  await api.authorize(ctx, { name: 'default' }, [{ ...ICMP, ...from('192.0.2.0/24') }]);
  await api.revoke(ctx, { name: 'default' }, [http]);
  await settled();
  await talk.echoes('two'); // what is established lives on
  assert.equal(await answers(a, b.ip, 80, 1), false, 'what is new is judged by the new rules');

  const before = await rulesOn(host);
  await firewall.repair();
  assert.equal(await rulesOn(host), before, 'a second time changes nothing');
  for (const foreign of ['-A FORWARD -s 203.0.113.7/32 -j DROP', '-s 02:00:00:00:00:09 -j DROP', 'create operators'])
    assert.ok(before.includes(foreign), foreign);

  await host.exec(['iptables', '-F', 'nova-compute-local']);
  await host.exec(['ebtables', '-t', 'nat', '-F', 'nova-compute-sources']);
  await firewall.repair();
  assert.equal(await rulesOn(host), before, 'what somebody took away comes back');
});

test(
  'a range that is blocked for all reaches no guest, whatever its groups say, until it is let go',
  { skip },
  async (t) => {
    const { guard, guest, api, provider, host, firewall, settled } = await aGuardedHost(t, {
      allow_project_net_traffic: true,
    });
    await guard();
    const a = await guest(2);
    const b = await guest(3);
    await api.authorize(ctx, { name: 'default' }, [{ protocol: '-1', ...from('0.0.0.0/0') }]);
    for (const port of [80, 65535]) await serve(t, b, port);
    await settled();
    assert.equal(await answers(a, b.ip, 80), true);

    assert.equal(await provider.block(ctx, '10.77.0.2'), 3);
    await settled();
    assert.equal(await pings(a, b.ip, 1), false);
    for (const port of [80, 65535]) assert.equal(await answers(a, b.ip, port, 1), false);
    assert.equal(await pings(host, b.ip), true, 'others are not blocked');

    await host.exec(['iptables', '-F', 'nova-compute-provider']);
    await firewall.repair();
    assert.equal(await pings(a, b.ip, 1), false, 'what somebody took away comes back');

    assert.equal(await provider.unblock(ctx, '10.77.0.2/32'), 3);
    await settled();
    assert.equal(await pings(a, b.ip), true);
    assert.equal(await answers(a, b.ip, 80), true);
  },
);

test(
  'a guest whose instance is deleted or unknown is heard by nobody and reached by nobody',
  { skip: skip || needs('dnsmasq', 'busybox') },
  async (t) => {
    const { db, guard, guest, api, host, firewall, settled } = await aGuardedHost(t, {
      allow_project_net_traffic: true,
    });
    await guard();
    const [a, b] = [await guest(2), await guest(3)];
    await api.authorize(ctx, { name: 'default' }, [{ protocol: '-1', ...from('0.0.0.0/0') }]);
    await settled();
    assert.equal(await pings(a, b.ip), true);

    await db.updateTable('instances').set({ deleted: 1 }).where('id', '=', a.id).execute();
    await firewall.repair();

    for (const [one, other] of [
      [a, b.ip],
      [b, a.ip],
      [a, '10.77.0.1'],
      [host, a.ip],
    ] as const)
      // prettier-ignore
      assert.equal(await pings(one, other, 1), false);
    await serveDhcp(t, a, '10.77.0.2', '10.77.0.200');
    assert.equal(await asksDhcp(b), '');
    const before = await rulesOn(host);
    await firewall.repair();
    assert.equal(await rulesOn(host), before, 'a second time changes nothing');
  },
);

test('of a guest that is gone no rule, chain or set stays', { skip }, async (t) => {
  const { guard, guest, api, host, terminate, settled } = await aGuardedHost(t);
  await guard();
  const empty = await rulesOn(host);
  await api.authorize(ctx, { name: 'default' }, [
    { source: { group: { name: 'default' } } },
    { ...ICMP, ...from('0.0.0.0/0') },
  ]);
  const a = await guest(2);
  const b = await guest(3);
  await settled();
  const full = await rulesOn(host);
  for (const mark of [`nova-compute-inst-${a.id}`, `--physdev-out ${b.tap}`, `add nova-sg-1 ${a.ip}`])
    assert.ok(full.includes(mark), mark);

  await terminate(a);
  assert.equal((await rulesOn(host)).includes(a.ip), false);
  await terminate(b);
  assert.equal(await rulesOn(host), empty);
});

// --------------------------------------------------------------------- rigs

type Scope = Parameters<typeof atEnd>[0];
type Guest = Awaited<ReturnType<Awaited<ReturnType<typeof aGuardedHost>>['guest']>>;
type AnyHost = Pick<Guest, 'exec' | 'enter' | 'dir' | 'pid'>;

/** A TCP server in a guest that echoes. */
async function serve(scope: Scope, guest: AnyHost, port: number): Promise<void> {
  const server = new Program({
    name: 'socat',
    argv: ['socat', `TCP-LISTEN:${port},fork,reuseaddr`, 'PIPE'],
    log: join(guest.dir, `serve-${port}.log`),
    enter: guest.enter,
  });
  atEnd(scope, () => server.kill());
  await server.start(async () => (await guest.exec(['ss', '-ltn'])).stdout.includes(`:${port} `));
}

async function answers(from: AnyHost, ip: string, port: number, wait_s = 5): Promise<boolean> {
  const argv = ['socat', '-t', String(wait_s), '-', `TCP:${ip}:${port},connect-timeout=${wait_s}`];
  const { stdout } = await from.exec(argv, { input: 'hello\n', ok: [0, 1] });
  return stdout.includes('hello');
}

/** One TCP connection that stays open: what is written into the one file comes back in the other. */
async function aConversation(scope: Scope, from: AnyHost, ip: string, port: number) {
  const [say, heard] = [join(from.dir, 'say'), join(from.dir, 'heard')];
  await from.exec(['mkfifo', say]);
  const client = new Program({
    name: 'conversation',
    argv: ['sh', '-c', `exec socat - TCP:${ip}:${port} <> "$0" > "$1"`, say, heard],
    log: join(from.dir, 'conversation.log'),
    enter: from.enter,
  });
  atEnd(scope, () => client.kill());
  await client.start(async () =>
    (await from.exec(['ss', '-tn', 'state', 'established'])).stdout.includes(`${ip}:${port}`),
  );
  return {
    async echoes(word: string): Promise<void> {
      await from.exec(['sh', '-c', 'echo "$0" > "$1"', word, say]);
      await until(`'${word}' comes back`, async () => (await from.exec(['cat', heard])).stdout.includes(word));
    },
  };
}

async function serveDhcp(scope: Scope, guest: AnyHost, server: string, offer: string): Promise<void> {
  const argv = [
    'dnsmasq',
    '-k',
    '--conf-file=',
    '--port=0',
    '--user=root',
    '--bind-interfaces',
    `--listen-address=${server}`,
  ];
  const dhcp = new Program({
    name: 'dnsmasq',
    argv: [
      ...argv,
      `--dhcp-range=${offer},${offer},255.255.255.0`,
      '--leasefile-ro',
      '--no-ping',
      `--pid-file=${join(guest.dir, 'pid')}`,
    ],
    log: join(guest.dir, 'dnsmasq.log'),
    enter: guest.enter,
  });
  atEnd(scope, () => dhcp.kill());
  await dhcp.start(async () => (await guest.exec(['ss', '-lun'])).stdout.includes(':67 '));
}

/** What a DHCP server offers a guest; '' when none is heard in 10 s. */
async function asksDhcp(guest: AnyHost): Promise<string> {
  const argv = ['busybox', 'udhcpc', '-f', '-n', '-q', '-i', 'eth0', '-t', '10', '-T', '1', '-s', '/bin/true'];
  const { stdout, stderr } = await guest.exec(argv, { ok: [0, 1] });
  return /lease of (\S+) obtained/.exec(stdout + stderr)?.[1] ?? '';
}
