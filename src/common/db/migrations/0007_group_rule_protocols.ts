import type { Transaction } from 'kysely';
import { sql } from '../kysely.ts';
import type { Schema } from '../schema.ts';

/** A source group without a protocol was one row, shown as three rules: now it is three, which can be revoked. */
export async function up(tx: Transaction<Schema>): Promise<void> {
  const whole = sql`from security_group_rules where protocol is null and deleted = 0`;
  for (const protocol of ['tcp', 'udp'])
    await sql`insert into security_group_rules (created_at, deleted, parent_group_id, protocol, from_port, to_port, group_id)
      select created_at, deleted, parent_group_id, ${sql.lit(protocol)}, 1, 65535, group_id ${whole}`.execute(tx);
  await sql`update security_group_rules set protocol = 'icmp', from_port = -1, to_port = -1 where protocol is null`.execute(
    tx,
  );
}
