import { loadClass } from '../common/class_names.ts';
import { textIn } from '../common/clock.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { allNetworks, deleteNetwork, guestsOf, moveNetwork, networkByCidr } from '../common/db/networks.ts';
import { writing } from '../common/db/connect.ts';
import { castJob } from '../common/db/jobs.ts';
import { getProject } from '../common/db/projects.ts';
import { giveNetwork, takeNetwork } from '../common/db/project_networks.ts';
import { allServices, liveServices } from '../common/db/services.ts';
import { InvalidInput } from '../common/errors.ts';
import { silentLog } from '../common/log.ts';
import { MemoryBus } from '../common/rpc/memory_bus.ts';
import { NETWORK_MANAGERS } from '../network/classes.ts';
import type { PlannedNetwork } from '../network/logic/plan_networks.ts';
import {
  createNetworks,
  createNetworksFlags,
  createVlanNetworks,
  type CreateNetworks,
  type CreateVlanNetworks,
} from '../network/manager/create_networks.ts';
import { networkClient } from '../network/rpc.ts';
import { takeDownHost } from '../network/take_down.ts';
import { networkDoctor } from './network_doctor.ts';
import { alsoCalled, integer, named, onOff, optional, text, verb, yesNo, type Manage, type Noun } from './noun.ts';
import { table } from './table.ts';

const cidr = text('Block of the network, such as 10.0.0.0/24');

const createArgs = {
  fixed_range: alsoCalled(['fixed_range_v4'], text('Block that networks are cut from, such as 10.0.0.0/8')),
  num: alsoCalled(['num_networks'], optional(integer("Networks to make; the flag's number when left out", { min: 1 }))),
  size: alsoCalled(
    ['network_size'],
    optional(
      integer("Addresses of each, a power of two; the flag's number, or what there is, when left out", { min: 4 }),
    ),
  ),
  vlan: optional(integer('First VLAN, of VlanManager; --vlan_start when left out')),
  vpn: optional(integer('First VPN port, of VlanManager; --vpn_start when left out')),
  v6: alsoCalled(
    ['fixed_range_v6'],
    optional(text("IPv6 block that /64s are cut from, with --use_ipv6; the flag's block when left out")),
  ),
  label: optional(text("Name; several get _1, _2, ... 'public', or vlanN by its VLAN, when left out")),
  bridge: named(optional(text('Bridge of flat networks; --flat_network_bridge when left out'))),
  bridge_interface: named(
    optional(
      text("Interface of every host that carries it; each host's --flat_interface or --vlan_interface when left out"),
    ),
  ),
  gateway: named(optional(text('Address of the gateway; the first of the network when left out'))),
  gateway_v6: named(optional(text('IPv6 address of the gateway; the first of the /64 when left out'))),
  dns1: named(
    optional(
      text(
        "DNS server: told by DHCP to guests of VlanManager, which else ask the network's host; written into guests' disks on networks of FlatManager (--flat_network_dns when left out); without effect with FlatDHCPManager, whose guests ask the host",
      ),
    ),
  ),
  dns2: named(optional(text('Second DNS server, likewise'))),
  dhcp_start: named(
    optional(
      text('First address for guests of flat networks; --flat_network_dhcp_start, or the one after the gateway'),
    ),
  ),
  multi_host: named(optional(yesNo('T: every host that runs guests of it serves it; --multi_host when left out'))),
  project_id: named(optional(text('Project that the networks belong to, of VlanManager'))),
  uuid: named(optional(text("The network's uuid, where there is one network; drawn when left out"))),
};

/** Source: Nova 2011.2 bin/nova-manage NetworkCommands; modify and the columns of list from 2011.3. */
export const networkCommands: Noun = {
  name: 'network',
  summary: 'Networks that instances are plugged into',
  verbs: {
    create: verb({
      summary: 'Make networks, all or none',
      args: createArgs,
      run: async (m, { num, size, v6, vlan, vpn, project_id, ...rest }) => {
        const { network_manager } = m.flags.read(serviceFlags);
        await loadClass(NETWORK_MANAGERS, network_manager, 'network_manager'); // its networks are not another's
        const asked = { ...rest, num_networks: num, network_size: size, fixed_range_v6: v6 };
        if (v6 ?? rest.gateway_v6) warnWithoutIpv6(m);
        if (project_id !== undefined) await getProject(m.db, project_id); // before anything is made
        const made =
          network_manager === 'nova.network.manager.VlanManager'
            ? await createVlan(m, { ...asked, vlan_start: vlan, vpn_start: vpn, project_id })
            : await createFlat(m, asked, vlan ?? vpn, project_id);
        for (const one of made) m.out(`${one.label}: ${one.cidr}, gateway ${one.gateway}, bridge ${one.bridge}`);
      },
    }),
    list: verb({
      summary: 'Print the networks with their host and how many addresses are in use',
      run: list,
    }),
    delete: verb({
      summary: 'Take a network away that no instance has an address of',
      args: { fixed_range: cidr },
      run: async (m, { fixed_range }) => {
        await deleteNetwork(m.db, (await networkByCidr(m.db, fixed_range)).id);
        m.out(`${fixed_range} deleted`);
      },
    }),
    take_down: verb({
      summary: 'Take away what daemons made on this host for networks: bridges, addresses, rules, DHCP servers',
      details:
        'For a host that leaves the cloud. Stop nova-network and nova-compute first; when they start again, all is made anew.\n' +
        "An operator's own bridges stay, and so do those that guests are plugged into, which are named.",
      run: async (m) => {
        const left = await takeDownHost({ ...m, log: silentLog });
        for (const { bridge, ports } of left) m.warn(`${bridge} stays: ${ports.join(', ')} are plugged into it`);
      },
    }),
    doctor: networkDoctor,
    modify: verb({
      summary: 'Give a network to another project or host, or take it from the one it has',
      details:
        'A network that was given to a project stays with it; one that the project took by itself goes with its last instance.\n' +
        'One without a project is claimed by the next that needs one, one without a host by the first nova-network that asks.',
      args: {
        fixed_range: cidr,
        project: named(optional(text('Project that it belongs to from now, of VlanManager'))),
        host: named(optional(text('Host whose nova-network serves it from now'))),
        disassociate_project: onOff('Take it from its project'),
        disassociate_host: onOff('Take it from its host and give it to another whose nova-network reports'),
      },
      run: modify,
    }),
  },
};

type Asked = Readonly<Record<string, unknown>> & { bridge?: unknown; dhcp_start?: unknown };

/** Without what was left out. */
const given = (asked: Asked): Record<string, unknown> =>
  Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));

function warnWithoutIpv6(m: Manage): void {
  if (!m.flags.read(createNetworksFlags).use_ipv6)
    m.warn('--use_ipv6 is off, so the networks are made without IPv6; the daemons need the flag too');
}

function createFlat(
  m: Manage,
  asked: Asked,
  vlan: number | undefined,
  project_id: string | undefined,
): Promise<PlannedNetwork[]> {
  if (project_id !== undefined)
    throw new InvalidInput(
      `all projects share flat networks, so none belongs to ${project_id}; VlanManager has networks of projects`,
    );
  if (vlan !== undefined) m.warn('flat networks have no VLANs: vlan and vpn are left out');
  return createNetworks(m, given(asked) as unknown as CreateNetworks);
}

function createVlan(m: Manage, { bridge, dhcp_start, ...asked }: Asked): Promise<PlannedNetwork[]> {
  if (bridge !== undefined || dhcp_start !== undefined)
    throw new InvalidInput(
      'of VlanManager each network has a bridge by its VLAN, and guests from its fourth address on',
    );
  return createVlanNetworks(m, given(asked) as unknown as CreateVlanNetworks);
}

async function modify(
  m: Manage,
  args: {
    fixed_range: string;
    project: string | undefined;
    host: string | undefined;
    disassociate_project: boolean;
    disassociate_host: boolean;
  },
): Promise<void> {
  const { fixed_range, project, host, disassociate_project, disassociate_host } = args;
  for (const [what, given, taken] of [
    ['project', project, disassociate_project],
    ['host', host, disassociate_host],
  ] as const)
    if (given !== undefined && taken) throw new InvalidInput(`say either --${what}=NAME or --disassociate_${what}`);
  if (project === undefined && host === undefined && !disassociate_project && !disassociate_host)
    throw new InvalidInput(
      'say what to modify: --project=NAME, --host=NAME, --disassociate_project, --disassociate_host',
    );
  const { id, vlan, host: former } = await networkByCidr(m.db, fixed_range);
  const hosts = await networkHosts(m);
  if (host !== undefined) checkHost(m, host, hosts);
  if (project !== undefined) {
    if (vlan === null) throw new InvalidInput(`${fixed_range} is a flat network, which all projects share`);
    await giveNetwork(m.db, id, project);
    m.out(`${fixed_range} belongs to project ${project}`);
  }
  if (disassociate_project) {
    await writing(m.db, (tx) => takeNetwork(tx, m.db.dialect, id));
    m.out(`${fixed_range} has no project`);
  }
  if (host !== undefined || disassociate_host) {
    const live = [...hosts].flatMap(([name, reports]) => (reports ? [name] : [])); // others do it when they start
    // Nobody's only where no other reports: the former host would take it again in its next period.
    const to = host ?? (await leastBusy(m, live.filter((one) => one !== former))); // prettier-ignore
    await writing(m.db, async (tx) => {
      await moveNetwork(tx, id, to);
      const network = networkClient(new MemoryBus()); // casts are jobs, which the workers find
      const bring = (one: string, take_on: boolean) => castJob(tx, m.ctx, network.at(one).bringNetworks, { take_on });
      if (former !== null && live.includes(former) && former !== to) await bring(former, false);
      if (to !== null && live.includes(to)) await bring(to, true);
    });
    if (to === null)
      m.warn(
        `no other nova-network reports: ${former ?? 'the next that starts'} takes it again unless you stop it; --host=NAME gives it to another`,
      );
    m.out(`${fixed_range} ${to === null ? 'has no host' : `belongs to ${to}`}`);
  }
}

/** The one of these hosts that serves the fewest networks. */
async function leastBusy(m: Manage, hosts: readonly string[]): Promise<string | null> {
  const networks = await allNetworks(m.db);
  const count = (host: string) => networks.filter((network) => network.host === host).length;
  return hosts.toSorted((a, b) => count(a) - count(b))[0] ?? null;
}

/** Hosts that ever had a nova-network, and whether it reports now. */
async function networkHosts(m: Manage): Promise<Map<string, boolean>> {
  const since = textIn(-m.flags.read(serviceFlags).service_down_time);
  const live = new Set((await liveServices(m.db, since, 'network')).map((row) => row.host));
  const rows = (await allServices(m.db)).filter(({ binary }) => binary === 'nova-network');
  return new Map(rows.map((row) => [row.host, live.has(row.host)]));
}

function checkHost(m: Manage, host: string, hosts: ReadonlyMap<string, boolean>): void {
  if (!hosts.has(host))
    throw new InvalidInput(
      `no nova-network was ever started on a host ${host}; ` +
        (hosts.size === 0 ? 'none was on any' : `hosts that have one: ${[...hosts.keys()].join(', ')}`),
    );
  if (hosts.get(host) === false)
    m.warn(`nova-network on ${host} does not report: nobody serves the network until it is started there`);
}

async function list(m: Manage): Promise<void> {
  const rows = [
    ['id', 'IPv4', 'IPv6', 'start address', 'DNS1', 'DNS2', 'VlanID', 'project', 'bridge', 'host', 'used', 'uuid'],
  ];
  for (const network of await allNetworks(m.db))
    rows.push([
      String(network.id),
      network.cidr,
      network.cidr_v6 ?? 'None',
      network.dhcp_start,
      network.dns1 ?? 'None',
      network.dns2 ?? 'None',
      String(network.vlan ?? 'None'),
      network.project_id ?? 'None',
      network.bridge,
      network.multi_host === 1 ? 'all hosts' : (network.host ?? 'None'),
      String(await guestsOf(m.db, network.id)),
      network.uuid,
    ]);
  for (const line of table(rows)) m.out(line);
}
