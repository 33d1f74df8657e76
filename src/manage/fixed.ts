import { textIn } from '../common/clock.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { fixedIpAt } from '../common/db/fixed_ips.ts';
import { listFixedIps, reserveFixedIp, unreserveFixedIp, type FixedIpListed } from '../common/db/operator_fixed_ips.ts';
import { ec2InstanceId } from '../common/db/instances.ts';
import { allNetworks } from '../common/db/networks.ts';
import { liveServices } from '../common/db/services.ts';
import { Conflict, NetworkNotFound } from '../common/errors.ts';
import { holds, parseCidr, parseIpv4 } from '../network/logic/addresses.ts';
import { checkHost } from './known_host.ts';
import { optional, text, verb, type Manage, type Noun } from './noun.ts';
import { table } from './table.ts';

const address = text('Address, such as 10.0.0.9');

/** Source: Nova 2011.3 bin/nova-manage FixedIpCommands. */
export const fixedCommands: Noun = {
  name: 'fixed',
  summary: 'Fixed addresses: in use, reserved, or given back a short while ago',
  verbs: {
    list: verb({
      summary: 'Print network, address, MAC, host name, host, instance and state',
      details: 'An address that has no line is free. `waiting`: given back, and not given again until its lease ends.',
      args: { host: optional(text('Only those of instances on this host')) },
      run: async (m, { host }) => {
        const heading = ['network', 'IP address', 'MAC address', 'hostname', 'host', 'instance', 'state'];
        const rows = await listFixedIps(m.db, host);
        if (host !== undefined && rows.length === 0) await checkHost(m, host, []);
        for (const line of table([heading, ...rows.map(listed)])) m.out(line);
      },
    }),
    reserve: verb({
      summary: 'Keep an address from instances',
      args: { address },
      run: async (m, { address }) => {
        const address_number = parseIpv4(address);
        const network = (await allNetworks(m.db)).find(({ cidr }) => holds(parseCidr(cidr), address_number));
        if (!network) throw new NetworkNotFound(`no network has the address ${address}`);
        await reserveFixedIp(m.db, { network_id: network.id, address, address_number });
        m.out(`${address} of ${network.cidr} is reserved`);
      },
    }),
    unreserve: verb({
      summary: 'Let instances have a reserved address again',
      details: "Of a multi_host network also the gateway's address of a host whose nova-network is down for good.",
      args: { address },
      run: async (m, { address }) => {
        parseIpv4(address);
        await unreserveFixedIp(m.db, address, await goneHost(m, address));
        m.out(`${address} is free`);
      },
    }),
  },
};

/** The host whose own address this is, or null. @throws Conflict while its nova-network lives, which would keep using it */
async function goneHost(m: Manage, address: string): Promise<string | null> {
  const host = (await fixedIpAt(m.db, address))?.host ?? null;
  if (host === null) return null;
  const since = textIn(-m.flags.read(serviceFlags).service_down_time);
  const live = (await liveServices(m.db, since, 'network')).some((service) => service.host === host);
  if (live)
    throw new Conflict(
      `${address} is the gateway of guests on host ${host}, whose nova-network is up; stop it there first, then: nova-manage network take_down`,
    );
  return host;
}

function listed(row: FixedIpListed): string[] {
  const state = row.reserved ? 'reserved' : !row.allocated ? 'waiting' : row.leased ? 'leased' : 'allocated';
  return [
    row.cidr,
    row.address,
    row.mac ?? 'None',
    row.hostname ?? 'None',
    row.instance_host ?? 'None',
    row.instance_id === null ? 'None' : ec2InstanceId(row.instance_id),
    state,
  ];
}
