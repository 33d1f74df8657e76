import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput, NetworkExists } from '../../../../src/common/errors.ts';
import { planNetworks, type ExistingBlocks, type NetworkRequest } from '../../../../src/network/logic/plan_networks.ts';

const aRequest = (over: Partial<NetworkRequest> = {}): NetworkRequest => ({
  fixed_range: '10.0.0.0/24',
  num_networks: 1,
  network_size: 256,
  label: 'public',
  bridge: 'br100',
  bridge_interface: null,
  gateway: null,
  dns1: '8.8.4.4',
  dns2: null,
  dhcp_start: null,
  usual_dhcp_start: null,
  fixed_range_v6: null,
  gateway_v6: null,
  multi_host: false,
  uuid: null,
  ...over,
});

const UUID = '12345678-1234-1234-1234-123456789abc';
const anExisting = (over: Partial<ExistingBlocks> = {}): ExistingBlocks => ({
  cidr: '10.0.0.128/25',
  cidr_v6: null,
  uuid: UUID,
  ...over,
});

test('one network of 256 has its gateway at .1 and its guests from .2', () => {
  const [network] = planNetworks(aRequest(), []);

  assert.deepEqual(network, {
    label: 'public',
    cidr: '10.0.0.0/24',
    netmask: '255.255.255.0',
    gateway: '10.0.0.1',
    broadcast: '10.0.0.255',
    dhcp_start: '10.0.0.2',
    bridge: 'br100',
    bridge_interface: null,
    dns1: '8.8.4.4',
    dns2: null,
    cidr_v6: null,
    gateway_v6: null,
    netmask_v6: null,
    multi_host: false,
  });
});

test('several networks are cut from the range lowest first and numbered in their labels', () => {
  const networks = planNetworks(aRequest({ fixed_range: '10.0.0.0/8', num_networks: 3, network_size: 16 }), []);

  assert.deepEqual(
    networks.map(({ label, cidr, gateway, dhcp_start }) => ({ label, cidr, gateway, dhcp_start })),
    [
      { label: 'public_1', cidr: '10.0.0.0/28', gateway: '10.0.0.1', dhcp_start: '10.0.0.2' },
      { label: 'public_2', cidr: '10.0.0.16/28', gateway: '10.0.0.17', dhcp_start: '10.0.0.18' },
      { label: 'public_3', cidr: '10.0.0.32/28', gateway: '10.0.0.33', dhcp_start: '10.0.0.34' },
    ],
  );
});

test('with IPv6 each network has a /64 of its own', () => {
  const request = aRequest({ num_networks: 2, network_size: 64, fixed_range_v6: 'fd00::/48' });

  const networks = planNetworks(request, []);

  assert.deepEqual(
    networks.map(({ cidr_v6, gateway_v6, netmask_v6 }) => ({ cidr_v6, gateway_v6, netmask_v6 })),
    [
      { cidr_v6: 'fd00::/64', gateway_v6: 'fd00::1', netmask_v6: 64 },
      { cidr_v6: 'fd00:0:0:1::/64', gateway_v6: 'fd00:0:0:1::1', netmask_v6: 64 },
    ],
  );
});

test('a /64 that a network has is not given to another, and a range that is used up says so', () => {
  const existing = [anExisting({ cidr: '10.1.0.0/24', cidr_v6: 'fd00:0:0:1::/64' })];
  const asked = { num_networks: 2, network_size: 64 };

  const networks = planNetworks(aRequest({ ...asked, fixed_range_v6: 'fd00::/48' }), existing);

  assert.deepEqual(networks.map(({ cidr_v6 }) => cidr_v6), ['fd00::/64', 'fd00:0:0:2::/64']); // prettier-ignore
  assert.throws(
    () => planNetworks(aRequest({ ...asked, fixed_range_v6: 'fd00::/63' }), existing),
    /fd00::\/63 has too few \/64 blocks for 2 networks: 2 in all, 1 in use/,
  );
});

test('the IPv6 gateway is an address of the one /64, or is refused', () => {
  const v6 = (gateway_v6: string, over = {}) => planNetworks(aRequest({ fixed_range_v6: 'fd00::/64', gateway_v6, ...over }), []); // prettier-ignore

  assert.equal(v6('fd00:0::ff')[0]?.gateway_v6, 'fd00::ff');

  for (const gateway_v6 of ['fd01::1', 'fd00::', '10.0.0.1', 'fd00::1/64', 'gw'])
    assert.throws(() => v6(gateway_v6), InvalidInput, gateway_v6);
  assert.throws(() => v6('fd00::1', { fixed_range_v6: 'fd00::/48', num_networks: 2, network_size: 64 }), /one network/);
});

test("a network's uuid and DNS servers are what was asked for, or are refused", () => {
  const [network] = planNetworks(aRequest({ uuid: UUID.toUpperCase(), dns2: '2001:db8::53' }), []);
  assert.deepEqual([network?.uuid, network?.dns1, network?.dns2], [UUID, '8.8.4.4', '2001:db8::53']);

  assert.throws(() => planNetworks(aRequest({ uuid: 'x' }), []), InvalidInput);
  assert.throws(
    () => planNetworks(aRequest({ uuid: UUID, num_networks: 2, network_size: 64 }), []),
    /one network only/,
  );
  assert.throws(() => planNetworks(aRequest({ uuid: UUID }), [anExisting({ cidr: '10.1.0.0/24' })]), NetworkExists);
  for (const dns2 of ['dns', '1.2.3', ''])
    assert.throws(() => planNetworks(aRequest({ dns2 }), []), InvalidInput, dns2);
});

test('a range that is too small is refused with the numbers', () => {
  assert.throws(
    () => planNetworks(aRequest({ num_networks: 2 }), []),
    /10\.0\.0\.0\/24 has 256 addresses, too few for 2 x 256 = 512/,
  );
});

test('sizes that are no power of two, too small, or no number are refused', () => {
  for (const network_size of [0, 1, 2, 100, -16, 2.5, NaN]) {
    assert.throws(() => planNetworks(aRequest({ network_size }), []), InvalidInput, String(network_size));
  }
  assert.throws(() => planNetworks(aRequest({ num_networks: 0 }), []), InvalidInput);
});

test('a network that overlaps an existing one is refused by name and nothing is planned', () => {
  const existing = [anExisting()];

  assert.throws(
    () => planNetworks(aRequest(), existing),
    (err) => err instanceof NetworkExists && /10\.0\.0\.0\/24 overlaps the network 10\.0\.0\.128\/25/.test(err.message),
  );
});

test('a gateway outside the network, or on its edge, is refused', () => {
  for (const gateway of ['10.0.1.1', '10.0.0.0', '10.0.0.255', 'gw']) {
    assert.throws(() => planNetworks(aRequest({ gateway }), []), InvalidInput, gateway);
  }
});

test('the usual start for guests is not taken over where it lies in another network', () => {
  const [network] = planNetworks(aRequest({ fixed_range: '10.77.0.0/24', usual_dhcp_start: '10.0.0.2' }), []);

  assert.equal(network?.dhcp_start, '10.77.0.2');
});
