import type { Difference } from '../../../common/difference.ts';
import { BackendUnavailable } from '../../../common/errors.ts';
import type { Flags } from '../../../common/flags.ts';
import { boolean, defineFlags } from '../../../common/flags.ts';
import { Host, hostFlags, needing, rootHelper } from '../../../common/linux/host.ts';
import { IpSets } from '../../../common/linux/ipset.ts';
import { Iptables } from '../../../common/linux/iptables.ts';
import type { Log } from '../../../common/log.ts';
import { neighbourTarget, NO_INSTANCES, SET_PREFIX, type InstanceFirewall } from '../../logic/instance_firewall.ts';
import type { FirewallDriver } from '../driver.ts';

export const iptablesFirewallFlags = defineFlags({ use_ipv6: boolean(false, 'Give networks and guests IPv6 as well') });

/** Begins the names of this daemon's chains. */
const BINARY = 'nova-compute';
const PROGRAMS = { iptables: 'iptables', ebtables: 'iptables', ipset: 'ipset', bridge: 'iproute2' } as const;

/**
 * The guests' packet filter in iptables, ipset and ebtables, for guests that are plugged into bridges of this host.
 * Source: Nova 2011.3 nova/virt/libvirt/firewall.py.
 */
export class IptablesFirewallDriver implements FirewallDriver {
  readonly #host: Host;
  readonly #iptables: Iptables;
  readonly #sets: IpSets;
  readonly #use_ipv6: boolean;
  readonly #log: Log;

  /** @param deps `prefix`: see Host */
  constructor({ flags, log, prefix = [] }: { flags: Flags; log: Log; prefix?: readonly string[] }) {
    this.#host = new Host({ prefix, root_helper: rootHelper(flags.read(hostFlags)) });
    this.#sets = new IpSets(this.#host, SET_PREFIX);
    this.#use_ipv6 = flags.read(iptablesFirewallFlags).use_ipv6;
    this.#iptables = new Iptables(this.#host, BINARY, this.#use_ipv6 ? [] : NO_INSTANCES.v6);
    this.#log = log;
  }

  async initHost(signal: AbortSignal): Promise<void> {
    const missing = await this.#missingPrograms();
    if (missing.length > 0)
      throw new BackendUnavailable(
        `security groups need ${missing.join(', ')}: install them, or do without, with --firewall_driver=${NO_FIREWALL}`,
      );
    await this.filterBridges(signal);
    if (this.#use_ipv6) await this.#judgesNeighbours(signal);
  }

  async filterBridges(signal: AbortSignal): Promise<void> {
    await this.#bridgesFilter('iptables', signal);
    if (this.#use_ipv6) await this.#bridgesFilter('ip6tables', signal);
  }

  async look({ tables, sets, taps }: InstanceFirewall, signal: AbortSignal): Promise<Difference[]> {
    const missing = await this.#missingPrograms();
    if (missing.length > 0)
      return [{ what: 'security groups', expected: 'enforced here', found: `this host lacks ${missing.join(', ')}`, repair: null, advice: 'install that' }]; // prettier-ignore
    const found: Difference[] = [];
    for (const layer of this.#use_ipv6 ? (['iptables', 'ip6tables'] as const) : (['iptables'] as const)) {
      const name = `net.bridge.bridge-nf-call-${layer}`;
      const value = (await this.#host.read(`/proc/sys/${name.replaceAll('.', '/')}`))?.trim();
      if (value !== '1')
        found.push({ what: 'kernel settings', expected: `${name}=1`, found: value ?? 'nothing', repair: 'sets it' });
    }
    for (const tap of await this.#notReflecting(taps, signal))
      found.push({ what: `interface ${tap}`, expected: 'hairpin on, so that the guest reaches its own floating address', found: 'hairpin off', repair: 'turns it on' }); // prettier-ignore
    return [...found, ...(await this.#sets.look(sets, signal)), ...(await this.#iptables.look(tables, signal))];
  }

  async #missingPrograms(): Promise<string[]> {
    const missing: string[] = [];
    for (const [program, from] of Object.entries(PROGRAMS)) {
      const { exit_code } = await this.#host.run(['sh', '-c', 'command -v "$0"', program], { ok: [0, 1, 127] });
      if (exit_code !== 0) missing.push(`${program} (Debian package ${from})`);
    }
    return missing;
  }

  /** What goes from guest to guest over a bridge passes iptables only when the kernel is told so. */
  async #bridgesFilter(tables: 'iptables' | 'ip6tables', signal: AbortSignal): Promise<void> {
    const name = `net.bridge.bridge-nf-call-${tables}`;
    const path = `/proc/sys/${name.replaceAll('.', '/')}`;
    if ((await this.#host.read(path)) === null)
      await needing('loading br_netfilter', this.#host.run(['modprobe', 'br_netfilter'], { signal }));
    if ((await this.#host.read(path))?.trim() === '1') return;
    await needing(`turning ${name} on`, this.#host.run(['sysctl', '-q', '-w', `${name}=1`], { signal }));
    if ((await this.#host.read(path))?.trim() !== '1')
      throw new BackendUnavailable(`${name} stays 0 after it was set to 1: rules between guests would do nothing`);
    this.#log.info({ name }, 'packets on bridges are filtered');
  }

  /** Tries the match that guests' rules need: without it they would be refused when the first guest is launched. */
  async #judgesNeighbours(signal: AbortSignal): Promise<void> {
    const chain = `${BINARY}-trial`;
    const restore = (lines: string[], ok: number[]) =>
      this.#host.run(['ip6tables-restore', '--noflush', '-w', '10'], { input: ['*mangle', ...lines, 'COMMIT', ''].join('\n'), ok, signal }); // prettier-ignore
    const trial = restore([`:${chain} - [0:0]`, `-A ${chain} ${neighbourTarget('::')} -j RETURN`], [0]);
    await needing("dropping guests' forged neighbour advertisements, with the kernel's module xt_u32", trial);
    // Not in one with the above, of which then the kernel would hear nothing. A chain that stays goes when rules are applied.
    await restore([`-F ${chain}`, `-X ${chain}`], [0, 1, 2, 3, 4]);
  }

  async apply({ tables, sets }: InstanceFirewall, signal: AbortSignal, before?: InstanceFirewall): Promise<void> {
    await this.#sets.make(sets, signal);
    await this.#iptables.apply(tables, signal, before?.tables);
    const left = await this.#sets.drop(sets, signal);
    if (left.length > 0) this.#log.info({ sets: left }, 'sets of addresses are still in use and go the next time');
  }

  async reflect(taps: readonly string[], signal: AbortSignal): Promise<void> {
    const lines = (await this.#notReflecting(taps, signal)).map((tap) => `link set dev ${tap} hairpin on\n`);
    if (lines.length === 0) return;
    // -force, 1: a guest that just ended takes its port along.
    await this.#host.run(['bridge', '-force', '-batch', '-'], { input: lines.join(''), ok: [0, 1], signal });
  }

  async #notReflecting(taps: readonly string[], signal: AbortSignal): Promise<string[]> {
    const { stdout } = await this.#host.run(['bridge', '-j', '-d', 'link', 'show'], { signal });
    const ports = JSON.parse(stdout) as { ifname: string; hairpin?: boolean }[];
    return ports.flatMap(({ ifname, hairpin }) => (hairpin === false && taps.includes(ifname) ? [ifname] : []));
  }

  async remove(signal: AbortSignal): Promise<void> {
    const missing = await this.#missingPrograms();
    if (missing.length > 0) return; // then there are no rules of ours either
    await this.#iptables.remove(NO_INSTANCES, signal);
    await this.#sets.drop([], signal);
  }
}

/** The flag's value that turns this off. */
export const NO_FIREWALL = 'nova.virt.firewall.NoopFirewallDriver';
