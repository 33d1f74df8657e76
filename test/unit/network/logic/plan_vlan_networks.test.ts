import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput, NetworkExists } from '../../../../src/common/errors.ts';
import {
  planVlanNetworks,
  type ExistingNetwork,
  type VlanNetworkRequest,
} from '../../../../src/network/logic/plan_vlan_networks.ts';

const aRequest = (over: Partial<VlanNetworkRequest> = {}): VlanNetworkRequest => ({
  fixed_range: '10.0.0.0/8',
  num_networks: 1,
  network_size: 256,
  label: null,
  bridge_interface: null,
  gateway: null,
  dns1: null,
  dns2: null,
  fixed_range_v6: null,
  gateway_v6: null,
  multi_host: false,
  uuid: null,
  project_id: null,
  vlan_start: 100,
  vpn_start: 1000,
  cnt_vpn_clients: 0,
  ...over,
});
const refused = (over: Partial<VlanNetworkRequest>, existing: ExistingNetwork[], why: RegExp, Kind = InvalidInput) =>
  assert.throws(
    () => planVlanNetworks(aRequest(over), existing),
    (err) => err instanceof Kind && why.test(err.message),
  );

test('each network has a VLAN, a bridge by it, and a gateway, a VPN instance and guests in this order', () => {
  const networks = planVlanNetworks(aRequest({ num_networks: 3, network_size: 16 }), []);

  assert.deepEqual(
    networks.map((one) => [
      one.label,
      one.cidr,
      one.vlan,
      one.bridge,
      one.gateway,
      one.vpn_private_address,
      one.dhcp_start,
      one.vpn_public_port,
    ]),
    [
      ['vlan100', '10.0.0.0/28', 100, 'br100', '10.0.0.1', '10.0.0.2', '10.0.0.3', 1000],
      ['vlan101', '10.0.0.16/28', 101, 'br101', '10.0.0.17', '10.0.0.18', '10.0.0.19', 1001],
      ['vlan102', '10.0.0.32/28', 102, 'br102', '10.0.0.33', '10.0.0.34', '10.0.0.35', 1002],
    ],
  );
});

test('addresses for VPN clients are kept below the broadcast address', () => {
  const [network] = planVlanNetworks(aRequest({ fixed_range: '1.0.0.0/28', network_size: 16, cnt_vpn_clients: 4 }), []);

  assert.deepEqual(
    network?.reserved,
    [11, 12, 13, 14].map((last) => 2 ** 24 + last),
  );
});

test('VLANs beyond 4094, ports beyond 65535 and a range that is too small are refused with the numbers', () => {
  refused({ vlan_start: 4000, num_networks: 95 }, [], /vlan 4000 and 95 networks: their sum is above 4094/);
  assert.equal(planVlanNetworks(aRequest({ vlan_start: 4000, num_networks: 94 }), []).length, 94);
  refused({ vlan_start: 0 }, [], /vlan 0: a VLAN is a number from 1/);
  refused({ vpn_start: 65535, num_networks: 2 }, [], /ports are numbers from 1 to 65535/);
  refused({ fixed_range: '10.0.0.0/24', num_networks: 2 }, [], /has 256 addresses, too few for 2 x 256 = 512/);
  refused({ network_size: 4 }, [], /no address is left for guests/);
  refused({ network_size: 16, cnt_vpn_clients: 12 }, [], /no address is left for guests.*12 VPN clients/);
  refused({ gateway: '10.0.0.2' }, [], /the address of the VPN instance/);
});

test('a VLAN, a bridge, a VPN port or addresses of a network that exists are refused with the first free number', () => {
  const existing = { cidr: '10.0.0.0/24', bridge: 'br100', vlan: 100, vpn_public_port: 1000, cidr_v6: null, uuid: 'x' };
  const fixed_range = '10.1.0.0/16';

  refused({}, [existing], /10\.0\.0\.0\/24 overlaps/, NetworkExists);
  refused({ fixed_range }, [existing], /VLAN 100 is that of network 10\.0\.0\.0\/24.*--vlan=101/, NetworkExists);
  refused({ fixed_range, vlan_start: 101 }, [existing], /VPN port 1000 .*--vpn=1001/, NetworkExists);
  const flat = { ...existing, vlan: null, vpn_public_port: null };
  refused({ fixed_range }, [flat], /bridge br100 is that of network .*--vlan=101/, NetworkExists);
});
