import { lookup } from 'node:dns/promises';
import { Coalesced } from '../../common/coalesced.ts';
import { claimHostIp, hostIp, releaseHostIp, type FixedIp } from '../../common/db/fixed_ips.ts';
import { allNetworks, deletedNetworks, networksOfHost, type Network } from '../../common/db/networks.ts';
import { dhcpGuests } from '../../common/db/virtual_interfaces.ts';
import { orEnd, type Attempt } from '../../common/doctor.ts';
import { BackendUnavailable, errorText, FlagsError, NoMoreAddresses, NovaError } from '../../common/errors.ts';
import { boolean, defineFlags, string, type FlagValues } from '../../common/flags.ts';
import { Turns } from '../../common/linux/host.ts';
import type { BridgeSpec } from '../drivers/driver.ts';
import { guestRange, formatIpv4, holds, hostV6, parseCidr, parseIpv4 } from '../logic/addresses.ts';
import type { DhcpEvent, DhcpNetwork } from '../logic/dhcp_hosts.ts';
import { networkFirewall, type Forward } from '../logic/firewall.ts';
import type { VpnForward } from '../logic/project_rules.ts';
import { claimRange, dnsOf } from './address_book.ts';
import { announceFlags, announceNew } from './announce.ts';
import { bridgePort, bridgePortFlags } from './bridge_port.ts';
import type { BringOptions, NetworkManagerDeps } from './deps.ts';
import { FloatingHost } from './floating_host.ts';

export const gatewayFlags = defineFlags({
  fixed_range: string('10.0.0.0/8', "Guests' address space"),
  dmz_cidr: string('10.128.0.0/24', 'Destinations that see the own addresses of guests'),
  routing_source_ip: string('$my_ip', "Address with which guests' traffic leaves the cloud"),
  use_ipv6: boolean(false, 'Give networks and guests IPv6 as well'),
  metadata_dnat: string(
    '$ec2_dmz_host:$ec2_port',
    'HOST:PORT that 169.254.169.254:80 of guests leads to; with a loopback HOST, PORT at this host as the bridge has it',
  ),
  ipv6_backend: string(
    'rfc2462',
    "How guests' IPv6 addresses are made: rfc2462, from prefix and MAC, is the one there is",
  ),
  force_dhcp_release: boolean(false, 'End the DHCP lease of a fixed ip that is given back at once'),
});

export interface GatewayOptions {
  /** Whether networks belong to projects. */
  by_project: boolean;
  /** Whether DHCP tells guests the network's own DNS servers. */
  dhcp_dns: boolean;
  /** Whether a network of this host is this manager's, and in use. */
  serves: (network: Network) => boolean;
  /** Networks that a host served once and nobody has now. */
  unused: () => Promise<Network[]>;
  /** The port of this host that leads to the network's VPN instance, or null. */
  vpnForward: (network: Network) => VpnForward | null;
  onDhcpEvent: (event: DhcpEvent) => Promise<void>;
}

/** This host as the gateway of its networks: bridge with the gateway address, DHCP server, rules. */
export class Gateway {
  readonly #d: NetworkManagerDeps;
  readonly #o: GatewayOptions;
  readonly #flags: FlagValues<typeof gatewayFlags & typeof bridgePortFlags & typeof announceFlags>;
  /** Networks that are set up. */
  readonly #ready = new Set<number>();
  /** multi_host networks that had no address left for this host. */
  readonly #full = new Set<number>();
  /** By bridge. */
  readonly #dhcp = new Map<string, Coalesced>();
  readonly #setups = new Map<string, Coalesced>();
  /** A bridge is not taken away while it is set up. */
  readonly #turns = new Turns();
  readonly #events: Coalesced;
  /** Never two at once: the later reading of the database must be the later one in force. */
  readonly #rules: Coalesced;
  readonly #floating: FloatingHost;
  /** Why floating addresses are not as the database wants them, or null. */
  #floating_problem: string | null = null;
  /** Of the daemon: work that serves many callers does not end with one of them. */
  #signal = new AbortController().signal;
  #metadata = { host: '', port: 0 };
  /** Whether an address of its own may be claimed for this host, or given back. */
  #claim = true;

  constructor(deps: NetworkManagerDeps, options: GatewayOptions) {
    this.#d = deps;
    this.#o = options;
    this.#flags = deps.flags.read({ ...gatewayFlags, ...bridgePortFlags, ...announceFlags });
    this.#floating = new FloatingHost(deps);
    this.#rules = new Coalesced(async () => {
      this.#floating_problem = await this.#floating.bring((floating) => this.#applyFirewall(floating), this.#signal);
    });
    this.#events = new Coalesced(() => this.#d.driver.drainDhcpEvents((event) => this.#o.onDhcpEvent(event)));
  }

  /** Makes the host a gateway and sets up the networks that it has. @throws what the driver throws, and FlagsError */
  async initHost(signal: AbortSignal): Promise<void> {
    const { driver, log } = this.#d;
    await this.#bringHost(orEnd, signal);
    driver.watchDhcpEvents(() => {
      this.#events.run().catch((err: unknown) => log.warn({ err }, 'DHCP events wait for the next period'));
    }, signal);
  }

  async #bringHost(attempt: Attempt, signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    if (this.#flags.use_ipv6 && this.#flags.ipv6_backend !== 'rfc2462')
      throw new FlagsError(
        `--ipv6_backend=${this.#flags.ipv6_backend}: only rfc2462 is offered; guests that listen to router advertisements take no other address`,
      );
    this.#metadata = await metadataServer(this.#flags.metadata_dnat);
    await attempt('this host', () => this.#d.driver.initHost({ metadata: true }, signal));
    await this.#bringAll(attempt);
  }

  /** See HostKeeper. */
  async bring({ claim, attempt }: BringOptions, signal: AbortSignal): Promise<string | null> {
    this.#claim = claim;
    await this.#bringHost(attempt, signal);
    return this.#floating_problem;
  }

  /** Puts right what someone took away, and catches up with events. */
  async periodicTasks(): Promise<void> {
    try {
      await this.#d.driver.initHost({ metadata: true }, this.#signal);
    } finally {
      await this.#bringAll(orEnd);
    }
  }

  /** Networks of this host, oldest first. */
  async #networks(): Promise<Network[]> {
    return (await networksOfHost(this.#d.db, this.#d.host)).filter((network) => this.#o.serves(network));
  }

  /**
   * The host as the database has it: networks of its own set up, those of others or of nobody not there. A part that fails
   * does not hold the others up. @throws the first that failed
   */
  async #bringAll(orFail: Attempt): Promise<void> {
    const failures: Error[] = [];
    const attempt: Attempt = (what, work) =>
      orFail(what, work).catch((err: unknown) => {
        failures.push(err as Error);
        if (failures.length > 1) this.#d.log.error({ err, what }, 'more on this host is not as wanted');
      });
    await attempt('networks of others', () => this.#removeOthers());
    const networks = await this.#networks();
    for (const id of this.#ready) if (!networks.some((network) => network.id === id)) this.#ready.delete(id);
    const up: Network[] = [];
    for (const bridge of new Set(networks.map((network) => network.bridge)))
      await attempt(`bridge ${bridge}`, async () => up.push(...(await this.#setUp(bridge))));
    await attempt('rules and floating addresses', async () => {
      await this.#rules.run();
      for (const { id } of up) this.#ready.add(id);
    });
    await attempt('events of DHCP servers', () => this.#events.run());
    if (failures[0]) throw failures[0];
  }

  /** What the host has of networks that are others' by now, nobody's, or deleted, whichever process made it. */
  async #removeOthers(): Promise<void> {
    const { db, driver } = this.#d;
    // The host before the rows: what is on it by then has rows that say whose it is.
    const bridges = new Map((await driver.bridges(this.#signal)).map((one) => [one.name, one.own]));
    const served = new Set(await driver.dhcpBridges());
    const addresses = new Set((await driver.hostAddresses(this.#signal)).map((one) => `${one.address} ${one.device}`));
    const own = await this.#networks();
    const [live, free] = [await allNetworks(db), await this.#o.unused()];
    for (const { bridge } of own) {
      served.delete(bridge);
      for (const { address } of (await this.#specOf(own, bridge)).gateways) addresses.delete(`${address} ${bridge}`);
    }
    const is_free = ({ id }: Network) => free.some((one) => one.id === id);
    for (const network of [...live, ...(await deletedNetworks(db))]) {
      const { id, bridge } = network;
      if (own.some((one) => one.id === id) || !(bridges.has(bridge) || served.has(bridge))) continue;
      const idle = bridges.get(bridge) === true && !live.some((one) => one.bridge === bridge && !is_free(one));
      if (served.delete(bridge) || idle || addresses.has(`${await this.#ownAddress(network)} ${bridge}`))
        await this.#remove(network);
    }
    for (const bridge of served)
      await driver.removeNetwork({ bridge, interface: null, vlan: null, gateways: [], gateways_v6: [] }, this.#signal);
  }

  /** Another network on the same bridge keeps it; guests that are still plugged in keep it too. */
  #remove(gone: Network): Promise<void> {
    return this.#turns.take(async () => {
      const { db, driver, host, log } = this.#d;
      const networks = await this.#networks(); // a project may have claimed it in the meantime
      if (networks.some((network) => network.id === gone.id)) return;
      const { bridge } = gone;
      const spec = this.#spec([{ network: gone, address: await this.#ownAddress(gone) }]);
      if (!networks.some((network) => network.bridge === bridge)) {
        const left = await driver.removeNetwork(spec, this.#signal);
        if (left) log.warn({ ...left, network_id: gone.id }, 'network is gone, guests are still on its bridge');
      } else {
        const { gateways, gateways_v6 } = await this.#specOf(networks, bridge);
        const stay = new Set([...gateways, ...gateways_v6].map(({ address }) => address));
        const leave = [...spec.gateways, ...spec.gateways_v6].filter(({ address }) => !stay.has(address));
        const bound = leave.map(({ address, prefix }) => ({ device: bridge, address, prefix }));
        await driver.unbindAddresses(bound, this.#signal);
      }
      if (gone.deleted === 1 && this.#claim) await releaseHostIp(db, gone.id, host);
    });
  }

  /** When it returns, the network is set up and its DHCP server knows every guest that has an address by now. */
  async ready({ id, bridge }: Network): Promise<void> {
    if (this.#ready.has(id)) return this.#updateDhcp(bridge);
    let setup = this.#setups.get(bridge);
    if (!setup) this.#setups.set(bridge, (setup = new Coalesced(() => this.#takeIn(bridge))));
    await setup.run();
  }

  async #takeIn(bridge: string): Promise<void> {
    const networks = await this.#setUp(bridge);
    await this.#rules.run();
    for (const { id } of networks) this.#ready.add(id);
  }

  /** @returns the networks of the bridge */
  #setUp(bridge: string): Promise<Network[]> {
    return this.#turns.take(async () => {
      const networks = (await this.#networks()).filter((network) => network.bridge === bridge);
      if (networks.length === 0) return [];
      const addressed = [];
      for (const network of networks) addressed.push({ network, address: await this.#dhcpServer(network) });
      const spec = this.#spec(addressed);
      await this.#unbindFormer(spec, networks);
      const come = await this.#d.driver.ensureBridge(spec, this.#signal);
      announceNew(this.#d, this.#flags, bridge, come, this.#signal);
      await this.#updateDhcp(bridge);
      return networks;
    });
  }

  /** Takes off what this host was the gateway with, as its DHCP server knows, before that was changed: others may have it. */
  async #unbindFormer({ bridge, gateways }: BridgeSpec, networks: readonly Network[]): Promise<void> {
    const { driver } = this.#d;
    const former = new Set(await driver.dhcpAddresses(bridge));
    for (const { address } of gateways) former.delete(address);
    if (former.size === 0) return;
    const there = await driver.hostAddresses(this.#signal);
    const v4 = there.filter(({ device, address }) => device === bridge && former.has(address));
    const v6 = v4.flatMap(({ address }) => {
      const network = networks.find(({ cidr }) => holds(parseCidr(cidr), parseIpv4(address)));
      const own = network?.multi_host === 1 ? hostV6(network, address) : null;
      return own === null ? [] : [{ device: bridge, address: own, prefix: 64 }];
    });
    await driver.unbindAddresses([...v4, ...v6], this.#signal);
  }

  /** @param on networks of one bridge, with this host's address */
  #spec(on: readonly { network: Network; address: string | null }[]): BridgeSpec {
    const [{ network }] = on as [(typeof on)[0]];
    return {
      bridge: network.bridge,
      ...bridgePort(network, this.#flags),
      gateways: on.flatMap(({ network: { cidr, broadcast }, address }) =>
        address === null ? [] : [{ address, prefix: parseCidr(cidr).prefix, broadcast }],
      ),
      gateways_v6: on.flatMap(({ network, address }) => {
        const v6 = this.#flags.use_ipv6 ? hostV6(network, address) : null;
        return v6 === null ? [] : [{ address: v6, prefix: 64 }];
      }),
    };
  }

  /** Those networks' bridge as it is by now. @param networks this host's */
  async #specOf(networks: readonly Network[], bridge: string): Promise<BridgeSpec> {
    const on = networks.filter((network) => network.bridge === bridge);
    return this.#spec(await Promise.all(on.map(async (network) => ({ network, address: await this.#ownAddress(network) })))); // prettier-ignore
  }

  /** The address with which this host serves the network, or would; null where it has none. */
  async #ownAddress({ id, gateway, multi_host }: Network): Promise<string | null> {
    return multi_host === 0 ? gateway : hostIp(this.#d.db, id, this.#d.host);
  }

  /** The same, claimed where there is none yet; null where the network is full: no guest of this host is on it. */
  async #dhcpServer(network: Network): Promise<string | null> {
    const { db, host, log } = this.#d;
    if (network.multi_host === 0 || !this.#claim) return this.#ownAddress(network);
    try {
      const address = await claimHostIp(db, claimRange(network), host);
      this.#full.delete(network.id);
      return address;
    } catch (err) {
      if (!(err instanceof NoMoreAddresses)) throw err;
      if (!this.#full.has(network.id)) log.warn({ err }, 'this host does not serve a network that is full');
      this.#full.add(network.id);
      return null;
    }
  }

  /** The address of the host that serves a card. */
  async dhcpServerOf(network: Network, host: string | null): Promise<string | null> {
    return network.multi_host === 0 || host === null ? network.gateway : hostIp(this.#d.db, network.id, host);
  }

  #updateDhcp(bridge: string): Promise<void> {
    let update = this.#dhcp.get(bridge);
    if (!update) this.#dhcp.set(bridge, (update = new Coalesced(() => this.#tellDhcp(bridge))));
    return update.run();
  }

  async #tellDhcp(bridge: string): Promise<void> {
    const { db, driver, host } = this.#d;
    const served: DhcpNetwork[] = [];
    const guests = [];
    for (const network of (await this.#networks()).filter((one) => one.bridge === bridge)) {
      const dhcp_server = await this.#dhcpServer(network);
      if (dhcp_server === null) continue;
      served.push(this.#dhcpNetwork(network, dhcp_server));
      guests.push(...(await dhcpGuests(db, network.id, network.multi_host === 1 ? host : null)));
    }
    const [first, ...others] = served;
    if (!first) return;
    const leased = guests.filter((guest) => guest.leased === 1);
    await driver.updateDhcp([first, ...others], guests, leased, this.#signal);
  }

  #dhcpNetwork(network: Network, dhcp_server: string): DhcpNetwork {
    const range = guestRange(network);
    return {
      network_id: network.id,
      bridge: network.bridge,
      dhcp_server,
      gateway: dhcp_server,
      netmask: network.netmask,
      dhcp_start: formatIpv4(range.first),
      cidr_v6: this.#flags.use_ipv6 ? network.cidr_v6 : null,
      dns: this.#o.dhcp_dns ? dnsOf(network).filter((address) => !address.includes(':')) : [],
      lease_max: parseCidr(network.cidr).size, // the VPN instance's is one, outside the guests' range
    };
  }

  /** Brings floating addresses to what the database says by now. @throws BackendUnavailable with what is in the way */
  async bringFloating(): Promise<void> {
    await this.#rules.run();
    if (this.#floating_problem !== null) throw new BackendUnavailable(this.#floating_problem);
  }

  async #applyFirewall(floating: Forward[]): Promise<void> {
    const { driver } = this.#d;
    const { fixed_range, dmz_cidr, routing_source_ip, use_ipv6 } = this.#flags;
    const networks = await this.#networks();
    const vpns = networks.flatMap((network) => this.#o.vpnForward(network) ?? []);
    const metadata = this.#metadata;
    const source = sourceAddress(routing_source_ip);
    const { by_project } = this.#o;
    const state = { fixed_range, dmz_cidr, networks, by_project, floating, vpns, metadata, routing_source_ip: source };
    await driver.applyFirewall(networkFirewall(state, use_ipv6), this.#signal);
  }

  /**
   * Has the DHCP server forget cards whose addresses were given back, and ends their leases where the operator wants that.
   * What fails is logged: hosts file and leases follow from the database at the next period or launch.
   */
  async forgetLeases(network: Network, cards: readonly (Pick<FixedIp, 'address'> & { mac: string })[]): Promise<void> {
    if (this.#ready.has(network.id))
      await this.#updateDhcp(network.bridge).catch((err: unknown) => {
        this.#d.log.warn({ err, network_id: network.id }, 'DHCP server not told of guests that are gone');
      });
    if (!this.#flags.force_dhcp_release) return;
    for (const card of cards)
      await this.#d.driver.releaseLease(network.bridge, card, this.#signal).catch((err: unknown) => {
        this.#d.log.warn({ err, address: card.address }, 'lease not ended, it runs out by itself');
      });
  }
}

/** A host without a way out has --my_ip 127.0.0.1: nothing may leave with that address. */
const sourceAddress = (routing_source_ip: string): string | null =>
  routing_source_ip.startsWith('127.') ? null : routing_source_ip;

/** @throws FlagsError */
async function metadataServer(metadata_dnat: string): Promise<{ host: string; port: number }> {
  const [, name = '', digits = ''] = /^([^:]+):(\d{1,5})$/.exec(metadata_dnat) ?? [];
  const port = Number(digits);
  if (port < 1 || port > 65535)
    throw new FlagsError(
      `--metadata_dnat=${metadata_dnat}: not HOST:PORT (from --ec2_dmz_host and --ec2_port if not given)`,
    );
  try {
    return { host: (await lookup(name, { family: 4 })).address, port };
  } catch (err) {
    throw new FlagsError(`--metadata_dnat=${metadata_dnat}: no IPv4 address is known for ${name}: ${errorText(err)}`, {
      cause: err,
    });
  }
}

/** What DHCP says may be about a card that has gone; only a database that is away is worth another try. */
export const isAboutTheEvent = (err: unknown): boolean => err instanceof NovaError && err.http_status < 500;
