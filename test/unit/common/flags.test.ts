import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coreFlags, dbFlags, nameFlags, serviceFlags } from '../../../src/common/core_flags.ts';
import { FlagsError } from '../../../src/common/errors.ts';
import { cactusDaemonFlags } from '../../../src/common/flags/nova/daemons.ts';
import { cactusOtherFlags } from '../../../src/common/flags/nova/others.ts';
import {
  boolean,
  defineFlags,
  enumeration,
  Flags,
  float,
  integer,
  list,
  loadFlags,
  multistring,
  string,
} from '../../../src/common/flags.ts';
import { indexFlags } from '../../../scripts/flag_index.ts';

const ours = defineFlags({
  volume_group: string('nova-volumes', 'LVM group'),
  max_cores: integer(16, 'VCPUs per host', { min: 1, max: 1000 }),
  cpu_ratio: float(1.5, 'VCPUs per core', { min: 0 }),
  use_ipv6: boolean(false, 'IPv6'),
  noisy: boolean(true, 'A boolean whose name begins with no'),
  node_label: string('', 'A string whose name begins with no'),
  dns_servers: list(['8.8.4.4'], 'DNS'),
  virt_mkfs: multistring(['default=mkfs'], 'mkfs per OS'),
  libvirt_type: enumeration('kvm', ['kvm', 'qemu'], 'Domain type'),
});
const index = { flags: indexFlags([{ module: 'src/x.ts', defs: ours }]), binaries: {} };
const load = (...argv: string[]) => loadFlags(argv, { binary: 'nova-x', index, default_flagfiles: [], env: {} });
const read = (...argv: string[]) => load(...argv).read(ours);
const fails = (argv: string[], ...parts: string[]) => {
  assert.throws(
    () => read(...argv),
    (err: unknown) => {
      assert.ok(err instanceof FlagsError, String(err));
      for (const part of parts) assert.ok(err.message.includes(part), `${err.message} lacks ${part}`);
      assert.ok(!err.message.includes('\n'), 'more than one line');
      return true;
    },
  );
};

test('--flag=value and --flag value are the same', () => {
  assert.deepEqual(read('--volume_group=a', '--max_cores=3'), read('--volume_group', 'a', '--max_cores', '3'));
  assert.equal(read('--max_cores', '3').max_cores, 3);
  assert.equal(read('--volume_group', '--max_cores').volume_group, '--max_cores'); // whatever comes next is the value
  fails(['--max_cores'], '--max_cores: needs a value');
});

test('one dash does as well as two', () => {
  assert.equal(read('-volume_group=a').volume_group, 'a');
  assert.equal(read('-use_ipv6').use_ipv6, true);
});

test('a boolean is set by its name, unset by no before it, or given a word', () => {
  assert.equal(read('--use_ipv6').use_ipv6, true);
  assert.equal(read('--use_ipv6', '--nouse_ipv6').use_ipv6, false);
  for (const word of ['f', '0', 'FALSE']) assert.equal(read(`--noisy=${word}`).noisy, false);
  for (const word of ['t', '1', 'True']) assert.equal(read(`--use_ipv6=${word}`).use_ipv6, true);
  assert.equal(read('--nonoisy').noisy, false);
  assert.equal(read('--node_label', 'rack1').node_label, 'rack1');
});

test('yes is no boolean, and the error names the flag', () => {
  fails(['--use_ipv6=yes'], '--use_ipv6=yes', 'not a boolean', 'command line');
  fails(['--nouse_ipv6=true'], '--nouse_ipv6', 'takes no value');
});

test('a boolean never takes the next argument', () => {
  const flags = load('--use_ipv6', 'false');
  assert.equal(flags.read(ours).use_ipv6, true);
  assert.deepEqual(flags.rest, ['false']);
});

test('a unique beginning of a name will do, an ambiguous one is refused with the names it may mean', () => {
  assert.equal(read('--max_cor=3').max_cores, 3);
  assert.equal(read('--use').use_ipv6, true);
  assert.equal(read('--nouse').use_ipv6, false);
  fails(['--vir=x', '--v'], 'unknown flag --v', 'ambiguous', '--volume_group', '--virt_mkfs', '--verbose');
});

test('flags end at the first argument without a dash, and at --', () => {
  const flags = load('--max_cores=2', 'network', '--max_cores=3');
  assert.equal(flags.read(ours).max_cores, 2);
  assert.deepEqual(flags.rest, ['network', '--max_cores=3']);
  assert.deepEqual(load('--', '--max_cores=3').rest, ['--max_cores=3']);
  assert.deepEqual(load('-', 'x').rest, ['-', 'x']);
});

test('a text that has a form must have it once its $flags are filled in', () => {
  const named = (text: string) => Flags.of({ instance_name_template: text }).read(nameFlags).instance_name_template;
  assert.equal(named('vm-%d'), 'vm-%d');
  for (const text of ['instance', '%x-%x', '../%08x', '%8x', ''])
    assert.throws(() => named(text), /not like instance-%08x/);
  assert.throws(() => Flags.of({ host: 'a b' }).read(coreFlags), /^FlagsError: --host=a b: not a name: .*\(given\)/);
});

test('a number must look like one and stay within its bounds', () => {
  assert.equal(read('--max_cores=0x10').max_cores, 16);
  assert.equal(read('--cpu_ratio=.5').cpu_ratio, 0.5);
  fails(['--max_cores=abc'], '--max_cores=abc: not an integer (command line)');
  fails(['--max_cores='], 'not an integer');
  fails(['--max_cores=1e3'], 'not an integer');
  fails(['--max_cores=99999999999999999999'], 'not an integer up to');
  fails(['--max_cores=1001'], 'the most is 1000');
  fails(['--cpu_ratio=-1'], 'the least is 0');
  fails(['--cpu_ratio=fast'], 'not a number');
});

test('report_interval and periodic_interval below 1 are refused', () => {
  for (const name of ['report_interval', 'periodic_interval'])
    assert.throws(() => load(`--${name}=0`).read(serviceFlags), new RegExp(`--${name}=0: the least is 1`));
});

test('an enumeration takes its words only', () => {
  assert.equal(read('--libvirt_type=qemu').libvirt_type, 'qemu');
  fails(['--libvirt_type=xen'], '--libvirt_type=xen: not one of kvm, qemu');
});

test('a single flag keeps its last value, a multistring all of them in order without its default', () => {
  assert.equal(read('--max_cores=1', '--max_cores=2').max_cores, 2);
  assert.deepEqual(read('--virt_mkfs=a=1,2', '--virt_mkfs=b').virt_mkfs, ['a=1,2', 'b']);
  assert.deepEqual(read().virt_mkfs, ['default=mkfs']);
});

test('a list is cut at commas and its items trimmed', () => {
  assert.deepEqual(read('--dns_servers=1.1.1.1 , 9.9.9.9').dns_servers, ['1.1.1.1', '9.9.9.9']);
  assert.deepEqual(read('--dns_servers=').dns_servers, []);
});

test('a flag that no daemon knows is refused and the nearest one named; all of them are told at once', () => {
  fails(['--max_corse=3'], 'unknown flag --max_corse (command line)', 'nearest known: --max_cores');
  fails(['--volume-group=x', '--bogus'], 'nearest known: --volume_group', '--bogus');
});

test('--undefok lets flags be unknown, and later flags still apply', () => {
  assert.equal(read('--shiny=3', '--noglow', '--undefok=shiny,glow', '--max_cores=4').max_cores, 4);
});

test('a flag that another daemon declares is left alone, and so is its bad value', () => {
  assert.equal(load('--max_cores=abc', '--state_path=/s').read(coreFlags).state_path, '/s');
});

test('a flag declared after the start gets its value', () => {
  const flags = load('--libvirt_type=qemu', '--undefok=late_flag', '--use_ipv6');
  const late = defineFlags({ libvirt_type: string('kvm', ''), use_ipv6: boolean(false, '') });
  assert.deepEqual(flags.read(late), { libvirt_type: 'qemu', use_ipv6: true });
});

test('without an index of all flags, names are taken on trust until they are read', () => {
  const flags = loadFlags(['--a_new=1', '--bare', '--noshadow'], {
    binary: 'x',
    index: undefined,
    default_flagfiles: [],
  });
  const late = defineFlags({ a_new: integer(0, ''), bare: boolean(false, ''), shadow: boolean(true, '') });
  assert.deepEqual(flags.read(late), { a_new: 1, bare: true, shadow: false });
  assert.throws(() => flags.read(defineFlags({ bare: string('', '') })), /--bare: needs a value/);
});

test('--fromenv takes flags from the environment, --tryfromenv those that are there', () => {
  const env = { FLAGS_max_cores: '7', FLAGS_use_ipv6: 'true' };
  const loaded = (...argv: string[]) => loadFlags(argv, { binary: 'x', index, default_flagfiles: [], env });
  const { max_cores, use_ipv6 } = loaded('--fromenv=max_cores,use_ipv6').read(ours);
  assert.deepEqual([max_cores, use_ipv6], [7, true]);
  assert.equal(loaded('--tryfromenv=volume_group', '--max_cores=2').read(ours).volume_group, 'nova-volumes');
  assert.throws(() => loaded('--fromenv=volume_group'), /FLAGS_volume_group is not in the environment/);
  assert.throws(() => loaded('--fromenv=use_ipv6', '--fromenv=max_cores', '--bogus'), FlagsError);
});

test('a bad value from the environment names the variable', () => {
  const flags = loadFlags(['--fromenv=max_cores'], {
    binary: 'x',
    index,
    default_flagfiles: [],
    env: { FLAGS_max_cores: 'many' },
  });
  assert.throws(() => flags.read(ours), /--max_cores=many: not an integer \(environment FLAGS_max_cores\)/);
});

test('$flag and ${flag} stand for the value of that flag, to any depth; $$ is a dollar', () => {
  const flags = load('--state_path=/srv/$host', '--host=node7', '--sqlite_db=${host}-$$1.db');
  assert.equal(flags.read(dbFlags).sql_connection, 'sqlite:////srv/node7/node7-$1.db');
  assert.equal(load('--volume_group=$my_ip:$max_cores', '--my_ip=10.0.0.1').read(ours).volume_group, '10.0.0.1:16');
});

test('a dollar that names no flag is an error, as is a flag that refers to itself', () => {
  fails(['--volume_group=$bogus'], '--volume_group=$bogus', '$bogus is not a known flag', '$$');
  fails(['--volume_group=5$'], 'a literal dollar is $$');
  fails(['--volume_group=$logdir'], '$logdir has no value');
  fails(['--volume_group=$libvirt_type/$node_label', '--node_label=$volume_group'], 'refers to itself');
});

test('only strings are substituted', () => {
  assert.deepEqual(read('--dns_servers=$my_ip').dns_servers, ['$my_ip']);
});

test('another --state_path moves everything that is kept under it', () => {
  const all = defineFlags({ ...cactusDaemonFlags, ...cactusOtherFlags });
  const values = load('--state_path=/srv/nova', '--my_ip=10.0.0.1').read(all);
  const under = ['instances_path', 'networks_path', 'buckets_path', 'ca_path', 'keys_path', 'images_path'] as const;
  for (const name of under) assert.match(values[name], /^\/srv\/nova\//, name);
  assert.equal(values.sql_connection, 'sqlite:////srv/nova/nova.sqlite');
  assert.equal(values.ec2_dmz_host, '10.0.0.1');
});

test('an error never shows a secret', () => {
  const secret = defineFlags({ rabbit_password: string('guest', ''), sql_connection: string('', '') });
  const message = (argv: string[]) => {
    try {
      load(...argv).read(secret);
    } catch (err) {
      return String(err);
    }
    return 'no error';
  };
  for (const flag of ['--rabbit_password=pa$word', '--sql_connection=postgresql://nova:pa$word@h/db']) {
    assert.ok(message([flag]).includes('a literal dollar is $$'));
    assert.ok(!message([flag]).includes('word@') && !message([flag]).includes('$word'), message([flag]));
  }
});

test('in a test, Flags.of gives some values and leaves the rest at their defaults', () => {
  const flags = Flags.of({ max_cores: 3, state_path: '/t', logdir: null });
  assert.equal(flags.read(ours).max_cores, 3);
  assert.equal(flags.read(ours).volume_group, 'nova-volumes');
  assert.equal(flags.read(dbFlags).sql_connection, 'sqlite:////t/nova.sqlite');
  assert.equal(flags.read(coreFlags).logdir, null);
  assert.throws(() => Flags.of({ max_cores: '0' }).read(ours), FlagsError);
});

test('host and my_ip have values without being given', () => {
  const { host, my_ip } = Flags.of().read(coreFlags);
  assert.notEqual(host, '');
  assert.match(my_ip, /^\d+\.\d+\.\d+\.\d+$/);
});
