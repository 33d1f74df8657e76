import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { eui64Address } from '../../src/common/eui64.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { IptablesFirewallDriver } from '../../src/compute/drivers/libvirt/firewall.ts';
import { guestFirewallFlags, wantedFirewall } from '../../src/compute/manager/guest_firewall.ts';
import { aGuardedHost, type Guest } from '../integration/compute/a_guarded_host.ts';
import { needs } from '../rigs/needs.ts';
import { startHost, type Host } from '../rigs/netns.ts';
import { tempDir } from '../rigs/tmp.ts';
import { until } from '../until.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'iptables', 'ip6tables', 'ebtables', 'ipset', 'bridge', 'ping', 'python3'); // prettier-ignore
const GATEWAY = 'fd00:77::1';
const STALE_MAC = '02:16:3e:66:66:66';

interface Guest6 extends Guest {
  mac: string;
  v6: string;
}

/** Someone who may be lied to, and the device that leads to guests there. */
interface Victim {
  host: Host;
  dev: string;
  mac: string;
  v6: string;
}

/** A compute host that is the gateway, with rules in force, and three guests. */
async function aHost6(t: TestContext) {
  const made = await aGuardedHost(t, { use_ipv6: true, allow_project_net_traffic: true });
  const { db, host } = made;
  await db.updateTable('networks').set({ cidr_v6: 'fd00:77::/64', gateway_v6: GATEWAY }).execute();
  await host.exec(['ip', '-6', 'addr', 'add', `${GATEWAY}/64`, 'dev', 'br100', 'nodad']);
  await made.guard();
  const guest = async (n: number): Promise<Guest6> => {
    const started = await made.guest(n);
    const mac = (await started.exec(['cat', '/sys/class/net/eth0/address'])).stdout.trim();
    const v6 = eui64Address('fd00:77::/64', mac);
    await started.exec(['ip', '-6', 'addr', 'add', `${v6}/64`, 'dev', 'eth0', 'nodad']);
    return Object.assign(started, { mac, v6 });
  };
  const guests = [await guest(2), await guest(3), await guest(4)] as [Guest6, Guest6, Guest6];
  const bridge_mac = (await host.exec(['cat', '/sys/class/net/br100/address'])).stdout.trim();
  const gateway: Victim = { host, dev: 'br100', mac: bridge_mac, v6: GATEWAY };
  return { ...made, guests, gateway };
}

const victim = (guest: Guest6): Victim => ({ host: guest, dev: 'eth0', mac: guest.mac, v6: guest.v6 });

/**
 * Sends frames: each a message about a target, as from `source`. `options`: with a header of options between, in which
 * the sender's address is where the target would be without it.
 */
const SEND = `
import json, socket, struct, sys
ip = lambda text: socket.inet_pton(socket.AF_INET6, text)
mac = lambda text: bytes.fromhex(text.replace(':', ''))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(('eth0', 0))
for one in json.loads(sys.argv[1]):
    source, to = ip(one['source']), ip(one['to'])
    if one['kind'] == 'advertisement':
        says = bytes([136, 0, 0, 0, 0x20, 0, 0, 0]) + ip(one['target']) + bytes([2, 1]) + mac(one['mac'])
    else:
        says = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + ip(one['target'])
    words = struct.unpack('!%dH' % ((40 + len(says)) // 2), source + to + struct.pack('!II', len(says), 58) + says)
    total = sum(words)
    while total > 0xffff: total = (total & 0xffff) + (total >> 16)
    says = says[:2] + struct.pack('!H', ~total & 0xffff) + says[4:]
    between = bytes([58, 2, 0x1e, 20]) + bytes(4) + source if one.get('options') else b''
    head = struct.pack('!IHBB', 0x60000000, len(between + says), 60 if between else 58, 255)
    wire.send(mac(one['to_mac']) + mac(one['mac']) + b'\\x86\\xdd' + head + source + to + between + says)
`;

interface Message {
  kind: 'advertisement' | 'solicitation';
  target: string;
  source?: string;
  to?: string;
  options?: boolean;
}

/** Sends a victim these messages, then one that is honest; returns when that one has been heard. */
async function tells(from: Guest6, { host, dev, ...at }: Victim, ...messages: Message[]): Promise<void> {
  const honest: Message = { kind: 'advertisement', target: from.v6 };
  await host.exec(['ip', '-6', 'neigh', 'replace', from.v6, 'lladdr', STALE_MAC, 'dev', dev, 'nud', 'stale']);
  const frames = [...messages, honest].map((one) => ({ source: from.v6, to: at.v6, mac: from.mac, to_mac: at.mac, ...one })); // prettier-ignore
  await from.exec(['/usr/bin/python3', '-c', SEND, JSON.stringify(frames)]);
  await until("a guest's own advertisement is heard", async () => (await neighbour(host, dev, from.v6)) === from.mac);
}

const neighbour = async (host: Host, dev: string, address: string): Promise<string | undefined> =>
  /lladdr (\S+)/.exec((await host.exec(['ip', '-6', 'neigh', 'show', address, 'dev', dev])).stdout)?.[1];

/** Whether the victim believes that `liar` has the address of another. */
async function believes(at: Victim, liar: Guest6, other: Pick<Victim, 'mac' | 'v6'>, options = false) {
  const { host, dev } = at;
  await host.exec(['ip', '-6', 'neigh', 'replace', other.v6, 'lladdr', other.mac, 'dev', dev, 'nud', 'stale']);
  await tells(liar, at, { kind: 'advertisement', target: other.v6, options });
  return (await neighbour(host, dev, other.v6)) === liar.mac;
}

/** Whether a guest that is about to take its address lets go of it because of another that says it is taking it, too. */
async function letsGo(guest: Guest6, liar: Guest6): Promise<boolean> {
  await guest.exec(['sysctl', '-qw', 'net.ipv6.conf.eth0.dad_transmits=300']); // it looks for others all the while
  await guest.exec(['ip', '-6', 'addr', 'del', `${guest.v6}/64`, 'dev', 'eth0']);
  await guest.exec(['ip', '-6', 'addr', 'add', `${guest.v6}/64`, 'dev', 'eth0']);
  const [local] =
    /fe80::\S+(?=\/64)/.exec((await guest.exec(['ip', '-6', 'addr', 'show', 'dev', 'eth0'])).stdout) ?? [];
  assert.ok(local);
  const to = guest.v6.replace(/^.*:fe/, 'ff02::1:ff'); // those who may have that address
  const claim: Message = { kind: 'solicitation', source: '::', to, target: guest.v6 };
  await tells(liar, { ...victim(guest), v6: local }, claim);
  const { stdout } = await guest.exec(['ip', '-6', 'addr', 'show', 'dev', 'eth0', 'to', guest.v6]);
  assert.match(stdout, /tentative/);
  await guest.exec(['ip', '-6', 'addr', 'del', `${guest.v6}/64`, 'dev', 'eth0']);
  await guest.exec(['ip', '-6', 'addr', 'add', `${guest.v6}/64`, 'dev', 'eth0', 'nodad']);
  return stdout.includes('dadfailed');
}

const pings = async (from: Host, to: string): Promise<boolean> =>
  (await from.exec(['ping', '-6', '-c3', '-i0.3', '-W5', to], { ok: [0, 1, 2] })).exit_code === 0;

test(
  "no one believes a guest's neighbour advertisement of another's address, or of the gateway's, and its own are heard",
  { skip, timeout: 600_000 },
  async (t) => {
    const { db, host, firewall, guests, gateway } = await aHost6(t);
    const [a, b, c] = guests;
    const flags = Flags.of({ use_ipv6: true, allow_project_net_traffic: true });
    const driver = new IptablesFirewallDriver({ flags, log: silentLog, prefix: host.enter });
    const told = async () => {
      const wanted = await wantedFirewall(db, 'node1', flags.read(guestFirewallFlags));
      return (await driver.look(wanted, t.signal)).filter(({ what }) => /^ip6?tables/.test(what));
    };
    const lies = async () => [
      await believes(victim(b), a, c),
      await believes(victim(b), a, gateway),
      await believes(gateway, a, b),
      await believes(victim(b), a, c, true),
      await letsGo(b, a),
    ];
    const none = [false, false, false, false, false];

    assert.deepEqual(await lies(), none);
    assert.deepEqual(await told(), []);
    for (const [from, to] of [[a, b.v6], [b, a.v6], [a, GATEWAY], [host, a.v6]] as const) assert.equal(await pings(from, to), true); // prettier-ignore

    // Without the rules each would be believed; the doctor and the periodic repair know them.
    await host.exec(['ip6tables', '-t', 'mangle', '-F', 'nova-compute-neighbours']);
    assert.deepEqual(
      await lies(),
      none.map(() => true),
    );
    const missing = await told();
    assert.equal(missing.length, guests.length);
    for (const { what } of missing) assert.equal(what, 'ip6tables table mangle chain nova-compute-neighbours');
    await firewall.repair();
    assert.deepEqual(await lies(), none);

    // They go with the flag, and with everything else.
    const rules = async () => (await host.exec(['ip6tables-save', '-t', 'mangle'])).stdout.match(/^(?::nova|-A).*/gm);
    const without = Flags.of({ allow_project_net_traffic: true });
    const later = new IptablesFirewallDriver({ flags: without, log: silentLog, prefix: host.enter });
    await later.apply(await wantedFirewall(db, 'node1', without.read(guestFirewallFlags)), t.signal);
    assert.equal(await rules(), null);
    await firewall.repair();
    assert.ok(await rules());
    await driver.remove(t.signal);
    assert.equal(await rules(), null);
  },
);

test(
  'a kernel without xt_u32, for which a stand-in for ip6tables-restore speaks, is named at the start, not at a launch',
  { skip },
  async (t) => {
    const host = await startHost(t, 'node1');
    const programs = tempDir(t, 'programs');
    const restore = join(programs, 'ip6tables-restore');
    const refuses =
      '#!/bin/sh\ngrep -q -- "-m u32" || exit 0\necho "Warning: Extension u32 revision 0 not supported, missing kernel module?" >&2\nexit 4\n';
    writeFileSync(restore, refuses);
    chmodSync(restore, 0o755);
    const prefix = [...host.enter, 'env', `PATH=${programs}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`];
    const start = (use_ipv6: boolean) =>
      new IptablesFirewallDriver({ flags: Flags.of({ use_ipv6 }), log: silentLog, prefix }).initHost(t.signal);

    await start(false);
    await assert.rejects(start(true), {
      name: 'BackendUnavailable',
      message: /forged neighbour advertisements, .* module xt_u32: this kernel, or its modules, cannot do it: /,
    });
  },
);
