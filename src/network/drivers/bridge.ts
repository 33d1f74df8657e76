import { InvalidInput } from '../../common/errors.ts';
import type { BridgeSpec, LeftOver } from './driver.ts';
import { needing, type Host } from '../../common/linux/host.ts';
import { isMarked, markOf } from './addresses.ts';
import { hearAs } from './ipv6_routers.ts';
import { parseIpv4 } from '../logic/addresses.ts';

/** Marks a bridge as made by us, in the device's own alias: only those are taken away again. */
const MARK = 'nova-network';

/** The parts of `ip -j -d addr show dev X` that are used. */
interface Device {
  ifname: string;
  ifalias?: string;
  master?: string;
  address: string;
  flags: string[];
  linkinfo?: { info_kind?: string; info_data?: { stp_state?: number; forward_delay?: number } };
  addr_info: Address[];
}
interface Address {
  family: string;
  local: string;
  prefixlen: number;
  broadcast?: string;
  scope: string;
  label?: string;
  /** It has a lifetime, of these seconds. */
  dynamic?: boolean;
  valid_life_time: number;
  preferred_life_time: number;
}
interface Route {
  dst: string;
  gateway?: string;
  /** A gateway of the other version of IP. */
  via?: { family: string; host: string };
  metric?: number;
  protocol?: string;
  prefsrc?: string;
  /** Seconds that are left of its lifetime. */
  expires?: number;
  flags: string[];
}

const device = async (host: Host, name: string, signal: AbortSignal): Promise<Device | null> => {
  const found = (await host.ask(['ip', '-j', '-d', 'addr', 'show', 'dev', name], signal)) as Device[] | null;
  return found?.find((one) => one.ifname === name) ?? null;
};

/** See NetworkDriver.ensureBridge. Source: Nova 2011.2 nova/network/linux_net.py. @throws InvalidInput, BackendUnavailable */
export async function ensureBridge(host: Host, spec: BridgeSpec, signal: AbortSignal): Promise<string[]> {
  const { bridge } = spec;
  checkName(bridge);
  let there = await device(host, bridge, signal);
  if (!there) {
    // In one: a bridge without the mark is the operator's for ever.
    const lines = [`link add name ${bridge} type bridge`, `link set dev ${bridge} alias ${MARK}`];
    await batch(host, `making bridge ${bridge}`, lines, signal);
    there = await device(host, bridge, signal);
    // Set, if only to itself, it no longer follows the lowest address of the ports, so guests' ARP entries stay true.
    await host.run(['ip', 'link', 'set', 'dev', bridge, 'address', there?.address ?? ''], { signal });
  }
  if (there?.linkinfo?.info_kind !== 'bridge') {
    const kind = there?.linkinfo?.info_kind ?? 'plain interface';
    throw new InvalidInput(`${bridge} is a ${kind}, no bridge: give it another name, or take the interface away`);
  }
  const { stp_state, forward_delay } = there.linkinfo.info_data ?? {};
  if (stp_state !== 0 || forward_delay !== 0)
    await host.run(['ip', 'link', 'set', 'dev', bridge, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0'], {
      signal,
    });
  if (!there.flags.includes('UP')) await host.run(['ip', 'link', 'set', 'dev', bridge, 'up'], { signal });
  for (const gateway of [...spec.gateways, ...spec.gateways_v6]) await ensureAddress(host, there, gateway, signal);
  if (spec.interface !== null) await enslave(host, spec.interface, bridge, signal);
  const { addr_info } = there;
  return spec.gateways.map(({ address }) => address).filter((address) => !addr_info.some((had) => had.local === address)); // prettier-ignore
}

/**
 * The gateway tells no guest to go to another directly: for a floating address that leads back to the same bridge that
 * would be wrong. The kernel redirects where either of the two settings is on, so other interfaces keep theirs.
 */
export async function keepGuestsHere(host: Host, bridge: string, signal: AbortSignal): Promise<void> {
  const names = ['all', bridge].map((name) => `net/ipv4/conf/${name}/send_redirects`);
  const { stdout } = await host.run(['sysctl', '-n', ...names], { signal });
  if (
    stdout
      .trim()
      .split('\n')
      .every((value) => value === '0')
  )
    return;
  const off = names.map((name) => `${name}=0`);
  await needing(`turning redirects off on ${bridge}`, host.run(['sysctl', '-q', '-w', ...off], { signal }));
}

/** The kernel's limit, and nothing that a path or another option could be made of. */
function checkName(name: string): void {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/.test(name))
    throw new InvalidInput(`${name}: not an interface name (1 to 15 letters, digits, or _ . -)`);
}

async function ensureAddress(
  host: Host,
  { ifname: name, addr_info }: Device,
  wanted: { address: string; prefix: number; broadcast?: string },
  signal: AbortSignal,
): Promise<void> {
  const has = addr_info.find((one) => one.local === wanted.address);
  if (has?.prefixlen === wanted.prefix) return;
  if (has) await host.run(['ip', 'addr', 'del', `${has.local}/${has.prefixlen}`, 'dev', name], { signal });
  // A gateway answers at once: nobody else may have its address, so the kernel need not look for a second one first.
  const how = wanted.broadcast === undefined ? ['nodad'] : ['brd', wanted.broadcast];
  await host.run(['ip', 'addr', 'add', `${wanted.address}/${wanted.prefix}`, ...how, 'dev', name], { signal });
}

/**
 * Puts an interface into a bridge, which takes over its addresses and routes, so that the host stays reached through it.
 * All of it is one `ip -batch`, in an order that can be begun again after a power cut at any line: first the bridge has
 * everything, then the interface loses it.
 */
async function enslave(host: Host, name: string, bridge: string, signal: AbortSignal): Promise<void> {
  checkName(name);
  const port = await device(host, name, signal);
  if (!port) throw new InvalidInput(`interface ${name} for bridge ${bridge} is not on this host`);
  if (port.master !== undefined && port.master !== bridge)
    throw new InvalidInput(`interface ${name} is in ${port.master} already, it cannot be put into ${bridge}`);
  const advertised = await hearsRouters(host, port, signal);
  if (advertised) await hearAs(host, name, bridge, signal);
  const moves = await moveLines(host, port, bridge, signal);
  const join = port.master === bridge ? [] : [`link set dev ${name} master ${bridge}`];
  const up = port.flags.includes('UP') ? [] : [`link set dev ${name} up`];
  // The bridge speaks with the interface's MAC: what is outside knows the host's addresses by it.
  const mac = join.length > 0 ? [`link set dev ${bridge} address ${port.address}`] : [];
  await batch(host, `putting ${name} into ${bridge}`, [...join, ...mac, ...up, ...moves], signal);
  if (!advertised) return;
  // In a bridge it hears no router, and what it had learned would lead the host's packets astray until that runs out.
  const off = `net/ipv6/conf/${name}/disable_ipv6`;
  const forget = host.run(['sysctl', '-q', '-w', `${off}=1`, `${off}=0`]);
  await needing(`having ${name} forget the IPv6 routers that it heard`, forget);
}

const routesOf = async (host: Host, version: '-4' | '-6', name: string, signal: AbortSignal): Promise<Route[]> =>
  ((await host.ask(['ip', '-j', version, 'route', 'show', 'dev', name], signal)) as Route[] | null)?.map((route) =>
    version === '-6' && route.dst === 'default' ? { ...route, dst: '::/0' } : route,
  ) ?? [];

/** Whether some of its IPv6 comes from router advertisements. */
async function hearsRouters(host: Host, { ifname, addr_info }: Device, signal: AbortSignal): Promise<boolean> {
  if (addr_info.some((one) => one.family === 'inet6' && one.dynamic)) return true;
  return (await routesOf(host, '-6', ifname, signal)).some((route) => route.protocol === 'ra');
}

/**
 * `ip` commands that move the global addresses, and the routes that go with them, from one interface to another. What
 * has a lifetime, as all that a router advertises, keeps what is left of it, in which the next advertisement comes.
 */
async function moveLines(host: Host, from: Device, to: string, signal: AbortSignal): Promise<string[]> {
  const target = await device(host, to, signal);
  const addresses = from.addr_info.filter((one) => one.scope === 'global');
  const add = addresses
    .filter((one) => !target?.addr_info.some((had) => had.local === one.local))
    .map((one) => {
      const words = [`addr add ${one.local}/${one.prefixlen}`];
      if (one.broadcast !== undefined) words.push(`brd ${one.broadcast}`);
      if (isMarked(from.ifname, one.label)) words.push(`label ${markOf(to)}`);
      if (one.family === 'inet6') {
        words.push('nodad'); // it is this host's already, and while it is looked for elsewhere no route may name it
        if (one.dynamic) words.push(`valid_lft ${one.valid_life_time} preferred_lft ${one.preferred_life_time}`);
      }
      return [...words, `dev ${to}`].join(' ');
    });
  const routes = [
    ...(await routesOf(host, '-4', from.ifname, signal)),
    ...(await routesOf(host, '-6', from.ifname, signal)),
  ].filter(({ protocol }) => protocol !== 'kernel');
  const there = (await routesOf(host, '-6', to, signal)).map(({ dst, gateway }) => `${dst} ${gateway}`);
  const missing = routes.filter((one) => one.expires === undefined || !there.includes(`${one.dst} ${one.gateway}`));
  const direct = (route: Route) => route.gateway === undefined && route.via === undefined;
  // A gateway may be reached by one of the direct routes only, which have to be there before.
  const ordered = [...missing.filter(direct), ...missing.filter((route) => !direct(route))];
  const remove = addresses.map((one) => `addr del ${one.local}/${one.prefixlen} dev ${from.ifname}`);
  return [...add, ...ordered.map((route) => routeLine({ ...route, ...sourceOf(route, addresses) }, to)), ...remove];
}

/**
 * The source that the kernel took on a route outside of the interface's own networks: the first address. On the bridge,
 * that would be the guests' gateway.
 */
function sourceOf({ dst, gateway, via, prefsrc }: Route, addresses: readonly Address[]): Pick<Route, 'prefsrc'> {
  const next = gateway ?? dst.split('/')[0] ?? dst;
  const own = addresses.filter((one) => one.family === 'inet');
  const [first] = own;
  if (prefsrc !== undefined || via !== undefined || !first || next.includes(':')) return {};
  const network = (address: string, prefix: number) => Math.floor(parseIpv4(address) / 2 ** (32 - prefix));
  const within = (one: Address) => network(one.local, one.prefixlen) === network(next, one.prefixlen);
  const outside = next === 'default' || !own.some(within);
  return outside ? { prefsrc: first.local } : {};
}

function routeLine({ dst, gateway, via, protocol, metric, prefsrc, expires, flags }: Route, device: string): string {
  // What a router advertised stands beside that of other routers with the same metric, which is not to be replaced.
  const words = [`route ${expires === undefined ? 'replace' : 'append'} ${dst}`];
  if (gateway !== undefined) words.push(`via ${gateway}`);
  if (via !== undefined) words.push(`via ${via.family} ${via.host}`);
  words.push(`dev ${device}`);
  if (protocol !== undefined) words.push(`proto ${protocol}`);
  if (metric !== undefined) words.push(`metric ${metric}`);
  if (prefsrc !== undefined) words.push(`src ${prefsrc}`);
  if (expires !== undefined) words.push(`expires ${expires}`);
  if (flags.includes('onlink')) words.push('onlink');
  return words.join(' ');
}

async function batch(host: Host, what: string, lines: readonly string[], signal: AbortSignal): Promise<void> {
  if (lines.length === 0) return;
  signal.throwIfAborted(); // but not in the midst of it: the host's own address may be on its way
  await needing(what, host.run(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` }));
}

/** See NetworkDriver.bridges. */
export async function bridgesOnHost(host: Host, signal: AbortSignal): Promise<{ name: string; own: boolean }[]> {
  const found = (await host.ask(['ip', '-j', 'link', 'show', 'type', 'bridge'], signal)) as
    { ifname?: string; ifalias?: string }[] | null;
  return (found ?? []).flatMap(({ ifname: name, ifalias }) =>
    name === undefined ? [] : [{ name, own: ifalias === MARK }],
  );
}

/**
 * Takes a bridge of ours away and gives its interface back what it lent. With guests in it, it stays, but the gateway
 * address goes, since another host may have it by now.
 * @returns the ports that keep it, or null
 */
export async function removeBridge(host: Host, spec: BridgeSpec, signal: AbortSignal): Promise<LeftOver | null> {
  const { bridge } = spec;
  const there = await device(host, bridge, signal);
  if (!there) return null;
  const members = (await host.ask(['ip', '-j', 'link', 'show', 'master', bridge], signal)) as
    { ifname: string }[] | null;
  const ports = (members ?? []).map((one) => one.ifname).filter((name) => name !== spec.interface);
  const ours = [...spec.gateways, ...spec.gateways_v6].map(({ address }) => address);
  const drop = there.addr_info.filter((one) => ours.includes(one.local));
  const lines = drop.map((one) => `addr del ${one.local}/${one.prefixlen} dev ${bridge}`);
  await batch(host, `taking the gateway address from ${bridge}`, lines, signal);
  if (ports.length > 0) return { bridge, ports };
  if (there.ifalias !== MARK) return null; // the operator's own bridge
  if (spec.interface !== null && members?.some((one) => one.ifname === spec.interface)) {
    const lent = await device(host, bridge, signal);
    const back = lent ? await moveLines(host, lent, spec.interface, signal) : [];
    // Out of the bridge last: while it is in, what a power cut left undone is done the next time.
    const lines = [...back, `link set dev ${spec.interface} nomaster`];
    await batch(host, `taking ${spec.interface} out of ${bridge}`, lines, signal);
  }
  const del = ['ip', 'link', 'del', 'dev', bridge];
  await host.run(del, { ok: [0, 1, 2], signal }); // nova-network and nova-compute of one host may both do it
  if (await device(host, bridge, signal)) await host.run(del, { signal });
  return null;
}
