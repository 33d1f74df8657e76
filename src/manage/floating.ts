import { createFloatingIps, deleteFloatingIps } from '../common/db/floating_pool.ts';
import { listFloatingIps } from '../common/db/floating_ips.ts';
import { ec2InstanceId } from '../common/db/instances.ts';
import { poolAddresses, poolBlocks } from '../network/logic/floating.ts';
import { checkHost } from './known_host.ts';
import { alsoCalled, optional, text, verb, type Noun } from './noun.ts';
import { table } from './table.ts';

const range = alsoCalled(['ip_range'], text('Block such as 203.0.113.0/28, or addresses with commas between them'));

/** Source: Nova 2011.3 bin/nova-manage FloatingIpCommands. */
export const floatingCommands: Noun = {
  name: 'floating',
  summary: 'Floating addresses: the pool from which projects take public ones',
  verbs: {
    create: verb({
      summary: 'Add addresses to the pool, all or none',
      details:
        'Of a block larger than a /31 the first and the last address stay out. The network must bring these addresses ' +
        "to the host that has the instances' network (--public_interface).",
      args: { range, after_host: optional(text('Range, where a host stands before it as in Nova 2011.2')) },
      run: async (m, { range, after_host }) => {
        if (after_host !== undefined)
          m.warn(`${range} is left out: the host of an address is that of its instance's network`);
        const addresses = await createFloatingIps(m.db, (networks) => poolAddresses(after_host ?? range, networks));
        const [first, last] = [addresses[0]?.address, addresses.at(-1)?.address];
        m.out(addresses.length === 1 ? `${first} added` : `${addresses.length} addresses added, ${first} to ${last}`);
      },
    }),
    delete: verb({
      summary: 'Take addresses out of the pool, all or none; refused while one leads to an instance',
      args: { range },
      run: async (m, { range }) => {
        const gone = await deleteFloatingIps(m.db, poolBlocks(range));
        for (const { address, project_id } of gone)
          if (project_id !== null) m.warn(`${address} was project ${project_id}'s`);
        m.out(gone.length === 1 ? `${gone[0]?.address} deleted` : `${gone.length} addresses deleted`);
      },
    }),
    list: verb({
      summary: 'Print host, address, instance, fixed address and project',
      args: { host: optional(text('Only those that this host answers for')) },
      run: async (m, { host }) => {
        const rows = await listFloatingIps(m.db, host === undefined ? {} : { host });
        if (host !== undefined) await checkHost(m, host, rows);
        const cells = rows.map((one) => [
          one.host ?? 'None',
          one.address,
          one.instance_id === null ? 'None' : ec2InstanceId(one.instance_id),
          one.fixed_address ?? 'None',
          one.project_id ?? 'None',
        ]);
        for (const line of table([['host', 'address', 'instance', 'fixed', 'project'], ...cells])) m.out(line);
      },
    }),
  },
};
