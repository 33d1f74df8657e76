import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test, type TestContext } from 'node:test';
import { FlagsError } from '../../../src/common/errors.ts';
import { boolean, defineFlags, integer, loadFlags, string, type LoadOptions } from '../../../src/common/flags.ts';
import { indexFlags } from '../../../scripts/flag_index.ts';

const ours = defineFlags({
  volume_group: string('nova-volumes', 'LVM group'),
  max_cores: integer(16, 'VCPUs per host'),
  use_ipv6: boolean(false, 'IPv6'),
});
const index = { flags: indexFlags([{ module: 'src/x.ts', defs: ours }]), binaries: {} };

/** A folder with these files. @returns its path with the name put behind it */
function aFolder(t: TestContext, files: Record<string, string>, parent = tmpdir()): (name: string) => string {
  const folder = mkdtempSync(join(parent, '.nova-flags-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return (name) => join(folder, name);
}
const load = (argv: string[], more: Partial<LoadOptions> = {}) =>
  loadFlags(argv, { binary: 'nova-x', index, default_flagfiles: [], env: {}, ...more });

test('a flagfile skips comments and blank lines, trims lines and keeps quotes', (t) => {
  const at = aFolder(t, {
    f: '# one\n// two\n \t \n  # indented\n\t--volume_group="a b # c" \r\n--use_ipv6\n--max_cores=3',
  });

  for (const form of [[`--flagfile=${at('f')}`], ['--flagfile', at('f')], ['-flagfile', at('f')]])
    assert.deepEqual(load(form).read(ours), { volume_group: '"a b # c"', max_cores: 3, use_ipv6: true });
});

test('a flagfile expands where it is named, so the last word wins', (t) => {
  const at = aFolder(t, { a: '--max_cores=1\n--volume_group=a', b: '--max_cores=2\n--use_ipv6' });

  assert.equal(load([`--flagfile=${at('a')}`, '--max_cores=9']).read(ours).max_cores, 9);
  assert.equal(load(['--max_cores=9', `--flagfile=${at('a')}`]).read(ours).max_cores, 1);
  const both = load([`--flagfile=${at('a')}`, `--flagfile=${at('b')}`, '--nouse_ipv6']);
  assert.deepEqual(both.read(ours), { volume_group: 'a', max_cores: 2, use_ipv6: false });
});

test('a nested flagfile is read from the working directory, or from the home folder', (t) => {
  const at = aFolder(t, { inner: '--max_cores=5\n', after: '' });
  const fromHere = relative(process.cwd(), at('inner'));
  writeFileSync(at('outer'), `--max_cores=4\n--flagfile=${fromHere}\n--volume_group=x\n`);
  const home = aFolder(t, { mine: '--max_cores=6' }, homedir());

  assert.deepEqual(load([`--flagfile=${at('outer')}`]).read(ours), {
    volume_group: 'x',
    max_cores: 5,
    use_ipv6: false,
  });
  assert.equal(load([`--flagfile=~/${relative(homedir(), home('mine'))}`]).read(ours).max_cores, 6);
});

test('flagfiles that include each other are read once each, with a warning', (t) => {
  const at = aFolder(t, {});
  writeFileSync(at('a'), `--flagfile=${at('b')}\n--max_cores=1\n`);
  writeFileSync(at('b'), `--flagfile=${at('a')}\n--volume_group=b\n`);
  const warnings: string[] = [];

  const flags = load([`--flagfile=${at('a')}`], { warn: (line) => warnings.push(line) });

  assert.deepEqual(flags.read(ours), { volume_group: 'b', max_cores: 1, use_ipv6: false });
  assert.deepEqual(warnings, [`Warning: Hit circular flagfile dependency: ${at('a')} (${at('b')}:1)`]);
});

test('a flagfile that is missing is an error that says who named it', (t) => {
  const at = aFolder(t, { f: '\n--flagfile=/nonexistent/g' });

  assert.throws(() => load(['--flagfile=/nonexistent/f']), /--flagfile=\/nonexistent\/f: cannot be read.*command line/);
  assert.throws(() => load([`--flagfile=${at('f')}`]), new RegExp(`/nonexistent/g: cannot be read.*${at('f')}:2`));
});

test('what is wrong in a flagfile is told with file and line', (t) => {
  const wrong: [string, RegExp][] = [
    ['--max_cores=abc', /--max_cores=abc: not an integer \(.*\/f:2\)/],
    ['--max_corse=3', /unknown flag --max_corse \(.*\/f:2\); nearest known: --max_cores/],
    ['--max_cores 3', /--max_cores 3: in a flagfile write --max_cores=3 \(.*\/f:2\)/],
    ['--flagfile other', /in a flagfile write --flagfile=other \(.*\/f:2\)/],
    ['--max_cores', /--max_cores: needs a value.*\/f:2\)/],
    ['max_cores=3', /max_cores=3: not a flag, which begins with -- \(.*\/f:2\)/],
    ['--use_ipv6=on', /--use_ipv6=on: not a boolean.*\/f:2\)/],
  ];
  for (const [line, expected] of wrong) {
    const at = aFolder(t, { f: `# first\n${line}\n` });
    assert.throws(
      () => load([`--flagfile=${at('f')}`]).read(ours),
      (err: unknown) => err instanceof FlagsError && expected.test(err.message),
      line,
    );
  }
});

test('without --flagfile the first default file that exists is read, and the command line overrides it', (t) => {
  const at = aFolder(t, { 'nova.conf': '--max_cores=3\n--volume_group=c\n', 'other.conf': '--max_cores=4\n' });
  const defaults = { default_flagfiles: [at('none.conf'), at('nova.conf'), at('other.conf')] };

  assert.equal(load([], defaults).read(ours).max_cores, 3);
  assert.equal(load([], defaults).source('max_cores'), `${at('nova.conf')}:1`);
  assert.deepEqual(load(['--max_cores=5'], defaults).read(ours), { volume_group: 'c', max_cores: 5, use_ipv6: false });
  assert.equal(load([`--flagfile=${at('other.conf')}`], defaults).read(ours).volume_group, 'nova-volumes');
});

test('nova.conf beside the executable is a default file', (t) => {
  const at = aFolder(t, { 'nova.conf': '--max_cores=3\n' });
  const script = process.argv[1];
  t.after(() => (process.argv[1] = script ?? ''));
  process.argv[1] = at('nova-x');

  assert.equal(loadFlags([], { binary: 'nova-x', index }).read(ours).max_cores, 3);
});

test('nova-dhcpbridge reads the file that FLAGFILE names, and misses it if it is not there', (t) => {
  const at = aFolder(t, { bridge: '--max_cores=7\n' });

  assert.equal(load(['add'], { flagfile: at('bridge') }).read(ours).max_cores, 7);
  assert.throws(() => load(['add'], { flagfile: at('gone') }), /cannot be read.*environment FLAGFILE/);
});

test('a folder is no flagfile', (t) => {
  const at = aFolder(t, {});
  mkdirSync(at('d'));
  assert.throws(() => load([`--flagfile=${at('d')}`]), /cannot be read: it is a folder/);
});
