import { defineFlags, integer } from '../../common/flags.ts';
import type { DhcpEvent, DhcpHost, DhcpNetworks } from '../logic/dhcp_hosts.ts';
import type { Firewall, Forward } from '../logic/firewall.ts';

/** A lease outlives the address that was given back, and dnsmasq gives it to no other card meanwhile: managers need it, too. */
export const leaseFlags = defineFlags({
  dhcp_lease_time: integer(120, 'Seconds that a DHCP lease holds', { min: 120 }),
});

/** An 802.1q network on an interface of the host. */
export interface Vlan {
  /** 1 to 4094. */
  id: number;
  parent: string;
}

/** A bridge as a host needs it. */
export interface BridgeSpec {
  /** At most 15 characters, as any Linux interface. */
  bridge: string;
  /** Interface to put into it, which then lends it its addresses and routes; null: none. */
  interface: string | null;
  /** That interface carries this VLAN of `parent`, and is made where it is not there; null: it is the operator's. */
  vlan: Vlan | null;
  /** Our own addresses on it, where this host is the gateway of its networks; none on a host that only runs guests. */
  gateways: readonly { address: string; prefix: number; broadcast: string }[];
  /** The same for IPv6, `fd00::1`; none without. */
  gateways_v6: readonly { address: string; prefix: number }[];
}

/** An address on an interface of the host. */
export interface BoundAddress {
  device: string;
  address: string;
  prefix: number;
}
export interface HostAddress extends BoundAddress {
  /** It was put there by this driver, in whichever process. */
  marked: boolean;
}

/** What is left after takeDown, because guests are plugged into it. */
export interface LeftOver {
  bridge: string;
  /** Interfaces that are still in it. */
  ports: string[];
}

/**
 * What the network managers ask of a host. Every method looks at what is there first: running it again changes nothing.
 * Errors: BackendUnavailable when the host lacks a program, a right or a kernel feature (the text says which);
 * ProcessExecutionError when a command failed; InvalidInput when what was asked for cannot be.
 */
export interface NetworkDriver {
  /** Checks programs and rights, turns forwarding on, puts 169.254.169.254 on `lo` where `metadata`. Before work is taken. */
  initHost(options: { metadata: boolean }, signal: AbortSignal): Promise<void>;
  /** @returns those of the IPv4 gateway addresses that were not there before */
  ensureBridge(spec: BridgeSpec, signal: AbortSignal): Promise<string[]>;
  /**
   * When it returns, the DHCP server of these networks' bridge runs and has been told of exactly these guests.
   * @param leased those of them that DHCP answers are out to: what a server that starts now must know
   */
  updateDhcp(
    networks: DhcpNetworks,
    hosts: readonly DhcpHost[],
    leased: readonly DhcpHost[],
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Hands out what DHCP servers told since the last call, in order; a bridge's events are forgotten once all of them were
   * handled, so one may come twice.
   */
  drainDhcpEvents(handle: (event: DhcpEvent) => Promise<void>): Promise<void>;
  /** Calls `changed` soon after an event on any bridge, until the signal. */
  watchDhcpEvents(changed: () => void, signal: AbortSignal): void;
  /** Ends a lease as if the guest had released it, so that its address is free before the lease time is over. */
  releaseLease(bridge: string, host: Pick<DhcpHost, 'mac' | 'address'>, signal: AbortSignal): Promise<void>;
  /** Makes this daemon's rules on the host exactly these, other programs' untouched. */
  applyFirewall(firewall: Firewall, signal: AbortSignal): Promise<void>;
  /** The bridges whose traffic this daemon's rules on the host let through now. */
  bridgesLetThrough(signal: AbortSignal): Promise<string[]>;
  /** The floating addresses that this daemon's rules on the host lead to guests now. */
  forwards(signal: AbortSignal): Promise<Forward[]>;
  /** All of IPv4 that the host has, loopback aside. */
  hostAddresses(signal: AbortSignal): Promise<HostAddress[]>;
  /** Where addresses of an interface belong: itself, or the bridge that it is in. @throws InvalidInput when it is not there */
  addressDevice(name: string, signal: AbortSignal): Promise<string>;
  /** Puts addresses (/32) on an interface, with a mark; one that is there stays as it is. */
  bindAddresses(device: string, addresses: readonly string[], signal: AbortSignal): Promise<void>;
  /** Takes addresses off; one that went meanwhile is as wanted. */
  unbindAddresses(addresses: readonly BoundAddress[], signal: AbortSignal): Promise<void>;
  /** Tells the neighbours by ARP that these addresses are here now. What the host lacks for it is logged. */
  announce(device: string, addresses: readonly string[], signal: AbortSignal): Promise<void>;
  /** Ends connections that still go through these addresses by a rule that is gone. What the host lacks for it is logged. */
  endFlows(addresses: readonly string[], signal: AbortSignal): Promise<void>;
  /** The bridges on the host; `own` ones were made by a driver. */
  bridges(signal: AbortSignal): Promise<{ name: string; own: boolean }[]>;
  /** Our own addresses at which the bridge's DHCP server answers, whichever process started it; none without one. */
  dhcpAddresses(bridge: string): Promise<string[]>;
  /** Bridges that a DHCP server of ours runs for, or ran for and left files. */
  dhcpBridges(): Promise<string[]>;
  /** Takes away what this host made for a bridge: its DHCP server, its VLAN, and itself unless a guest is in it. */
  removeNetwork(spec: BridgeSpec, signal: AbortSignal): Promise<LeftOver | null>;
  /** Takes away all that this host made for networks: DHCP servers, addresses, rules, and bridges with no guest in them. */
  takeDown(bridges: readonly BridgeSpec[], signal: AbortSignal): Promise<LeftOver[]>;
}
