import { providerRules, type ProviderRule } from './provider_fw_rules.ts';
import { hostIp } from './fixed_ips.ts';
import type { Db } from './connect.ts';
import { filterRulesOf, type FilterRule } from './security_group_rules.ts';

/** An address of a guest's network card; cards are in the order in which the guest has them. */
export interface FirewallCard {
  instance_id: number;
  mac: string;
  address: string;
  cidr: string;
  cidr_v6: string | null;
  gateway_v6: string | null;
  /** Who may answer its DHCP requests; null: nobody. */
  dhcp_server: string | null;
}

/** All that decides what reaches the guests of one host; read whole each time. */
export interface FirewallRows {
  cards: FirewallCard[];
  /** Groups of the guests that have cards. */
  links: { instance_id: number; security_group_id: number }[];
  /** Of those groups. */
  rules: FilterRule[];
  /** What no guest is sent, whatever its groups say. */
  provider: ProviderRule[];
  /** Addresses, on any host, of the members of groups that the rules let in. */
  members: { security_group_id: number; address: string; mac: string; cidr_v6: string | null }[];
}

/** The guests of a host, whatever their state: a card counts from when it has its address until it gave it back. */
export async function firewallRows(db: Db, host: string): Promise<FirewallRows> {
  const rows = await db
    .selectFrom('instances as i')
    .innerJoin('fixed_ips as ip', 'ip.instance_id', 'i.id')
    .innerJoin('virtual_interfaces as vif', 'vif.id', 'ip.virtual_interface_id')
    .innerJoin('networks as n', 'n.id', 'ip.network_id')
    .select(['i.id as instance_id', 'vif.address as mac', 'ip.address', 'n.id as network_id', 'n.multi_host'])
    .select(['n.cidr', 'n.cidr_v6', 'n.gateway', 'n.gateway_v6'])
    .where('i.host', '=', host)
    .where('i.deleted', '=', 0)
    .where('ip.allocated', '=', 1)
    .orderBy('vif.id')
    .orderBy('ip.id')
    .execute();
  const servers = new Map<number, string | null>();
  for (const { network_id, multi_host, gateway } of rows)
    if (!servers.has(network_id))
      servers.set(network_id, multi_host === 1 ? await hostIp(db, network_id, host) : gateway);
  const guests = new Set(rows.map((row) => row.instance_id));
  const all_links = await db
    .selectFrom('security_group_instance_association as link')
    .innerJoin('instances as i', 'i.id', 'link.instance_id')
    .select(['link.instance_id', 'link.security_group_id'])
    .where('i.host', '=', host)
    .where('i.deleted', '=', 0)
    .where('link.deleted', '=', 0)
    .orderBy('link.security_group_id')
    .execute();
  const links = all_links.filter((link) => guests.has(link.instance_id));
  const rules = await filterRulesOf(db, [...new Set(links.map((link) => link.security_group_id))]);
  const sources = [...new Set(rules.map((rule) => rule.group_id))].filter((id) => id !== null);
  return {
    cards: rows.map(({ network_id, multi_host: _multi_host, gateway: _gateway, ...card }) => ({
      ...card,
      dhcp_server: servers.get(network_id) ?? null,
    })),
    links,
    rules,
    provider: await providerRules(db),
    members: await membersOf(db, sources),
  };
}

async function membersOf(db: Db, group_ids: readonly number[]): Promise<FirewallRows['members']> {
  if (group_ids.length === 0) return [];
  return db
    .selectFrom('security_group_instance_association as link')
    .innerJoin('instances as i', 'i.id', 'link.instance_id')
    .innerJoin('fixed_ips as ip', 'ip.instance_id', 'i.id')
    .innerJoin('virtual_interfaces as vif', 'vif.id', 'ip.virtual_interface_id')
    .innerJoin('networks as n', 'n.id', 'ip.network_id')
    .select(['link.security_group_id', 'ip.address', 'vif.address as mac', 'n.cidr_v6'])
    .where('link.security_group_id', 'in', [...group_ids])
    .where('link.deleted', '=', 0)
    .where('i.deleted', '=', 0)
    .where('ip.allocated', '=', 1)
    .orderBy('ip.id')
    .execute();
}
