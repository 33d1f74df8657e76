import { nowText } from '../../src/common/clock.ts';
import type { NovaDb } from '../../src/common/db/connect.ts';
import { formatIpv4, ipv4Number } from '../../src/network/logic/addresses.ts';
import { aFixedIp, anInstance } from '../builders.ts';

export interface Crowd {
  network_id: number;
  /** Where the guests are to be. */
  host: string;
  instances: number;
  /** Over all of them together; each instance has a group of its own, and the rules go round. */
  rules: number;
  /** The address of the first. */
  first: string;
}

const SHUTOFF = { vm_state: 'stopped', power_state: 5 };

/**
 * Rows of instances that no hypervisor runs, with cards and security groups `HOST-0`, `HOST-1`, ... of project apollo: to
 * the firewall they are guests as others are. @returns ids of the groups
 */
export async function aCrowd(db: NovaDb, { network_id, host, instances, rules, first }: Crowd): Promise<number[]> {
  const created_at = nowText();
  const groups: number[] = [];
  for (let n = 0; n < instances; n++) {
    const instance_id = await anInstance(db, { host, ...SHUTOFF });
    await aFixedIp(db, { network_id, instance_id, address: formatIpv4((ipv4Number(first) ?? 0) + n) });
    const name = `${host}-${n}`;
    const group = { name, description: name, user_id: 'ann', project_id: 'apollo', created_at };
    const { id } = await db.insertInto('security_groups').values(group).returning('id').executeTakeFirstOrThrow();
    const link = { instance_id, security_group_id: id, created_at };
    await db.insertInto('security_group_instance_association').values(link).execute();
    groups.push(id);
  }
  const rows = Array.from({ length: rules }, (_, n) => ({
    parent_group_id: groups[n % instances] as number,
    protocol: 'tcp',
    from_port: 1024 + n,
    to_port: 1024 + n,
    cidr: `198.51.${n % 250}.0/24`,
    created_at,
  }));
  for (let at = 0; at < rows.length; at += 1000)
    await db.insertInto('security_group_rules').values(rows.slice(at, at + 1000)).execute(); // prettier-ignore
  return groups;
}
