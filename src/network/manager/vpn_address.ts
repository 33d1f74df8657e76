import type { NovaDb } from '../../common/db/connect.ts';
import { fixedIpAt } from '../../common/db/fixed_ips.ts';
import { ec2InstanceId } from '../../common/db/instances.ts';
import type { Network } from '../../common/db/networks.ts';

/**
 * Why none of a project's networks has its VPN address to give, or null where one has.
 * @param quarantine_s seconds that an address which was given back waits at the most
 */
export async function whyNoVpnAddress(
  db: NovaDb,
  networks: readonly Pick<Network, 'cidr' | 'vpn_private_address'>[],
  quarantine_s: number,
): Promise<string | null> {
  const reasons: string[] = [];
  for (const { cidr, vpn_private_address: address } of networks) {
    const row = address === null ? undefined : await fixedIpAt(db, address);
    if (!row) return null;
    const what = `the VPN address ${address} of network ${cidr}`;
    if (row.instance_id !== null) reasons.push(`${what} is that of ${ec2InstanceId(row.instance_id)}`);
    else if (row.reserved === 1) reasons.push(`${what} is reserved; nova-manage fixed unreserve ${address} frees it`);
    else {
      const until = new Date(Date.parse(row.released_at ?? row.created_at) + quarantine_s * 1000).toISOString();
      reasons.push(
        `${what} was given back a short while ago; it is free when its lease ends, at the latest at ${until}`,
      );
    }
  }
  return reasons.length === 0 ? null : reasons.join('; ');
}
