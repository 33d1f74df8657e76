import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidInput, MissingParameter } from '../../../../src/common/errors.ts';
import { checkGroupText, ruleCidr, rulePorts } from '../../../../src/compute/logic/security_rules.ts';

test('protocols come by name in any case, by number, or as all', () => {
  const ports = { from_port: 22, to_port: 23 };

  for (const protocol of ['tcp', 'TCP', '6'])
    assert.deepEqual(rulePorts({ protocol, ...ports }, 'cidr'), [{ protocol: 'tcp', ...ports }]);
  assert.deepEqual(rulePorts({ protocol: '17', ...ports }, 'cidr'), [{ protocol: 'udp', ...ports }]);
  assert.deepEqual(rulePorts({ protocol: '-1', ...ports }, 'cidr'), [
    { protocol: '-1', from_port: null, to_port: null },
  ]);
});

test('port 0 is a port, and -1 to -1 is all of them', () => {
  assert.deepEqual(rulePorts({ protocol: 'tcp', from_port: 0, to_port: 0 }, 'cidr'), [
    { protocol: 'tcp', from_port: 0, to_port: 0 },
  ]);
  assert.deepEqual(rulePorts({ protocol: 'udp', from_port: -1, to_port: -1 }, 'cidr'), [
    { protocol: 'udp', from_port: 1, to_port: 65535 },
  ]);
});

test('a source group may leave out protocol and ports, a range may not', () => {
  const icmp = { protocol: 'icmp', from_port: -1, to_port: -1 };
  const tcp = { protocol: 'tcp', from_port: 1, to_port: 65535 };
  assert.deepEqual(rulePorts({}, 'group'), [icmp, tcp, { ...tcp, protocol: 'udp' }]);
  assert.deepEqual(rulePorts({ protocol: 'tcp' }, 'group'), [tcp]);
  assert.deepEqual(rulePorts({ protocol: 'icmp' }, 'group'), [icmp]);

  for (const asked of [{}, { protocol: 'tcp' }, { protocol: 'tcp', from_port: 1 }, { protocol: 'icmp', to_port: 1 }])
    assert.throws(() => rulePorts(asked, 'cidr'), MissingParameter, JSON.stringify(asked));
  for (const asked of [
    { from_port: 1, to_port: 2 },
    { protocol: 'tcp', from_port: 1 },
  ])
    assert.throws(() => rulePorts(asked, 'group'), MissingParameter, JSON.stringify(asked));
});

test('what no packet can be is refused', () => {
  for (const [protocol, from_port, to_port] of [
    ['sctp', 1, 1],
    ['', 1, 1],
    ['tcp', 23, 22],
    ['tcp', 1, 65536],
    ['tcp', -1, 22],
    ['udp', 1.5, 2],
    ['icmp', 256, -1],
    ['icmp', 255, -1], // to iptables that is any type
    ['icmp', -1, 0],
    ['icmp', 8, 256],
  ] as const)
    assert.throws(() => rulePorts({ protocol, from_port, to_port }, 'cidr'), InvalidInput, `${protocol} ${from_port}`);
});

test('a range is kept without host bits, and an address is itself alone', () => {
  assert.equal(ruleCidr('10.1.2.3/8'), '10.0.0.0/8');
  assert.equal(ruleCidr(' 10.1.2.3 '), '10.1.2.3/32');
  assert.equal(ruleCidr('0.0.0.0/0'), '0.0.0.0/0');
  assert.equal(ruleCidr('2001:DB8::5/32'), '2001:db8::/32');
  assert.equal(ruleCidr('::1'), '::1/128');
  for (const bad of ['', '10.0.0.0/33', '10.0.0/24', '010.0.0.1', '10.0.0.0/24/24', 'fe80::1%eth0', '::/129', 'any'])
    assert.throws(() => ruleCidr(bad), InvalidInput, bad);
});

test('a group cannot be called like an id', () => {
  for (const good of ['web', 'sg-web', 'web servers é']) checkGroupText('name', good);
  for (const bad of ['', ' ', 'x'.repeat(256), 'a\nb', 'sg-00000001', 'SG-1'])
    assert.throws(() => checkGroupText('name', bad), InvalidInput, bad);
  checkGroupText('description', 'sg-00000001');
});
