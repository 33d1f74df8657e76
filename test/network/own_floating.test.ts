import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { networkFirewall } from '../../src/network/logic/firewall.ts';
import { aGuardedHost, ctx, pings, rulesOn } from '../integration/compute/a_guarded_host.ts';
import { needs } from '../rigs/needs.ts';
import { Program } from '../rigs/program.ts';
import { atEnd } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { aDriver, openDir, seenAs, startEcho } from './guests.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'bridge', 'iptables', 'ebtables', 'ipset', 'ping', 'socat', 'ss', 'tcpdump'); // prettier-ignore
const signal = new AbortController().signal;
const [OWN, OTHERS] = ['203.0.113.5', '203.0.113.6'];

test(
  'a guest reaches its own floating address while bridges hand packets to iptables, and meets nothing else of its own',
  { skip, timeout: 600_000 },
  async (t) => {
    const { guard, guest, api, firewall, host, settled, terminate } = await aGuardedHost(t);
    await guard();
    const bare = await rulesOn(host);
    const [a, b] = [await guest(2), await guest(3)];
    for (const one of [a, b]) await one.exec(['ip', 'route', 'add', 'default', 'via', '10.77.0.1']);
    const network = aDriver(host, openDir(t));
    await host.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    await host.exec(['sysctl', '-qw', 'net.ipv4.conf.all.send_redirects=0', 'net.ipv4.conf.br100.send_redirects=0']);
    const floating = [
      { address: OWN, fixed: a.ip },
      { address: OTHERS, fixed: b.ip },
    ];
    const state = { fixed_range: '10.77.0.0/24', networks: [{ bridge: 'br100', cidr: '10.77.0.0/24' }], floating };
    const nat = { dmz_cidr: '10.128.0.0/24', routing_source_ip: '10.77.0.1', metadata: null };
    await network.applyFirewall(networkFirewall({ ...state, ...nat }, false), signal);
    await network.bindAddresses('br100', [OWN, OTHERS], signal);
    for (const one of [a, b]) await startEcho(t, one, 7000);
    assert.equal((await host.exec(['sysctl', '-n', 'net.bridge.bridge-nf-call-iptables'])).stdout, '1\n');

    await firewall.plugged();
    await assert.rejects(seenAs(a, OWN, 7000), 'no rule of its groups lets it in');
    await api.authorize(ctx, { name: 'default' }, [
      { protocol: 'tcp', from_port: 7000, to_port: 7000, source: { cidr: '10.77.0.0/24' } },
      { protocol: 'icmp', from_port: -1, to_port: -1, source: { cidr: '10.77.0.0/24' } },
    ]);
    await settled();

    assert.equal(await seenAs(a, OWN, 7000), OWN);
    assert.equal(await seenAs(a, OTHERS, 7000), OWN);
    assert.equal(await seenAs(b, OWN, 7000), OTHERS);
    assert.equal(await seenAs(b, OTHERS, 7000), OTHERS);

    // What it sends to everyone does not come back to it, but reaches the others.
    const log = join(a.dir, 'tcpdump.log');
    const argv = [
      'tcpdump',
      '-i',
      'eth0',
      '-Q',
      'in',
      '-nn',
      '-l',
      '--immediate-mode',
      'arp or (icmp and src 10.77.0.3)',
    ];
    const watch = new Program({ name: 'tcpdump', argv, log, enter: a.enter });
    atEnd(t, () => watch.kill());
    await watch.start(async () => (await a.exec(['cat', log])).stdout.includes('listening on'));
    for (const one of [a, b]) await one.exec(['ip', 'neigh', 'flush', 'dev', 'eth0']);
    assert.equal(await pings(a, b.ip), true);
    const seen = await until('the reply is seen', async () => {
      const { stdout } = await a.exec(['cat', log]);
      return stdout.includes('ICMP echo reply') && stdout;
    });
    assert.match(seen, /ARP, Reply 10\.77\.0\.3 is-at/);
    assert.doesNotMatch(seen, /Request who-has 10\.77\.0\.3/, seen);

    // A port that was taken out and put in again is seen to by the periodic pass.
    await host.exec(['bridge', 'link', 'set', 'dev', a.tap, 'hairpin', 'off']);
    await assert.rejects(seenAs(a, OWN, 7000));
    await firewall.repair();
    assert.equal(await seenAs(a, OWN, 7000), OWN);

    await network.takeDown([], signal);
    for (const one of [a, b]) await terminate(one);
    const mine = (text: string) => text.split('\n').filter((line) => /reflected/.test(line));
    assert.deepEqual(mine(await rulesOn(host)), mine(bare));
  },
);
