import type { Log } from '../../common/log.ts';
import { needing, type Host } from '../../common/linux/host.ts';
import { errorText, InvalidInput } from '../../common/errors.ts';
import type { BoundAddress, HostAddress } from './driver.ts';

/** Floating addresses on the interfaces of a Linux host. Source: Nova 2011.3 nova/network/linux_net.py, bind_floating_ip. */

interface Device {
  ifname: string;
  master?: string;
  linkinfo?: { info_kind?: string };
  addr_info?: { local: string; prefixlen: number; label?: string }[];
}

const NOT_FOUND = 127;
/** Of a label, as of a name of an interface. */
const LONGEST = 15;
/** Neighbours are told of so many addresses at once. */
const AT_ONCE = 16;

/** Marks an address of this interface as one that we put there: a label, which begins with its name. */
export const markOf = (device: string): string => `${device}:nova`.slice(0, LONGEST);
export const isMarked = (device: string, label: string | undefined): boolean =>
  label === markOf(device) && label !== device;

export async function hostAddresses(host: Host, signal: AbortSignal): Promise<HostAddress[]> {
  const devices = ((await host.ask(['ip', '-j', '-4', 'addr', 'show'], signal)) as Device[] | null) ?? [];
  return devices
    .filter(({ ifname }) => ifname !== 'lo')
    .flatMap(({ ifname, addr_info = [] }) =>
      addr_info.map(({ local, prefixlen, label }) => ({
        device: ifname,
        address: local,
        prefix: prefixlen,
        marked: isMarked(ifname, label),
      })),
    );
}

/** @throws InvalidInput */
export async function addressDevice(host: Host, name: string, signal: AbortSignal): Promise<string> {
  const link = async (of: string) =>
    ((await host.ask(['ip', '-j', '-d', 'link', 'show', 'dev', of], signal)) as Device[] | null)?.find(
      ({ ifname }) => ifname === of,
    );
  const device = await link(name);
  if (!device)
    throw new InvalidInput(`interface ${name} for floating addresses (--public_interface) is not on this host`);
  if (device.master === undefined) return name;
  return (await link(device.master))?.linkinfo?.info_kind === 'bridge' ? device.master : name;
}

export async function bindAddresses(
  host: Host,
  device: string,
  addresses: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (addresses.length === 0) return;
  const lines = addresses
    .map((address) => `addr replace ${address}/32 dev ${device} label ${markOf(device)}\n`)
    .join('');
  const run = host.run(['ip', '-batch', '-'], { input: lines, signal });
  await needing(`putting floating addresses on ${device}`, run);
}

export async function unbindAddresses(
  host: Host,
  addresses: readonly BoundAddress[],
  signal: AbortSignal,
): Promise<void> {
  if (addresses.length === 0) return;
  const lines = addresses.map((one) => `addr del ${one.address}/${one.prefix} dev ${one.device}\n`).join('');
  // -force: goes on after one that is gone already; the exit code then says so, and what stayed is found below.
  await host.run(['ip', '-force', '-batch', '-'], { input: lines, ok: [0, 1, 2], signal });
  const there = await hostAddresses(host, signal);
  const stayed = addresses.find((one) => there.some((had) => had.address === one.address && had.device === one.device));
  if (stayed) {
    const again = host.run(['ip', 'addr', 'del', `${stayed.address}/${stayed.prefix}`, 'dev', stayed.device], {
      signal,
    });
    await needing(`taking a floating address off ${stayed.device}`, again);
  }
}

/** By whichever arping there is; without one, neighbours learn it when what they remember does not answer. */
export async function announce(
  host: Host,
  log: Log,
  device: string,
  addresses: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  for (let at = 0; at < addresses.length; at += AT_ONCE)
    await Promise.all(
      addresses.slice(at, at + AT_ONCE).map((address) => announceOne(host, log, device, address, signal)),
    );
}

async function announceOne(host: Host, log: Log, device: string, address: string, signal: AbortSignal): Promise<void> {
  const script = 'if command -v arping >/dev/null; then exec arping "$@"; else exec busybox arping "$@"; fi';
  const argv = ['sh', '-c', script, 'arping', '-U', '-c', '1', '-w', '1', '-I', device, address];
  try {
    const { exit_code } = await host.run(argv, { ok: [0, 1, NOT_FOUND], signal }); // 1: nobody answered, and nobody should
    if (exit_code === NOT_FOUND) log.debug({ address }, 'no gratuitous ARP: arping is not installed (iputils-arping)');
  } catch (err) {
    log.warn({ address, device, why: errorText(err) }, 'gratuitous ARP not sent');
  }
}

/** Connections keep the rule that they began with; those of an address that now leads elsewhere must not. */
export async function endFlows(host: Host, log: Log, addresses: readonly string[], signal: AbortSignal): Promise<void> {
  for (const address of addresses)
    for (const side of ['--orig-dst', '--reply-dst']) {
      try {
        // 1: there was none
        const argv = ['sh', '-c', 'command -v conntrack >/dev/null || exit 127; exec conntrack "$@"', 'conntrack'];
        const { exit_code } = await host.run([...argv, '-D', side, address], { ok: [0, 1, NOT_FOUND], signal });
        if (exit_code !== NOT_FOUND) continue;
        log.debug({ address }, 'connections through it end by themselves: conntrack is not installed');
        return;
      } catch (err) {
        log.warn({ address, why: errorText(err) }, 'connections through a floating ip not ended');
      }
    }
}
