import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NovaDb } from '../../../src/common/db/connect.ts';
import { allNetworks } from '../../../src/common/db/networks.ts';
import { networkCommands } from '../../../src/manage/network.ts';
import { aDatabase, aFixedIp, anInstance, aProject } from '../../builders.ts';
import { run } from './a_manage.ts';

const FLAT = { network_manager: 'nova.network.manager.FlatDHCPManager' };
const VLAN = { network_manager: 'nova.network.manager.VlanManager' };

/** Each of these is refused with its sentence, and changes nothing. */
async function refused(
  db: NovaDb,
  flags: Record<string, unknown>,
  cases: readonly (readonly [verb: string, args: Record<string, unknown>, sentence: string])[],
): Promise<void> {
  for (const [verb, args, message] of cases) {
    const before = await allNetworks(db);
    await assert.rejects(run(db, networkCommands, verb, args, flags), { message }, `${verb} ${JSON.stringify(args)}`);
    assert.deepEqual(await allNetworks(db), before);
  }
}

test('network create refuses what cannot be, with the numbers that decide', async (t) => {
  const db = await aDatabase(t);
  const create = (fixed_range: string, more: Record<string, unknown> = {}) =>
    ['create', { fixed_range, ...more }] as const;
  await run(db, networkCommands, 'create', { fixed_range: '10.0.0.0/24' }, FLAT);
  const taken = (cidr: string, other = '10.0.0.0/24') =>
    `${cidr} overlaps the network ${other} that exists already; nothing was made. nova-manage network list shows what is taken`;

  await refused(db, FLAT, [
    [...create('10.0.0.0/24'), taken('10.0.0.0/24')],
    [...create('10.0.0.128/25'), taken('10.0.0.128/25')],
    [...create('10.0.0.0/8', { num: 2, size: 256 }), taken('10.0.0.0/24')],
    [...create('10.1.0.0/28', { num: 2, size: 16 }), '10.1.0.0/28 has 16 addresses, too few for 2 x 16 = 32'],
    [...create('10.1.0.0/24', { size: 100 }), 'network_size 100 is not a power of two'],
    [...create('10.1.0.0/31'), 'network_size 2 is too small: network, gateway and broadcast take 3, so 4 is the least'],
    [...create('10.1.0.5/24'), '10.1.0.5/24: host bits are set; a /24 starts at 10.1.0.0'],
    [...create('300.0.0.0/24'), '300.0.0.0/24: not an IPv4 block such as 10.0.0.0/24'],
    [...create('10.1.0.0/24', { gateway: '10.2.0.1' }), 'gateway 10.2.0.1 is not in 10.1.0.0/24'],
    [...create('10.1.0.0/24', { dhcp_start: '10.1.0.255' }), '10.1.0.0/24 from 10.1.0.255: no address is left for guests'], // prettier-ignore
    [...create('10.1.0.0/24', { dhcp_start: '10.2.0.9' }), 'dhcp_start 10.2.0.9 is no address for guests of 10.1.0.0/24'], // prettier-ignore
    [...create('10.1.0.0/24', { dhcp_start: '10.1.0.0' }), 'dhcp_start 10.1.0.0 is no address for guests of 10.1.0.0/24'], // prettier-ignore
    [...create('10.1.0.0/24', { num: 2, size: 16, dhcp_start: '10.1.0.9' }), 'dhcp_start 10.1.0.9 can be that of one network only, and 2 are asked for'], // prettier-ignore
    ...Object.entries({
      '127.0.0.0/24': '127.0.0.0/8',
      '169.254.169.0/24': '169.254.0.0/16',
      '224.0.0.0/24': '224.0.0.0/3',
      '0.0.0.0/24': '0.0.0.0/8',
      '0.0.0.0/0': '0.0.0.0/8',
    }).map(([block, never]) => [...create(block, { size: 256 }), `${block.replace(/\/0$/, '/24')} cannot be a network for guests: ${never} is not for hosts; nothing was made`] as const), // prettier-ignore
    [...create('10.1.0.0/24', { bridge: 'br 1' }), "bridge 'br 1': not an interface name (1 to 15 letters, digits, or _ . -)"], // prettier-ignore
    [...create('10.1.0.0/24', { bridge: 'br-of-sixteen-ch' }), "bridge 'br-of-sixteen-ch': not an interface name (1 to 15 letters, digits, or _ . -)"], // prettier-ignore
    [...create('10.1.0.0/24', { bridge_interface: 'eth0;x' }), "bridge_interface 'eth0;x': not an interface name (1 to 15 letters, digits, or _ . -)"], // prettier-ignore
  ]);
});

test('network create of VlanManager refuses VLANs and ports that are none, or are taken', async (t) => {
  const db = await aDatabase(t);
  await run(db, networkCommands, 'create', { fixed_range: '10.0.0.0/24' }, FLAT); // on br100
  await run(db, networkCommands, 'create', { fixed_range: '10.20.0.0/24', num: 3, size: 16, vlan: 102 }, VLAN);
  const create = (more: Record<string, unknown>) =>
    ['create', { fixed_range: '10.21.0.0/24', num: 3, size: 16, vlan: 200, vpn: 2000, ...more }] as const;

  await refused(db, VLAN, [
    [...create({ vlan: 4092 }), 'vlan 4092 and 3 networks: their sum is above 4094, since VLANs end there; ask for fewer, or begin lower'], // prettier-ignore
    [...create({ vlan: 0 }), 'vlan 0: a VLAN is a number from 1 to 4094'],
    [...create({ vpn: 65534 }), 'vpn 65534 and 3 networks: ports are numbers from 1 to 65535'],
    [...create({ vlan: 104 }), 'VLAN 104 is that of network 10.20.0.32/28 already; nothing was made. From --vlan=105 on they are free'], // prettier-ignore
    [...create({ vlan: 98 }), 'bridge br100 is that of network 10.0.0.0/24 already; nothing was made. From --vlan=105 on they are free'], // prettier-ignore
    [...create({ vpn: 1002 }), 'VPN port 1002 is that of network 10.20.0.32/28 already; nothing was made. From --vpn=1003 on they are free'], // prettier-ignore
    [...create({ fixed_range: '10.21.0.0/28' }), '10.21.0.0/28 has 16 addresses, too few for 3 x 16 = 48'],
    [...create({ size: 4 }), '10.21.0.0/30: no address is left for guests; gateway, VPN, 0 VPN clients and the two ends take all 4'], // prettier-ignore
    [...create({ fixed_range: '10.20.0.0/24' }), '10.20.0.0/28 overlaps the network 10.20.0.0/28 that exists already; nothing was made. nova-manage network list shows what is taken'], // prettier-ignore
    [...create({ bridge: 'br7' }), 'of VlanManager each network has a bridge by its VLAN, and guests from its fourth address on'], // prettier-ignore
  ]);
});

test('network delete and modify refuse what is in use, or is not there, and say what to do', async (t) => {
  const db = await aDatabase(t);
  await aProject(db);
  await aProject(db, 'gemini', 'bob');
  await run(db, networkCommands, 'create', { fixed_range: '10.0.0.0/24' }, FLAT);
  await run(db, networkCommands, 'create', { fixed_range: '10.20.0.0/28', num: 1, size: 16, vlan: 102, project_id: 'apollo' }, VLAN); // prettier-ignore
  const [flat, vlan] = await allNetworks(db);
  for (let n = 2; n <= 6; n++)
    await aFixedIp(db, { network_id: flat?.id ?? 0, instance_id: await anInstance(db), address: `10.0.0.${n}` });
  await aFixedIp(db, { network_id: vlan?.id ?? 0, instance_id: 1, address: '10.20.0.4' });
  const [own, other] = [{ fixed_range: '10.20.0.0/28' }, { fixed_range: '10.9.0.0/24' }];
  const not_there = 'there is no network 10.9.0.0/24; nova-manage network list shows those that there are';
  const apollos =
    'network 10.20.0.0/28 belongs to project apollo; take it from there first: nova-manage network modify 10.20.0.0/28 --disassociate_project';

  await refused(db, VLAN, [
    ['delete', other, not_there],
    ['modify', { ...other, host: 'net1' }, not_there],
    ['delete', { fixed_range: '10.0.0.0/24' }, 'network 10.0.0.0/24 has addresses that are in use, by i-00000001, i-00000002, i-00000003 and 2 more: delete those instances first'], // prettier-ignore
    ['delete', own, apollos],
    ['modify', { ...own, project: 'gemini' }, apollos],
    ['modify', { ...own, disassociate_project: true }, 'network 10.20.0.0/28 has addresses that are in use, by i-00000001: delete those instances first'], // prettier-ignore
    ['modify', own, 'say what to modify: --project=NAME, --host=NAME, --disassociate_project, --disassociate_host'],
    ['modify', { ...own, host: 'net1', disassociate_host: true }, 'say either --host=NAME or --disassociate_host'],
    ['modify', { ...own, project: 'nobody' }, 'there is no project nobody'],
    ['modify', { fixed_range: '10.0.0.0/24', project: 'apollo' }, '10.0.0.0/24 is a flat network, which all projects share'], // prettier-ignore
  ]);
});
