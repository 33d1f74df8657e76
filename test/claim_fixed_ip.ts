import assert from 'node:assert/strict';
import type { NovaDb } from '../src/common/db/connect.ts';
import { claimFixedIpOf, type ClaimedIp, type ClaimRange } from '../src/common/db/fixed_ips.ts';

/** An address of a single network, served by `host` where it is a multi_host one. */
export async function claimFixedIp(
  db: NovaDb,
  range: ClaimRange,
  instance_id: number,
  host: string | null,
): Promise<ClaimedIp> {
  const claimed = await claimFixedIpOf(db, [{ range, server: host === null ? null : { host, range } }], instance_id);
  assert.ok(!('not_served' in claimed));
  return claimed;
}
