import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { formatIpv4, overlaps, parseCidr, parseIpv4, type Cidr } from '../../src/network/logic/addresses.ts';
import { StartError } from './start_error.ts';

/** What of this machine's network is free, and what was before. */

const RANGES = [11, 21, 31, 41, 51, 61, 71, 81, 91].map((n) => `10.${n}.${n + 1}.0/24`);

/** The first /24 that overlaps no address or route of this machine. @throws StartError */
export function freeRange(): string {
  const used = usedBlocks();
  const free = RANGES.find((range) => !used.some((block) => overlaps(block, parseCidr(range))));
  if (free === undefined)
    throw new StartError(`every network of guests is routed elsewhere already: ${RANGES.join(', ')}`);
  return free;
}

function usedBlocks(): Cidr[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const own = addresses.flatMap(({ family, address, cidr }) =>
    family === 'IPv4' ? [blockOf(parseIpv4(address), Number(cidr?.split('/')[1] ?? 32))] : [],
  );
  const routes = readFileSync('/proc/net/route', 'utf8').trim().split('\n').slice(1);
  const routed = routes.map((line) => {
    const columns = line.split('\t');
    const mask = hostOrder(columns[7] ?? '');
    return blockOf(hostOrder(columns[1] ?? ''), mask === 0 ? 0 : 32 - Math.log2(2 ** 32 - mask));
  });
  return [...own, ...routed].filter(({ prefix }) => prefix > 0); // the default route leads everywhere
}

/** The kernel prints addresses as they lie in memory. */
const hostOrder = (hex: string): number => Buffer.from(hex, 'hex').reverse().readUInt32BE();

function blockOf(address: number, prefix: number): Cidr {
  const size = 2 ** (32 - prefix);
  return parseCidr(`${formatIpv4(address - (address % size))}/${prefix}`);
}

export const gatewayOf = (cidr: string): string => formatIpv4(parseCidr(cidr).base + 1);

/** `novabr0`, or the first after it that no interface has. */
export function freeBridge(): string {
  for (let n = 0; ; n++) if (!existsSync(`/sys/class/net/novabr${n}`)) return `novabr${n}`;
}

/** @returns `port` if nobody listens there on 127.0.0.1, else one that is free now */
export async function freePort(port: number): Promise<number> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return freePort(0);
  }
  const found = (server.address() as AddressInfo).port;
  server.close();
  await once(server, 'close');
  return found;
}

const SYSCTLS = ['net.ipv4.ip_forward', 'net.bridge.bridge-nf-call-iptables', 'net.bridge.bridge-nf-call-ip6tables'];
const sysctlFile = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`;

/** Kernel settings that daemons change, as they are now; those that this kernel has. */
export const readSysctls = (): Record<string, string> =>
  Object.fromEntries(
    SYSCTLS.filter((name) => existsSync(sysctlFile(name))).map((name) => [
      name,
      readFileSync(sysctlFile(name), 'utf8').trim(),
    ]),
  );

export function restoreSysctls(before: Record<string, string>): void {
  const now = readSysctls();
  for (const [name, value] of Object.entries(before))
    if (now[name] !== undefined && now[name] !== value) writeFileSync(sysctlFile(name), value);
}
