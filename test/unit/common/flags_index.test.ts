import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { coreFlags, rabbitFlags } from '../../../src/common/core_flags.ts';
import { loadIndex } from '../../../src/common/flags/flag_index.ts';
import { abbreviations, editDistance, nearest } from '../../../src/common/flags/nearest.ts';
import { novaFlags } from '../../../src/common/flags/nova_flags.ts';
import { cactusDaemonFlags } from '../../../src/common/flags/nova/daemons.ts';
import { diabloFlags } from '../../../src/common/flags/nova/diablo.ts';
import { cactusOtherFlags } from '../../../src/common/flags/nova/others.ts';
import { defineFlags, integer, loadFlags, string } from '../../../src/common/flags.ts';
import { buildIndex, indexFlags } from '../../../scripts/flag_index.ts';

test('the index holds every flag of Nova and every flag declared in src/', async () => {
  const index = await buildIndex();

  assert.equal(Object.keys({ ...cactusDaemonFlags, ...cactusOtherFlags }).length, 285);
  assert.equal(Object.keys(diabloFlags).length, 86);
  for (const name of Object.keys({ ...novaFlags, ...coreFlags, ...rabbitFlags })) assert.ok(index.flags[name], name);
  assert.deepEqual(index.flags['rabbit_host']?.modules, ['src/common/core_flags.ts']);
  assert.equal(index.flags['rabbit_host']?.read, true);
  assert.equal(index.flags['ldap_url']?.default, 'ldap://localhost');
  assert.equal(index.flags['host']?.default, null);
  assert.equal(index.binaries['nova-compute']?.main, 'src/compute/main.ts');
});

test('every daemon accepts one flagfile with all flags of the suite in it', async (t) => {
  const index = await buildIndex();
  const folder = mkdtempSync(join(tmpdir(), 'nova-flags-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const line = ([name, flag]: [string, { default: unknown }]) =>
    `--${name}=${String(flag.default ?? '').replaceAll('\n', '')}`;
  writeFileSync(join(folder, 'all.flags'), Object.entries(index.flags).map(line).join('\n'));

  for (const binary of Object.keys(index.binaries)) {
    const flags = loadFlags([`--flagfile=${join(folder, 'all.flags')}`, '--rabbit_host=mq'], {
      binary,
      index,
      env: {},
    });
    assert.equal(flags.read(rabbitFlags).rabbit_host, 'mq');
  }
});

test('flags of Nova that are set and that nothing reads are named with their sources', async () => {
  const index = await buildIndex();

  const flags = loadFlags(['--rabbit_host=mq', '--use_syslog', '--ldap_url=ldap://ldap'], {
    binary: 'nova-compute',
    index,
    env: {},
  });

  const idle = flags.idle();
  assert.deepEqual(idle.toSorted(), ['--ldap_url (command line)', '--use_syslog (command line)']);
  assert.deepEqual(loadFlags(['--ldap_url=ldap://localhost'], { binary: 'nova-compute', index, env: {} }).idle(), []);
});

test('two modules may declare the same flag alike, not differently', () => {
  const group = (module: string, value: number) => ({ module, defs: defineFlags({ max_cores: integer(value, '') }) });

  assert.deepEqual(indexFlags([group('a.ts', 16), group('b.ts', 16)])['max_cores']?.modules, ['a.ts', 'b.ts']);
  assert.throws(() => indexFlags([group('a.ts', 16), group('b.ts', 17)]), /--max_cores.*a\.ts and b\.ts/);
});

test('a flag of Nova that the suite reads is the one that the suite declares', () => {
  const nova = { module: 'src/common/flags/nova/daemons.ts', defs: defineFlags({ osapi_path: string('/v1.0/', '') }) };
  const ours = { module: 'src/a.ts', defs: defineFlags({ osapi_path: string('/v1.1/', '') }) };

  for (const groups of [
    [nova, ours],
    [ours, nova],
  ])
    assert.equal(indexFlags(groups)['osapi_path']?.default, '/v1.1/');
  assert.equal(indexFlags([nova])['osapi_path']?.read, false);
});

test('an index older than the compiled code is not believed', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nova-index-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const dist = pathToFileURL(`${folder}/`);
  assert.equal(loadIndex(dist), undefined);
  for (const name of ['flag_index.json', '.tsbuildinfo'])
    writeFileSync(join(folder, name), '{"flags":{},"binaries":{}}');

  utimesSync(join(folder, 'flag_index.json'), 1000, 1000);
  assert.equal(loadIndex(dist), undefined);

  utimesSync(join(folder, '.tsbuildinfo'), 500, 500);
  assert.deepEqual(loadIndex(dist), { flags: {}, binaries: {} });
});

test('the nearest name is the one with the fewest letters changed', () => {
  assert.equal(editDistance('max_corse', 'max_cores'), 1); // a swap counts once
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(nearest('sql-conection', ['sql_max_retries', 'sql_connection', 'connection_type']), 'sql_connection');
  assert.deepEqual(abbreviations('nov', new Map([['verbose', 'boolean']])), ['noverbose']);
});
