/** One network card of an instance, with all that a hypervisor, a firewall and an injected file need to know. */
export interface NetworkInfo {
  network_id: number;
  network_label: string;
  /** Bridge on the compute host, e.g. `br100`. */
  bridge: string;
  /** 802.1q id, or null on flat networks. */
  vlan: number | null;
  /** Interface that carries it on every host; null: the one that each host's flags name. */
  bridge_interface: string | null;
  /** Lower case, colons. */
  mac: string;
  /** Dotted IPv4 of the guest. */
  address: string;
  /** Dotted; `prefix` is the same as a length. */
  netmask: string;
  prefix: number;
  gateway: string | null;
  broadcast: string;
  /** Who answers DHCP for this card; null when nobody does (Flat). */
  dhcp_server: string | null;
  dns: string[];
  /** Write the address into the guest's disk, since there is no DHCP. */
  injected: boolean;
  address_v6: string | null;
  gateway_v6: string | null;
  multi_host: boolean;
}

/** What a bridge on a compute host is made from. */
export type NetworkPlace = Pick<NetworkInfo, 'bridge' | 'bridge_interface' | 'vlan'>;

/** The part of the network manager that runs inside nova-compute (Nova: `setup_compute_network`). */
export interface ComputeNetwork {
  /** Makes sure that the bridges of these cards are on this host. Running it again changes nothing. */
  setupComputeNetwork(nics: readonly NetworkPlace[], signal: AbortSignal): Promise<void>;
  /**
   * Takes away the bridges, and the rules, of projects' networks that no guest of this host is on, and makes sure of the
   * rules of the others. `look` is asked while no bridge is being set up, so that it knows of every guest that one was
   * set up for.
   */
  leaveNetworks(look: () => Promise<GuestBridges>, signal: AbortSignal): Promise<void>;
}

/** What a host's guests are on, and what they are not. */
export interface GuestBridges {
  /** Bridges. */
  used: string[];
  left: LeftNetwork[];
}

/** A project's network without guests on this host. */
export interface LeftNetwork extends NetworkPlace {
  /** Its bridge is a matter of this host's nova-network. */
  served_here: boolean;
}
