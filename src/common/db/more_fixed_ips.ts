import { nowText } from '../clock.ts';
import { Conflict, InvalidInput } from '../errors.ts';
import type { Dialect, Tx } from './connect.ts';
import { holdNetwork, insertFree, type FixedIp, type FreeRange } from './fixed_ips.ts';
import { endAssociations } from './floating_associations.ts';
import { ec2InstanceId } from './instances.ts';

/**
 * Further addresses of a card. The oldest one is the card's own, which DHCP gives; the others its user configures. Who
 * calls holds the instance's row, so that nobody else changes its addresses meanwhile.
 */

/** @param most addresses that a card may have. @returns dotted IPv4. @throws InvalidInput, Conflict, NoMoreAddresses */
export async function addFixedIp(
  tx: Tx,
  dialect: Dialect,
  range: FreeRange,
  instance_id: number,
  most: number,
): Promise<string> {
  await holdNetwork(tx, dialect, range);
  const [first, ...others] = await tx
    .selectFrom('fixed_ips')
    .select(['virtual_interface_id', 'host'])
    .where('instance_id', '=', instance_id)
    .where('network_id', '=', range.network_id)
    .where('allocated', '=', 1)
    .orderBy('id')
    .execute();
  const id = ec2InstanceId(instance_id);
  if (!first)
    throw new InvalidInput(
      `${id} has no card on network ${range.network_id}, ${range.cidr}; cards come with the launch, and only further addresses after it`,
    );
  if (others.length + 1 >= most)
    throw new Conflict(`the card of ${id} on ${range.cidr} has ${others.length + 1} addresses and may have ${most}`);
  const { virtual_interface_id, host } = first;
  return range.format(await insertFree(tx, range, { instance_id, virtual_interface_id, allocated: 1, host }));
}

/**
 * Takes an address from an instance: into quarantine, or free at once where no DHCP lease can be about.
 * @throws InvalidInput when it is not the instance's; Conflict for the only address of a card, without which nothing would judge what it sends
 */
export async function removeFixedIp(
  tx: Tx,
  instance_id: number,
  address: string,
  quarantine: boolean,
): Promise<FixedIp> {
  const id = ec2InstanceId(instance_id);
  const all = await tx
    .selectFrom('fixed_ips')
    .selectAll()
    .where('instance_id', '=', instance_id)
    .where('allocated', '=', 1)
    .execute();
  const row = all.find((one) => one.address === address);
  if (!row) throw new InvalidInput(`${id} has no address ${address}`);
  const rest = all.filter((one) => one.virtual_interface_id === row.virtual_interface_id && one.id !== row.id);
  if (rest.length === 0)
    throw new Conflict(`${address} is the only address of its card of ${id}; add another first, or terminate ${id}`);
  const now = nowText();
  const given_up = { allocated: 0, instance_id: null, virtual_interface_id: null, released_at: now, updated_at: now };
  if (quarantine) await tx.updateTable('fixed_ips').set(given_up).where('id', '=', row.id).execute();
  else await tx.deleteFrom('fixed_ips').where('id', '=', row.id).execute();
  await endAssociations(tx, [row.id]);
  return row;
}
