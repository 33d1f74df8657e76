import type { DhcpEvent, DhcpHost, DhcpNetworks } from '../logic/dhcp_hosts.ts';
import { bridgesOf, forwardsOf, type Firewall, type Forward } from '../logic/firewall.ts';
import type { BoundAddress, BridgeSpec, HostAddress, LeftOver, NetworkDriver } from './driver.ts';

/** A host in memory (`--fake_network`): it remembers what it was told, for tests, load and simulation. */
export class FakeNetworkDriver implements NetworkDriver {
  forwarding = false;
  metadata_ip = false;
  readonly made = new Map<string, BridgeSpec>();
  readonly dhcp = new Map<string, { networks: DhcpNetworks; hosts: DhcpHost[]; told: number }>();
  firewall: Firewall | null = null;
  addresses: HostAddress[] = [];
  /** Addresses that neighbours were told of, and floating ones whose connections were ended. */
  readonly announced: string[] = [];
  readonly ended: string[] = [];
  /** What a DHCP server has said; a test adds to it. */
  readonly events: DhcpEvent[] = [];
  #changed: () => void = () => undefined;

  async initHost({ metadata }: { metadata: boolean }): Promise<void> {
    this.forwarding = true;
    this.metadata_ip ||= metadata;
  }

  async ensureBridge(spec: BridgeSpec): Promise<string[]> {
    const had = this.made.get(spec.bridge);
    const more = <A extends { address: string }>(before: readonly A[], now: readonly A[]) => [
      ...before.filter(({ address }) => !now.some((one) => one.address === address)),
      ...now,
    ];
    const gateways = more(had?.gateways ?? [], spec.gateways);
    const gateways_v6 = more(had?.gateways_v6 ?? [], spec.gateways_v6);
    this.made.set(spec.bridge, { ...spec, gateways, gateways_v6 });
    const before = had?.gateways.map(({ address }) => address) ?? [];
    return spec.gateways.map(({ address }) => address).filter((address) => !before.includes(address));
  }

  async updateDhcp(networks: DhcpNetworks, hosts: readonly DhcpHost[]): Promise<void> {
    const [{ bridge }] = networks;
    const told = (this.dhcp.get(bridge)?.told ?? 0) + 1;
    this.dhcp.set(bridge, { networks, hosts: [...hosts], told });
  }

  async drainDhcpEvents(handle: (event: DhcpEvent) => Promise<void>): Promise<void> {
    for (let event = this.events[0]; event; event = this.events[0]) {
      await handle(event);
      this.events.shift();
    }
  }

  watchDhcpEvents(changed: () => void): void {
    this.#changed = changed;
  }

  async releaseLease(_bridge: string, { mac, address }: Pick<DhcpHost, 'mac' | 'address'>): Promise<void> {
    this.events.push({ event: 'del', mac, address });
    this.#changed();
  }

  async applyFirewall(firewall: Firewall): Promise<void> {
    this.firewall = firewall;
  }

  async bridgesLetThrough(): Promise<string[]> {
    const filter = this.firewall?.v4.find((table) => table.table === 'filter');
    return bridgesOf(filter?.chains['FORWARD'] ?? []);
  }

  async forwards(): Promise<Forward[]> {
    const nat = this.firewall?.v4.find((table) => table.table === 'nat');
    return forwardsOf(nat?.chains['PREROUTING'] ?? []);
  }

  async hostAddresses(): Promise<HostAddress[]> {
    const on = ({ bridge, gateways }: BridgeSpec) =>
      gateways.map(({ address, prefix }) => ({ device: bridge, address, prefix, marked: false }));
    return [...this.addresses, ...[...this.made.values()].flatMap(on)];
  }

  async addressDevice(name: string): Promise<string> {
    return name;
  }

  async bindAddresses(device: string, addresses: readonly string[]): Promise<void> {
    this.addresses = [
      ...this.addresses,
      ...addresses.map((address) => ({ device, address, prefix: 32, marked: true })),
    ];
  }

  async unbindAddresses(addresses: readonly BoundAddress[]): Promise<void> {
    const stays = (device: string, address: string) =>
      !addresses.some((one) => one.device === device && one.address === address);
    this.addresses = this.addresses.filter((one) => stays(one.device, one.address));
    for (const [bridge, spec] of this.made) {
      const gateways = spec.gateways.filter(({ address }) => stays(bridge, address));
      const gateways_v6 = spec.gateways_v6.filter(({ address }) => stays(bridge, address));
      this.made.set(bridge, { ...spec, gateways, gateways_v6 });
    }
  }

  async announce(_device: string, addresses: readonly string[]): Promise<void> {
    this.announced.push(...addresses);
  }

  async endFlows(addresses: readonly string[]): Promise<void> {
    this.ended.push(...addresses);
  }

  async bridges(): Promise<{ name: string; own: boolean }[]> {
    return [...this.made.keys()].map((name) => ({ name, own: true }));
  }

  async dhcpAddresses(bridge: string): Promise<string[]> {
    return this.dhcp.get(bridge)?.networks.map(({ dhcp_server }) => dhcp_server) ?? [];
  }

  async dhcpBridges(): Promise<string[]> {
    return [...this.dhcp.keys()];
  }

  async removeNetwork({ bridge }: BridgeSpec): Promise<null> {
    this.made.delete(bridge);
    this.dhcp.delete(bridge);
    return null;
  }

  async takeDown(bridges: readonly BridgeSpec[]): Promise<LeftOver[]> {
    for (const spec of bridges) await this.removeNetwork(spec);
    this.firewall = null;
    this.metadata_ip = false;
    return [];
  }
}
