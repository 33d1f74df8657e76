import { randomInt } from 'node:crypto';
import { textIn } from '../../common/clock.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import {
  claimFixedIpOf,
  endQuarantine,
  fixedIpAt,
  leftoverInstanceIds,
  releaseAddress,
  releaseFixedIps,
  setLeased,
  type ClaimRange,
  type FixedIp,
} from '../../common/db/fixed_ips.ts';
import { eui64Address } from '../../common/eui64.ts';
import { networkById, type Network } from '../../common/db/networks.ts';
import { cardsOfInstance, type Card } from '../../common/db/virtual_interfaces.ts';
import { FixedIpNotFound, InvalidInput, NoMoreAddresses } from '../../common/errors.ts';
import { defineFlags, integer, type Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { NetworkInfo } from '../../common/network_info.ts';
import { whyNoVpnAddress } from './vpn_address.ts';
import { formatIpv4, generateMac, guestRange, parseCidr, parseIpv4, type GuestRange } from '../logic/addresses.ts';

export const quarantineFlags = defineFlags({
  fixed_ip_disassociate_timeout: integer(
    600,
    'Seconds until a released fixed ip is given again, unless its lease ends',
    { min: 0 },
  ),
});

export interface AddressBookDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  host: string;
  /** Whether a released address is not given again until its lease ends, or --fixed_ip_disassociate_timeout; else at once. */
  quarantine: boolean;
  /** Who answers DHCP for a card; null: nobody. */
  dhcpServer: (network: Network, card: Card) => Promise<string | null>;
}

/** Of the network's row. */
export const dnsOf = ({ dns1, dns2 }: Network): string[] => [dns1, dns2].filter((dns) => dns !== null);

/** What may be claimed of a network. @param vpn only the address that its VPN forward leads to. @throws InvalidInput where it has none */
export function claimRange(network: Network, vpn = false): ClaimRange {
  const between = vpn ? vpnRange(network) : guestRange(network);
  const makeMac = () => generateMac(() => randomInt(2 ** 32) / 2 ** 32);
  const range = { network_id: network.id, cidr: network.cidr, ...between, format: formatIpv4, makeMac };
  return network.project_id === null ? range : { ...range, project_id: network.project_id };
}

function vpnRange({ cidr, vpn_private_address }: Network): GuestRange {
  if (vpn_private_address === null)
    throw new InvalidInput(`network ${cidr} has no VPN address: only networks of VlanManager have one`);
  const number = parseIpv4(vpn_private_address);
  return { first: number, last: number, except: null };
}

/** Who has which address: the part that all network managers have in common. */
export class AddressBook {
  readonly #d: AddressBookDeps;
  readonly #timeout_s: number;
  constructor(deps: AddressBookDeps) {
    this.#d = deps;
    this.#timeout_s = deps.flags.read(quarantineFlags).fixed_ip_disassociate_timeout;
  }

  /**
   * See NetworkRpc.allocateForInstance.
   * @param host that serves the card where the network is a multi_host one
   * @returns the one of `networks` that it is on, or will be when `host` is asked
   */
  async allocate(
    networks: readonly Network[],
    instance_id: number,
    { host, vpn = false }: { host: string | null; vpn?: boolean },
  ): Promise<Network> {
    const claims = networks.map((network) => ({
      range: claimRange(network, vpn),
      server:
        network.multi_host === 1 && host !== null
          ? { host, range: host === this.#d.host ? claimRange(network) : null }
          : null,
    }));
    const { db, quarantine } = this.#d;
    const wait_s = quarantine ? this.#timeout_s : 0;
    const claimed = await claimFixedIpOf(db, claims, instance_id).catch(async (err: unknown) => {
      const why = vpn && err instanceof NoMoreAddresses ? await whyNoVpnAddress(db, networks, wait_s) : null;
      throw why === null ? err : new NoMoreAddresses(why, { cause: err });
    });
    const { network_id } = claimed;
    if (!('not_served' in claimed)) {
      const { address, mac } = claimed;
      this.#d.log.info({ instance_id, network_id, address, mac }, 'fixed ip allocated');
    }
    return networkById(this.#d.db, network_id);
  }

  async release(instance_id: number): Promise<FixedIp[]> {
    const rows = await releaseFixedIps(this.#d.db, instance_id, this.#d.quarantine);
    for (const { address } of rows) this.#d.log.info({ instance_id, address }, 'fixed ip given back');
    return rows;
  }

  async releaseAddress(address: string): Promise<void> {
    const row = await releaseAddress(this.#d.db, address, this.#d.quarantine);
    if (row) this.#d.log.info({ instance_id: row.instance_id, address }, 'fixed ip given back');
  }

  /** DHCP gave the address out, or its lease ended. @throws FixedIpNotFound; InvalidInput for a card that does not have it */
  async lease(address: string, mac: string | undefined, leased: boolean): Promise<void> {
    const row = await fixedIpAt(this.#d.db, address);
    if (!row) throw new FixedIpNotFound(`no instance has the address ${address}`);
    if (mac !== undefined && row.mac !== null && row.mac !== mac.toLowerCase())
      throw new InvalidInput(`address ${address} belongs to the card ${row.mac}, not to ${mac}`);
    if (leased && row.leased === 1) return; // a renewal, or one of all that dnsmasq names after a SIGHUP: nothing to write
    await setLeased(this.#d.db, row.network_id, address, leased);
  }

  /** Ends quarantines, and gives back what instances left that are gone: a host that was cut off may have their guests still. */
  async tidy(): Promise<void> {
    const { db, log, quarantine } = this.#d;
    const before = textIn(-this.#timeout_s);
    for (const instance_id of await leftoverInstanceIds(db, before)) {
      log.warn({ instance_id }, 'instance is gone and still had an address');
      await this.release(instance_id);
    }
    const freed = await endQuarantine(db, quarantine ? before : textIn(0));
    if (freed > 0) log.info({ freed }, 'fixed ips are free again');
  }

  async info(instance_id: number): Promise<NetworkInfo[]> {
    const cards = await cardsOfInstance(this.#d.db, instance_id);
    return Promise.all(cards.map((card) => this.#card(card)));
  }

  async #card(card: Card): Promise<NetworkInfo> {
    const network = await networkById(this.#d.db, card.network_id);
    const dhcp_server = await this.#d.dhcpServer(network, card);
    return {
      network_id: network.id,
      network_label: network.label,
      bridge: network.bridge,
      vlan: network.vlan,
      bridge_interface: network.bridge_interface,
      mac: card.mac,
      address: card.address,
      netmask: network.netmask,
      prefix: parseCidr(network.cidr).prefix,
      gateway: network.multi_host === 1 && dhcp_server !== null ? dhcp_server : network.gateway,
      broadcast: network.broadcast,
      dhcp_server,
      dns: dnsOf(network),
      injected: network.injected === 1 && dhcp_server === null,
      address_v6: network.cidr_v6 === null ? null : eui64Address(network.cidr_v6, card.mac),
      gateway_v6: network.gateway_v6,
      multi_host: network.multi_host === 1,
    };
  }
}
