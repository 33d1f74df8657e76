import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coreFlags, dbFlags, rabbitFlags } from '../../../src/common/core_flags.ts';
import { cactusOtherFlags } from '../../../src/common/flags/nova/others.ts';
import { loadFlags } from '../../../src/common/flags.ts';
import { flagsTable } from '../../../src/manage/flags.ts';
import { indexFlags } from '../../../scripts/flag_index.ts';

const defs = { ...coreFlags, ...dbFlags, ...rabbitFlags };
const index = {
  flags: indexFlags([
    { module: 'src/common/core_flags.ts', defs },
    { module: 'src/common/flags/nova/others.ts', defs: cactusOtherFlags },
  ]),
  binaries: {},
};
const table = (argv: string[], all = false) =>
  flagsTable(loadFlags(argv, { binary: 'nova-manage', index, default_flagfiles: [], env: {} }), index, all);
const row = (text: string, name: string) =>
  text
    .split('\n')
    .find((line) => line.startsWith(`${name} `))
    ?.split(/ {2,}/);

test('nova-manage flags shows the effective value of each flag and where it came from', () => {
  const { text, bad } = table(['--state_path=/s', '--host=node7', '--rabbit_port=5673']);

  assert.deepEqual(row(text, 'rabbit_port'), ['rabbit_port', '5673', 'command line']);
  assert.deepEqual(row(text, 'sql_connection'), ['sql_connection', 'sqlite:////s/nova.sqlite', 'default']);
  assert.deepEqual(row(text, 'host'), ['host', 'node7', 'command line']);
  assert.deepEqual(row(text, 'logdir'), ['logdir', 'none', 'default']);
  assert.match(row(text, 'my_ip')?.[1] ?? '', /^[\d.]+$/);
  assert.deepEqual(bad, []);
});

test('nova-manage flags masks passwords, also the one in the database URL', () => {
  const { text } = table(['--rabbit_password=hush', '--sql_connection=postgresql://nova:hush@db/nova']);

  assert.ok(!text.includes('hush'));
  assert.deepEqual(row(text, 'sql_connection')?.[1], 'postgresql://nova:***@db/nova');
});

test('a flag that is set and that no daemon reads is shown to be without effect', () => {
  const { text } = table(['--ldap_url=ldap://x']);

  assert.deepEqual(row(text, 'ldap_url'), ['ldap_url', 'ldap://x', 'command line, without effect']);
  assert.equal(row(text, 'ldap_user_dn'), undefined);
  assert.deepEqual(row(table([], true).text, 'ldap_user_unit'), ['ldap_user_unit', 'Users', 'default, without effect']);
});

test('a value that cannot be used is listed with the reason', () => {
  const { text, bad } = table(['--rabbit_port=99999']);

  assert.equal(row(text, 'rabbit_port')?.[1], 'unusable');
  assert.deepEqual(bad, ['--rabbit_port=99999: the most is 65535 (command line)']);
});
