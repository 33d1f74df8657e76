import assert from 'node:assert/strict';
import { test } from 'node:test';
import { needs } from '../../rigs/needs.ts';
import { aGuardedHost, ctx, pings, rulesOn } from './a_guarded_host.ts';
import { aConversation, answers, serve } from './guests_talk.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'ebtables', 'ipset', 'ping', 'socat');

const ICMP = { protocol: 'icmp', from_port: -1, to_port: -1 };
const from = (cidr: string) => ({ source: { cidr } });

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
  'after each change the host has what a whole look at it would have made, for IPv4 and IPv6',
  { skip },
  async (t) => {
    const { firewall, guard, guest, api, provider, host, settled, terminate } = await aGuardedHost(t, {
      use_ipv6: true,
    });
    await guard();
    for (const name of ['web', 'db']) await api.create(ctx, name, name);
    const [a, b] = [await guest(2, ['web']), await guest(3, ['web', 'db'])];
    const web = { name: 'web' };
    const range = { protocol: 'tcp', from_port: 80, to_port: 90, ...from('203.0.113.0/24') };
    const v6 = { protocol: 'tcp', from_port: 443, to_port: 443, ...from('2001:db8::/32') };
    const members = { source: { group: { name: 'db' } } };
    const changes = [
      () => api.authorize(ctx, web, [range, v6]),
      () => api.authorize(ctx, web, [members]),
      () => api.revoke(ctx, web, [range]),
      () => api.leave(ctx, b.id, 'db'),
      () => api.join(ctx, a.id, 'db'),
      () => provider.block(ctx, '198.51.100.0/24'),
      () => api.revoke(ctx, web, [members]),
      () => terminate(a),
    ];
    for (const [n, change] of changes.entries()) {
      const former = await rulesOn(host);
      await change();
      await settled();
      const now = await rulesOn(host);
      assert.notEqual(now, former, `change ${n} has reached the host`);
      await firewall.repair();
      assert.equal(await rulesOn(host), now, `change ${n} was all there is to do`);
    }
  },
);

test('a change that finds other chains gone brings all of them back', { skip }, async (t) => {
  const { guard, guest, api, host, settled } = await aGuardedHost(t);
  await guard();
  const [a, b] = [await guest(2), await guest(3)];
  await host.exec(['iptables', '-F']);
  await host.exec(['iptables', '-X']);
  assert.equal(await pings(a, b.ip), true);

  await api.leave(ctx, b.id, 'default'); // the guest's chain jumps to chains that are not there
  await settled();
  assert.equal(await pings(a, b.ip, 1), false);
});
