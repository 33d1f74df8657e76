import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { coreFlags } from '../common/core_flags.ts';
import { makeContext, type RequestContext } from '../common/context.ts';
import { imageById } from '../common/db/images.ts';
import { viewInstances, type InstanceView } from '../common/db/instance_views.ts';
import { ec2InstanceId } from '../common/db/instances.ts';
import { findKeyPair, insertKeyPair } from '../common/db/key_pairs.ts';
import { allNetworks, type Network } from '../common/db/networks.ts';
import { claimNetwork, setVpnAddress } from '../common/db/project_networks.ts';
import { getProject } from '../common/db/projects.ts';
import { Conflict, InvalidInput, SecurityGroupExists, UnsupportedOperation } from '../common/errors.ts';
import { serviceFlags } from '../common/core_flags.ts';
import { silentLog } from '../common/log.ts';
import { MemoryBus } from '../common/rpc/memory_bus.ts';
import { generateSshKey } from '../common/ssh_key.ts';
import { vpnImageId } from '../common/vpn_image.ts';
import { ComputeApi } from '../compute/api.ts';
import { SecurityGroupApi } from '../compute/security_group_api.ts';
import { parseIpv4 } from '../network/logic/addresses.ts';
import { quarantineFlags } from '../network/manager/address_book.ts';
import { whyNoVpnAddress } from '../network/manager/vpn_address.ts';
import { integer, optional, text, verb, type Manage, type Noun } from './noun.ts';
import { writeSecret } from './secret_file.ts';
import { table } from './table.ts';
import { vpnAnswers } from './vpn_probe.ts';

const project = text('Name of the project');
const VPN_SUFFIX = '-vpn';

/** Source: Nova 2011.3 bin/nova-manage VpnCommands, and nova/cloudpipe/pipelib.py. */
export const vpnCommands: Noun = {
  name: 'vpn',
  summary: "Projects' VPN instances (cloudpipe), with VlanManager",
  verbs: {
    list: verb({
      summary: 'Print where the VPN of each project is reached, what runs it, and whether it answers',
      args: { project: optional(project) },
      run: list,
    }),
    run: verb({
      summary: 'Launch the VPN instance of a project',
      details:
        'An m1.tiny of --vpn_image_id, which must start an OpenVPN server by itself, for the manager of the project, with the key\n' +
        'and the group PROJECT-vpn; both are made where they are missing, and the private key is written to --state_path/vpn.',
      args: { project },
      run,
    }),
    change: verb({
      summary: 'Say where the VPN of a project is reached',
      details:
        "The network's host forwards the port where the address is its own --vpn_ip; any other is the operator's to forward.",
      args: {
        project,
        ip: text('Address that users reach'),
        port: integer('UDP port there', { min: 1, max: 65535 }),
      },
      run: async (m, { project, ip, port }) => {
        parseIpv4(ip);
        const [network] = await networksOf(m, project);
        if (!network) throw new InvalidInput(`project ${project} has no network with a VPN address`);
        await setVpnAddress(m.db, network.id, ip, port);
        m.out(`${project} ${ip}:${port} to ${network.vpn_private_address}`);
      },
    }),
  },
};

const networksOf = async (m: Manage, project: string | undefined): Promise<Network[]> =>
  (await allNetworks(m.db)).filter(
    (one) =>
      one.project_id !== null &&
      one.vpn_private_address !== null &&
      (project === undefined || one.project_id === project),
  );

async function list(m: Manage, { project }: { project: string | undefined }): Promise<void> {
  if (project !== undefined) await getProject(m.db, project);
  const instances = await vpnInstances(m);
  const networks = await networksOf(m, project);
  const rows = networks.map(async (network) => {
    const { vpn_public_address: address, vpn_public_port: port, vpn_private_address, project_id } = network;
    const instance = instances.find((one) => one.project_id === project_id);
    const where = [project_id ?? '', `${address ?? 'None'}:${port ?? 'None'}`, vpn_private_address ?? 'None'];
    if (!instance) return [...where, 'None', 'None', 'None', 'None'];
    const up = address !== null && port !== null && (await vpnAnswers(address, port));
    return [...where, instance.host ?? 'None', ec2InstanceId(instance.id), instance.vm_state, up ? 'up' : 'down'];
  });
  const heading = ['project', 'ip:port', 'private_ip', 'host', 'instance', 'state', 'vpn'];
  for (const line of table([heading, ...(await Promise.all(rows))])) m.out(line);
  for (const network of networks) warnOfNoForward(m, network);
}

async function vpnInstances(m: Manage): Promise<InstanceView[]> {
  const image = vpnImageId(m.flags);
  return (await viewInstances(m.db, m.ctx, {})).filter((one) => image !== null && one.image_id === image);
}

async function run(m: Manage, { project }: { project: string }): Promise<void> {
  if (m.flags.read(serviceFlags).network_manager !== 'nova.network.manager.VlanManager')
    throw new UnsupportedOperation('projects have networks, and VPN instances, with VlanManager only');
  const { project_manager } = await getProject(m.db, project);
  const image_id = vpnImageId(m.flags);
  if (image_id === null || !(await imageById(m.db, image_id)))
    throw new InvalidInput(
      '--vpn_image_id names no image: register one that runs OpenVPN (nova-manage image all_register) and name it, on every host: --vpn_image_id=ami-0000000a',
    );
  const runs = (await vpnInstances(m)).find((one) => one.project_id === project);
  if (runs) throw new Conflict(`the VPN instance of ${project} is ${ec2InstanceId(runs.id)} (${runs.vm_state})`);
  const networks = await claimNetwork(m.db, project); // says at once when there is none
  const taken = await whyNoVpnAddress(m.db, networks, m.flags.read(quarantineFlags).fixed_ip_disassociate_timeout);
  if (taken !== null) throw new Conflict(taken);
  for (const network of networks) warnOfNoForward(m, network);
  const ctx = makeContext({ user_id: project_manager, project_id: project, is_admin: true });
  const bus = new MemoryBus(); // casts are jobs, which the workers find
  const name = `${project}${VPN_SUFFIX}`;
  await ensureGroup(new SecurityGroupApi({ db: m.db, flags: m.flags, bus, log: silentLog }), ctx, name);
  await ensureKey(m, project_manager, name);
  const launch = { image_id, instance_type: 'm1.tiny', min_count: 1, max_count: 1, display_name: name };
  const { instances } = await new ComputeApi({ db: m.db, flags: m.flags, bus }).create(ctx, {
    ...launch,
    key_name: name,
    security_groups: [name],
  });
  for (const { id } of instances) m.out(`${project} ${ec2InstanceId(id)}`);
}

/** No host is the gateway of a multi_host network alone, so none forwards by itself. */
function warnOfNoForward(m: Manage, { cidr, project_id, multi_host, vpn_public_address }: Network): void {
  if (multi_host === 1 && vpn_public_address === null)
    m.warn(
      `${cidr} is a multi_host network: no host forwards to its VPN instance until one is named by its --vpn_ip: ` +
        `nova-manage vpn change ${project_id} IP PORT`,
    );
}

/** OpenVPN and ping from anywhere, unless its owner has other rules in it. */
async function ensureGroup(groups: SecurityGroupApi, ctx: RequestContext, name: string): Promise<void> {
  await groups.create(ctx, name, 'Group of the VPN instance').catch((err: unknown) => {
    if (!(err instanceof SecurityGroupExists)) throw err;
  });
  if ((await groups.get(ctx, { name })).rules.length > 0) return;
  const source = { cidr: '0.0.0.0/0' };
  await groups.authorize(ctx, { name }, [
    { protocol: 'udp', from_port: 1194, to_port: 1194, source },
    { protocol: 'icmp', from_port: -1, to_port: -1, source },
  ]);
}

async function ensureKey(m: Manage, user_id: string, name: string): Promise<void> {
  if (await findKeyPair(m.db, user_id, name)) return;
  const { private_key, public_key, fingerprint } = await generateSshKey(name);
  const dir = join(m.flags.read(coreFlags).state_path, 'vpn');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = join(dir, `${name}.pem`);
  writeSecret(file, private_key);
  await insertKeyPair(m.db, { user_id, name, fingerprint, public_key });
  m.out(`private key: ${file}`);
}
