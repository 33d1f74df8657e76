import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput } from '../../../../src/common/errors.ts';
import {
  formatIpv4,
  generateMac,
  hostV6,
  guestRange,
  guestRangeSize,
  ipv4Number,
  nextGuestAddress,
  parseCidr,
} from '../../../../src/network/logic/addresses.ts';

test('an IPv4 address is four decimal octets and nothing else', () => {
  assert.equal(ipv4Number('255.255.255.255'), 2 ** 32 - 1);
  assert.equal(formatIpv4(ipv4Number('192.0.2.7') ?? 0), '192.0.2.7');
  for (const text of ['', '1.2.3', '1.2.3.4.5', '256.0.0.1', '010.0.0.1', '1.2.3.4 ', '0x1.2.3.4', '::1']) {
    assert.equal(ipv4Number(text), null, text);
  }
});

test('a block with host bits set is refused with the block that was meant', () => {
  assert.throws(() => parseCidr('10.0.0.5/24'), /a \/24 starts at 10\.0\.0\.0/);
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/24/8', 'x/24', '10.0.0.0/-1']) {
    assert.throws(() => parseCidr(text), InvalidInput, text);
  }
});

test('network, gateway and broadcast are never given to a guest', () => {
  const range = guestRange({ cidr: '10.0.0.0/29', gateway: '10.0.0.1', dhcp_start: null });

  const given: string[] = [];
  for (let at = nextGuestAddress(range, 0); at !== null; at = nextGuestAddress(range, at + 1))
    given.push(formatIpv4(at));

  assert.deepEqual(given, ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  assert.equal(guestRangeSize(range), 5);
});

test('a gateway in the middle of a network is left out, and addresses kept at the top too', () => {
  const range = guestRange({ cidr: '10.0.0.0/29', gateway: '10.0.0.4', dhcp_start: '10.0.0.3' }, 1);

  assert.equal(nextGuestAddress(range, 0), ipv4Number('10.0.0.3'));
  assert.equal(nextGuestAddress(range, range.first + 1), ipv4Number('10.0.0.5'));
  assert.equal(nextGuestAddress(range, range.last + 1), null);
  assert.equal(guestRangeSize(range), 2);
});

test('a dhcp_start of another network does not move the range', () => {
  const range = guestRange({ cidr: '10.77.0.0/24', gateway: '10.77.0.1', dhcp_start: '10.0.0.2' });

  assert.equal(nextGuestAddress(range, 0), ipv4Number('10.77.0.2'));
});

test("a generated MAC is in Nova's block with the fourth octet below 80", () => {
  assert.equal(
    generateMac(() => 0),
    '02:16:3e:00:00:00',
  );
  assert.equal(
    generateMac(() => 0.9999999),
    '02:16:3e:7f:ff:ff',
  );
});

test('a host has the IPv6 address of the gateway, or of a multi_host network its own, which says its IPv4 address', () => {
  const network = { cidr_v6: 'fd00:77::/64', gateway_v6: 'fd00:77::1', multi_host: 0 };

  assert.equal(hostV6(network, '10.77.0.1'), 'fd00:77::1');
  assert.equal(hostV6({ ...network, multi_host: 1 }, '10.77.0.3'), 'fd00:77::a4d:3');
  assert.equal(hostV6({ ...network, multi_host: 1 }, null), null);
  assert.equal(hostV6({ cidr_v6: null, gateway_v6: null, multi_host: 1 }, '10.77.0.3'), null);
});
