import { nowText } from '../clock.ts';
import { writing, type Db, type NovaDb } from './connect.ts';

/** Traffic that is dropped before any security group of a guest is asked. */
export interface ProviderRule {
  /** tcp, udp or icmp. */
  protocol: string;
  /** Ports, or type and code of ICMP; -1 and null are any. */
  from_port: number | null;
  to_port: number | null;
  /** IPv4 or IPv6. */
  cidr: string;
}

/** A block is these rows for its range. Source: Nova 2011.3 nova/api/ec2/admin.py, block_external_addresses. */
const BLOCK = [
  { protocol: 'tcp', from_port: 1, to_port: 65535 },
  { protocol: 'udp', from_port: 1, to_port: 65535 },
  { protocol: 'icmp', from_port: -1, to_port: null },
] as const;

export const providerRules = (db: Db): Promise<ProviderRule[]> =>
  db
    .selectFrom('provider_fw_rules')
    .select(['protocol', 'from_port', 'to_port', 'cidr'])
    .where('deleted', '=', 0)
    .orderBy('id')
    .execute();

/** @returns how many rules were added: 0 when the range was blocked already */
export async function blockRange(db: NovaDb, cidr: string): Promise<number> {
  return writing(db, async (tx) => {
    let added = 0;
    for (const rule of BLOCK) {
      const row = await tx
        .insertInto('provider_fw_rules')
        .values({ ...rule, cidr, created_at: nowText() })
        .onConflict((c) => c.doNothing())
        .returning('id')
        .executeTakeFirst();
      if (row) added++;
    }
    return added;
  });
}

/** @returns how many rules were taken away */
export async function unblockRange(db: Db, cidr: string): Promise<number> {
  const result = await db
    .updateTable('provider_fw_rules')
    .set({ deleted: 1, deleted_at: nowText() })
    .where('cidr', '=', cidr)
    .where('deleted', '=', 0)
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}
