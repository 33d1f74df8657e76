import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flags } from '../../../src/common/flags.ts';
import { MemoryBus } from '../../../src/common/rpc/memory_bus.ts';
import { NetworkApi } from '../../../src/network/api.ts';
import { needs } from '../../rigs/needs.ts';
import { aGuardedHost, ctx, pings, rulesOn } from './a_guarded_host.ts';
import { answers, asksDhcp, serve, serveDhcp } from './guests_talk.ts';

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
