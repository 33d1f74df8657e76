import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStringPromise } from 'xml2js';
import { coreFlags } from '../../../src/common/core_flags.ts';
import {
  boolean,
  defineFlags,
  enumeration,
  FlagsExit,
  integer,
  list,
  loadFlags,
  string,
} from '../../../src/common/flags.ts';
import { diabloFlags } from '../../../src/common/flags/nova/diablo.ts';
import { indexFlags } from '../../../scripts/flag_index.ts';

const computeFlags = defineFlags({
  max_cores: integer(16, 'VCPUs per host', { min: 1 }),
  libvirt_type: enumeration('kvm', ['kvm', 'qemu'], 'Domain type'),
  dns_servers: list(['8.8.4.4', '9.9.9.9'], 'DNS'),
  marked: string('<a> & "b"', 'Less < more & more'),
  api_password: string('changeme', 'Password'),
});
const networkFlags = defineFlags({ use_ipv6: boolean(false, 'IPv6'), fixed_range: string('10.0.0.0/8', 'Guests') });
const CORE = 'src/common/core_flags.ts';
const index = {
  flags: indexFlags([
    { module: CORE, defs: coreFlags },
    { module: 'src/compute/manager/compute.ts', defs: computeFlags },
    { module: 'src/network/manager/flat.ts', defs: networkFlags },
    { module: 'src/common/flags/nova/diablo.ts', defs: diabloFlags },
  ]),
  binaries: {
    'nova-compute': { main: 'src/compute/main.ts', modules: [CORE, 'src/compute/manager/compute.ts'] },
    'nova-all': {
      main: 'src/all/main.ts',
      modules: [CORE, 'src/compute/manager/compute.ts', 'src/network/manager/flat.ts'],
    },
  },
};
function ask(binary: string, ...argv: string[]): FlagsExit {
  try {
    loadFlags(argv, { binary, index, default_flagfiles: [], env: {} });
  } catch (err) {
    if (err instanceof FlagsExit) return err;
    throw err;
  }
  throw new Error('flags were loaded');
}

test('--help lists every flag of every module of the daemon with its default, and ends with 1', () => {
  const { text, code } = ask('nova-compute', '--help');

  assert.equal(code, 1);
  for (const name of Object.keys({ ...coreFlags, ...computeFlags }))
    assert.match(text, new RegExp(`^  --(\\[no\\])?${name}: `, 'm'));
  assert.match(text, /^src\/compute\/manager\/compute\.ts:$/m);
  assert.match(
    text,
    /--max_cores: VCPUs per host\n {4}\(default: '16'\)\n {4}\(an integer in the range \[1, \.\.\.\]\)/,
  );
  assert.match(text, /--\[no\]verbose: .*\n {4}\(default: 'false'\)/);
  assert.match(text, /--host: .*\n {4}\(default: the host name\)/);
  assert.match(text, /--logdir: .*\n {4}\(default: none\)/);
  for (const foreign of ['use_ipv6', 'vsa_topic']) assert.ok(!text.includes(foreign), foreign);
});

test('help shows what was set and by whom, without secrets, and a value that cannot be used', () => {
  const { text } = ask('nova-compute', '--max_cores=abc', '--dns_servers=1.1.1.1', '--api_password=hush', '-h');

  assert.match(text, /--max_cores: (.*\n)+? {4}\(--max_cores=abc: not an integer \(command line\)\)/);
  assert.match(text, /\(now: '1\.1\.1\.1', command line\)/);
  assert.ok(text.includes("(now: '***', command line)") && !text.includes('hush'));
});

test('--helpshort lists the flags of the own modules of the daemon', () => {
  const { text, code } = ask('nova-compute', '--helpshort');
  assert.equal(code, 1);
  assert.ok(text.includes('--max_cores') && !text.includes('--host'));
});

test('--helpxml is well-formed and has one flag element per flag', async () => {
  const { text, code } = ask('nova-compute', '--helpxml', '--max_cores=4', '--marked=\u0001]]>');

  interface XmlFlag {
    name: string[];
    file: string[];
    default: string[];
    current: string[];
    type: string[];
    key?: string[];
  }
  const { AllFlags } = (await parseStringPromise(text)) as { AllFlags: { program: string[]; flag: XmlFlag[] } };
  assert.equal(code, 1);
  assert.deepEqual(AllFlags.program, ['nova-compute']);
  const names = AllFlags.flag.map((flag) => flag.name[0]);
  assert.deepEqual(names.toSorted(), Object.keys({ ...coreFlags, ...computeFlags }).sort());
  const flag = (name: string) => AllFlags.flag.find((each) => each.name[0] === name);
  assert.deepEqual(
    [flag('max_cores')?.default, flag('max_cores')?.current, flag('max_cores')?.type, flag('max_cores')?.key],
    [['16'], ['4'], ['int'], ['yes']],
  );
  assert.deepEqual(flag('marked')?.default, ['<a> & "b"']);
  assert.deepEqual(flag('marked')?.current, ['?]]>']);
  assert.equal(flag('host')?.key, undefined);
});

test('--version names the daemon and its version, and ends with 0', () => {
  const { text, code } = ask('nova-compute', '--version');
  assert.equal(code, 0);
  assert.match(text, /^nova-compute \d+\.\d+\.\d+\n$/);
});

test('help of nova-all lists the flags of every service', () => {
  const { text } = ask('nova-all', '--help');
  assert.ok(text.includes('--max_cores') && text.includes('--[no]use_ipv6'));
});
