import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../src/common/execute.ts';
import { Flags } from '../../src/common/flags.ts';
import { silentLog } from '../../src/common/log.ts';
import { LinuxNetDriver } from '../../src/network/drivers/linux_net.ts';
import type { BridgeSpec } from '../../src/network/drivers/driver.ts';
import type { DhcpHost, DhcpNetwork } from '../../src/network/logic/dhcp_hosts.ts';
import { startHost, type Host } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { atEnd, tempDir, type Scope } from '../rigs/tmp.ts';

/** Made for tests of a real network host: `10.77.0.0/24` on br100, its guests, and servers that say who asks them. */

export const aBridge = (over: Partial<BridgeSpec> = {}): BridgeSpec => ({
  bridge: 'br100',
  interface: null,
  vlan: null,
  gateways: [{ address: '10.77.0.1', prefix: 24, broadcast: '10.77.0.255' }],
  gateways_v6: [],
  ...over,
});
export const aDhcpNetwork = (over: Partial<DhcpNetwork> = {}): DhcpNetwork => ({
  network_id: 7,
  bridge: 'br100',
  dhcp_server: '10.77.0.1',
  gateway: '10.77.0.1',
  netmask: '255.255.255.0',
  dhcp_start: '10.77.0.2',
  cidr_v6: null,
  dns: [],
  lease_max: 256,
  ...over,
});
export const aDhcpHost = (n: number): DhcpHost => ({
  mac: `02:16:3e:00:00:${n.toString(16).padStart(2, '0')}`,
  address: `10.77.0.${n}`,
  hostname: `vm${n}`,
});

export function aDriver(
  host: Host,
  networks_path: string,
  flags: Record<string, unknown> = {},
  binary = 'nova-network',
): LinuxNetDriver {
  const given = Flags.of({ networks_path, ...flags });
  return new LinuxNetDriver({ flags: given, log: silentLog, binary, prefix: host.enter });
}

/** A folder that every user may enter, as /var/lib/nova is; a test's own folders are closed. */
export function openDir(scope: Scope): string {
  const dir = tempDir(scope, 'networks');
  chmodSync(dir, 0o755);
  return dir;
}

// Says what it got on one line, and uses it.
const UDHCPC_SCRIPT = `#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface" && ip route replace default via "$router"
echo "$ip/$mask router $router server $serverid domain $domain name $hostname"
`;

export interface Guest extends Host {
  /** Asks by DHCP and takes what it gets. @returns one line with it. @throws ProcessExecutionError after 15 s without an answer */
  dhcp(): Promise<string>;
}

/** A guest on a bridge of `host`, with this MAC; its port is called `tapN` unless the test says otherwise. */
export async function startGuest(
  scope: Scope,
  host: Host,
  mac: string,
  bridge = 'br100',
  tap = `tap${parseInt(mac.slice(-2), 16)}`,
): Promise<Guest> {
  const guest = await startHost(scope, 'guest');
  const script = join(guest.dir, 'udhcpc');
  writeFileSync(script, UDHCPC_SCRIPT, { mode: 0o755 });
  const peer = ['type', 'veth', 'peer', 'name', 'eth0', 'address', mac, 'netns', String(guest.pid)];
  await execute(['ip', 'link', 'add', tap, 'netns', String(host.pid), ...peer]);
  await host.exec(['ip', 'link', 'set', tap, 'master', bridge, 'up']);
  await guest.exec(['ip', 'link', 'set', 'eth0', 'up']);
  const argv = ['busybox', 'udhcpc', '-f', '-n', '-q', '-i', 'eth0', '-t', '15', '-T', '1', '-s', script];
  return Object.assign(guest, { dhcp: async () => (await guest.exec(argv)).stdout.trim() });
}

/** Makes `host` a router that advertises itself and 2001:db8:1::/64 on its eth0; 2001:db8:9::1 is behind it. */
export async function startRouter(scope: Scope, host: Host): Promise<void> {
  await host.exec(['ip', 'addr', 'add', '2001:db8:1::1/64', 'dev', 'eth0', 'nodad']);
  await host.exec(['ip', 'addr', 'add', '2001:db8:9::1/128', 'dev', 'lo']);
  const argv =
    'dnsmasq --keep-in-foreground --conf-file= --port=0 --interface=eth0 --bind-interfaces --enable-ra --dhcp-range=2001:db8:1::,ra-only,64,300s';
  const leases = `--dhcp-leasefile=${join(host.dir, 'leases')}`;
  const log = join(host.dir, 'router.log');
  const server = new Program({ name: 'dnsmasq', argv: [...argv.split(' '), leases, '--log-facility=-'], log, enter: host.enter }); // prettier-ignore
  atEnd(scope, () => server.kill());
  await server.start(async () => readFileSync(log, 'utf8').includes('router advertisement'));
}

/** A server on a port of `host` that tells each who connects the address it was seen with. */
export async function startEcho(scope: Scope, host: Host, port: number): Promise<void> {
  const server = new Program({
    name: 'socat',
    argv: ['socat', `TCP-LISTEN:${port},fork,reuseaddr`, 'SYSTEM:echo $SOCAT_PEERADDR'],
    log: join(host.dir, `echo-${port}.log`),
    enter: host.enter,
  });
  atEnd(scope, () => server.kill());
  await server.start(async () => (await host.exec(['ss', '-ltn'])).stdout.includes(`:${port} `));
}

export async function seenAs(from: Host, address: string, port: number): Promise<string> {
  return (await from.exec(['socat', '-t', '20', '-', `TCP:${address}:${port},connect-timeout=5`])).stdout.trim();
}

/** Everything of a host that this driver changes, as text. */
export async function stateOf(host: Host): Promise<string> {
  const links = (await host.exec(['ip', '-br', 'link'])).stdout.replace(/ +/g, ' ');
  const addresses = (await host.exec(['ip', '-4', '-br', 'addr'])).stdout.replace(/ +/g, ' ');
  const routes = (await host.exec(['ip', 'route'])).stdout;
  const processes = (await host.exec(['ps', '-eo', 'args'])).stdout
    .split('\n')
    .filter((line) => line.startsWith('dnsmasq'));
  const rules = (await rulesOf(host)).split('\n').filter((line) => /^-A|^:\S+ -/.test(line)); // no empty built-in chains
  return [links, addresses, routes, ...processes, ...rules].join('\n');
}

export async function rulesOf(host: Host, ...argv: string[]): Promise<string> {
  const { stdout } = await host.exec(['iptables-save', ...argv]);
  return stdout.replace(/^#.*\n/gm, '').replace(/^(:\S+ \S+) \[.*$/gm, '$1');
}
