import type { WantedTable } from '../../common/linux/iptables_text.ts';

/** Rules of hosts whose networks belong to projects. */

/** A UDP port of this host that leads to a project's VPN instance. Addresses dotted IPv4. */
export interface VpnForward {
  address: string;
  port: number;
  private_address: string;
}

const VPN_PORT = 1194;

/** Of the nat table, for what comes in and for what the host itself sends. */
export const vpnInward = (vpns: readonly VpnForward[]): string[] =>
  vpns.map(
    ({ address, port, private_address }) =>
      `-d ${address}/32 -p udp -m udp --dport ${port} -j DNAT --to-destination ${private_address}:${VPN_PORT}`,
  );

/** Of the filter table's FORWARD. */
export const vpnAccepts = (vpns: readonly VpnForward[]): string[] =>
  vpns.map(({ private_address }) => `-d ${private_address}/32 -p udp -m udp --dport ${VPN_PORT} -j ACCEPT`);

export interface ProjectNetwork {
  bridge: string;
  project_id: string;
  cidr: string;
  cidr_v6?: string | null;
}

/**
 * This host has an address in each project's network, and so would route from one to another. It does not, in a table
 * that comes before the security groups' one: those say who reaches a guest, not which network exists for whom. Through
 * a floating address or a VPN forward projects reach each other as from anywhere. Nova left this to the groups. The DNS
 * server of a network knows its guests by name, and answers them and this host only.
 */
export function isolationTable(bridges: readonly ProjectNetwork[], layer: 'v4' | 'v6'): WantedTable {
  const forwarded = layer === 'v4' ? ' -m conntrack ! --ctstate DNAT' : '';
  const same = bridges.flatMap(({ bridge: from, project_id }) =>
    bridges.filter((other) => other.project_id === project_id).map(({ bridge: to }) => `-i ${from} -o ${to} -j RETURN`),
  );
  const dns = bridges.flatMap(({ bridge, cidr, cidr_v6 }) => {
    const range = layer === 'v4' ? cidr : cidr_v6;
    const ports = ['udp', 'tcp'].map((protocol) => `-p ${protocol} -m ${protocol} --dport 53`);
    return range ? ports.map((port) => `-d ${range} ! -i ${bridge} ${port} -j DROP`) : [];
  });
  return {
    table: 'mangle',
    chains: {
      INPUT: ['-i lo -j RETURN', ...dns],
      FORWARD: bridges.map(({ bridge }) => `-i ${bridge}${forwarded} -j $projects`),
      projects: [...same, ...bridges.map(({ bridge }) => `-o ${bridge} -j DROP`)],
    },
    shared: {},
    builtin: {
      INPUT: [{ rule: '-j $INPUT', place: 'any' }],
      FORWARD: [{ rule: '-j $FORWARD', place: 'any' }],
    },
  };
}
