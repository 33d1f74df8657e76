import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandDifferences } from '../../../../src/network/drivers/command_words.ts';

const words = (...commands: string[]) =>
  commandDifferences(commands.map((command) => ({ argv: command.split(' '), input: '' }))).map(
    ({ what, expected, found, repair }) => [what, expected, found, repair].join(' | '),
  );

test('a command that was not run says what is not as it should be', () => {
  assert.deepEqual(words('ip addr del 10.0.0.1/16 dev br100', 'sysctl -q -w net/ipv4/ip_forward=1'), [
    'interface br100 | no address 10.0.0.1/16 | it has it | takes it off',
    'kernel settings | net.ipv4.ip_forward=1 | another value | sets it',
  ]);
  assert.deepEqual(words('vconfig add eth0 7'), [
    'this host | as the database and the flags say | otherwise | runs: vconfig add eth0 7',
  ]);
});

test('an interface that is to be made is one difference, whatever belongs to it', () => {
  assert.deepEqual(words('ip link add name br100 type bridge', 'ip link set dev br100 alias x', 'ip link set dev br100 up'), [
    'interface br100 | there | not there | makes it, with all that belongs to it',
  ]); // prettier-ignore
});

test('a batch is read line by line', () => {
  const input = 'link set dev eth1 master br100\nlink set dev eth1 up\n';
  assert.deepEqual(
    commandDifferences([{ argv: ['ip', '-batch', '-'], input }]).map(({ what, expected }) => `${what} ${expected}`),
    ['interface eth1 in br100', 'interface eth1 up'],
  );
});
