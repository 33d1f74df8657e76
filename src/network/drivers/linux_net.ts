import type { Difference } from '../../common/difference.ts';
import { BackendUnavailable } from '../../common/errors.ts';
import { boolean, defineFlags, type Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { DhcpEvent, DhcpHost, DhcpNetworks } from '../logic/dhcp_hosts.ts';
import { bridgesOf, forwardsOf, NO_RULES, type Firewall, type Forward } from '../logic/firewall.ts';
import { announce, bindAddresses, addressDevice, endFlows, hostAddresses, unbindAddresses } from './addresses.ts';
import { bridgesOnHost, ensureBridge, keepGuestsHere, removeBridge } from './bridge.ts';
import { drainDhcpEvents, watchDhcpEvents } from './dhcp_events.ts';
import { dhcpFlags } from './dhcp_flags.ts';
import { Dnsmasq } from './dnsmasq.ts';
import {
  leaseFlags,
  type BoundAddress,
  type BridgeSpec,
  type HostAddress,
  type LeftOver,
  type NetworkDriver,
} from './driver.ts';
import { keepAdvertisedRoutes } from './ipv6_routers.ts';
import { Host, hostFlags, needing, rootHelper, Turns } from '../../common/linux/host.ts';
import { KernelVlans, type VlanInterfaces, type VlanInterfacesClass } from './vlan_interfaces.ts';
import { Iptables } from '../../common/linux/iptables.ts';

export const linuxNetFlags = defineFlags({
  use_ipv6: boolean(false, 'Give networks and guests IPv6 as well'),
});

export interface LinuxNetOptions {
  flags: Flags;
  log: Log;
  /** Before the names of iptables chains: the daemon whose rules they are. */
  binary?: string;
  /** See Host. */
  prefix?: readonly string[];
  /** How VLANs are made; left out: by the kernel. */
  Vlans?: VlanInterfacesClass;
  /** See Host: nothing is changed. */
  instead?: (argv: readonly string[], input: string) => void;
}

const METADATA_IP = '169.254.169.254';
const PROGRAMS = { ip: 'iproute2', iptables: 'iptables', dnsmasq: 'dnsmasq-base', pgrep: 'procps' } as const;

/** The name that `spec` gives its VLAN's interface. */
const vlanName = ({ interface: name, vlan }: BridgeSpec): string => name ?? `vlan${vlan?.id}`;

/** Linux bridges, iptables and dnsmasq. Source: Nova 2011.2 nova/network/linux_net.py. */
export class LinuxNetDriver implements NetworkDriver {
  readonly #host: Host;
  readonly #vlans: VlanInterfaces;
  readonly #iptables: Iptables;
  readonly #dnsmasq: Dnsmasq;
  readonly #networks_path: string;
  readonly #use_ipv6: boolean;
  readonly #log: Log;
  /** Bridges are looked at and changed in several commands; two at once would both make one. */
  readonly #bridges = new Turns();

  constructor({ flags, log, binary = 'nova-network', prefix = [], Vlans = KernelVlans, instead }: LinuxNetOptions) {
    const { use_ipv6 } = flags.read(linuxNetFlags);
    const { dhcpbridge_flagfile, ...dhcp } = flags.read(dhcpFlags);
    const root_helper = rootHelper(flags.read(hostFlags));
    this.#host = new Host({ prefix, root_helper, ...(instead ? { instead } : {}) });
    this.#vlans = new Vlans({ host: this.#host, flags });
    this.#iptables = new Iptables(this.#host, binary, use_ipv6 ? [] : NO_RULES.v6);
    this.#dnsmasq = new Dnsmasq(this.#host, { ...dhcp, ...flags.read(leaseFlags), flagfile: dhcpbridge_flagfile }, log);
    this.#networks_path = dhcp.networks_path;
    this.#use_ipv6 = use_ipv6;
    this.#log = log;
  }

  async initHost({ metadata }: { metadata: boolean }, signal: AbortSignal): Promise<void> {
    await this.#checkPrograms();
    if (metadata && !(await this.#onLoopback(signal))) {
      const add = ['ip', 'addr', 'add', `${METADATA_IP}/32`, 'scope', 'link', 'dev', 'lo'];
      await needing(`putting ${METADATA_IP} on lo`, this.#host.run(add, { signal }));
    }
    await this.#sysctl('net.ipv4.ip_forward', signal);
    if (!this.#use_ipv6) return;
    await keepAdvertisedRoutes(this.#host, signal);
    await this.#sysctl('net.ipv6.conf.all.forwarding', signal);
  }

  async #checkPrograms(): Promise<void> {
    await needing('running commands on this host', this.#host.run(['true']));
    const missing: string[] = [];
    for (const [program, from] of Object.entries(PROGRAMS)) {
      const { exit_code } = await this.#host.run(['sh', '-c', 'command -v "$0"', program], { ok: [0, 1, 127] });
      if (exit_code !== 0) missing.push(`${program} (Debian package ${from})`);
    }
    if (missing.length > 0)
      throw new BackendUnavailable(
        `nova-network needs ${missing.join(', ')}: install them, or start with --fake_network`,
      );
  }

  async #sysctl(name: string, signal: AbortSignal): Promise<void> {
    const read = async () => (await this.#host.run(['sysctl', '-n', name], { signal })).stdout.trim();
    if ((await needing(`reading ${name}`, read())) === '1') return;
    await needing(`turning ${name} on`, this.#host.run(['sysctl', '-q', '-w', `${name}=1`], { signal }));
    if ((await read()) !== '1')
      throw new BackendUnavailable(`${name} stays 0 after it was set to 1: guests have no way out`);
    this.#log.info({ name }, 'forwarding turned on');
  }

  async #onLoopback(signal: AbortSignal): Promise<boolean> {
    const { stdout } = await this.#host.run(['ip', '-4', 'addr', 'show', 'dev', 'lo'], { signal });
    return stdout.includes(`${METADATA_IP}/32`);
  }

  ensureBridge(spec: BridgeSpec, signal: AbortSignal): Promise<string[]> {
    return this.#bridges.take(async () => {
      if (spec.vlan !== null) await this.#vlans.ensure(vlanName(spec), spec.vlan, signal);
      const come = await ensureBridge(this.#host, spec, signal);
      if (spec.gateways.length > 0) await keepGuestsHere(this.#host, spec.bridge, signal);
      return come;
    });
  }

  updateDhcp(
    networks: DhcpNetworks,
    hosts: readonly DhcpHost[],
    leased: readonly DhcpHost[],
    signal: AbortSignal,
  ): Promise<void> {
    return this.#dnsmasq.update(networks, hosts, leased, signal);
  }

  drainDhcpEvents(handle: (event: DhcpEvent) => Promise<void>): Promise<void> {
    return drainDhcpEvents(this.#networks_path, handle);
  }

  watchDhcpEvents(changed: () => void, signal: AbortSignal): void {
    watchDhcpEvents(this.#networks_path, changed, this.#log, signal);
  }

  async releaseLease(
    bridge: string,
    { address, mac }: Pick<DhcpHost, 'mac' | 'address'>,
    signal: AbortSignal,
  ): Promise<void> {
    const argv = ['dhcp_release', bridge, address, mac];
    await needing('releasing a lease (Debian package dnsmasq-utils)', this.#host.run(argv, { signal }));
  }

  applyFirewall(firewall: Firewall, signal: AbortSignal): Promise<void> {
    return this.#iptables.apply(firewall, signal);
  }

  async bridgesLetThrough(signal: AbortSignal): Promise<string[]> {
    return bridgesOf(await this.#iptables.rules('v4', 'filter', 'FORWARD', signal));
  }

  async forwards(signal: AbortSignal): Promise<Forward[]> {
    return forwardsOf(await this.#iptables.rules('v4', 'nat', 'PREROUTING', signal));
  }

  hostAddresses(signal: AbortSignal): Promise<HostAddress[]> {
    return hostAddresses(this.#host, signal);
  }

  addressDevice(name: string, signal: AbortSignal): Promise<string> {
    return addressDevice(this.#host, name, signal);
  }

  bindAddresses(device: string, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    return bindAddresses(this.#host, device, addresses, signal);
  }

  unbindAddresses(addresses: readonly BoundAddress[], signal: AbortSignal): Promise<void> {
    return unbindAddresses(this.#host, addresses, signal);
  }

  announce(device: string, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    return announce(this.#host, this.#log, device, addresses, signal);
  }

  endFlows(addresses: readonly string[], signal: AbortSignal): Promise<void> {
    return endFlows(this.#host, this.#log, addresses, signal);
  }

  bridges(signal: AbortSignal): Promise<{ name: string; own: boolean }[]> {
    return bridgesOnHost(this.#host, signal);
  }

  dhcpAddresses(bridge: string): Promise<string[]> {
    return this.#dnsmasq.addresses(bridge);
  }

  dhcpBridges(): Promise<string[]> {
    return this.#dnsmasq.bridges();
  }

  /** What updateDhcp would change. */
  lookAtDhcp(networks: DhcpNetworks, hosts: readonly DhcpHost[]): Promise<Difference[]> {
    return this.#dnsmasq.look(networks, hosts);
  }

  /** What there is of a DHCP server that should not be. */
  lookAtFormerDhcp(bridge: string): Promise<Difference[]> {
    return this.#dnsmasq.lookAfterStop(bridge);
  }

  /** What applyFirewall would change. */
  lookAtFirewall(firewall: Firewall, signal: AbortSignal): Promise<Difference[]> {
    return this.#iptables.look(firewall, signal);
  }

  /** removeNetwork without its DHCP server. */
  removeBridge(spec: BridgeSpec, signal: AbortSignal): Promise<LeftOver | null> {
    return this.#bridges.take(async () => {
      const left = await removeBridge(this.#host, spec, signal);
      if (left === null && spec.vlan !== null) await this.#vlans.remove(vlanName(spec), signal);
      return left;
    });
  }

  async removeNetwork(spec: BridgeSpec, signal: AbortSignal): Promise<LeftOver | null> {
    await this.#dnsmasq.stop(spec.bridge);
    return this.removeBridge(spec, signal);
  }

  async takeDown(bridges: readonly BridgeSpec[], signal: AbortSignal): Promise<LeftOver[]> {
    const left: LeftOver[] = [];
    for (const spec of bridges) {
      const kept = await this.removeNetwork(spec, signal);
      if (kept) left.push(kept);
    }
    await this.#iptables.remove(NO_RULES, signal);
    if (await this.#onLoopback(signal))
      await this.#host.run(['ip', 'addr', 'del', `${METADATA_IP}/32`, 'dev', 'lo'], { signal });
    return left;
  }
}
