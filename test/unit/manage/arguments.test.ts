import assert from 'node:assert/strict';
import test from 'node:test';
import { HelpAsked, parseArguments, UsageError } from '../../../src/manage/arguments.ts';
import { alsoCalled, integer, named, onOff, optional, text } from '../../../src/manage/noun.ts';

const ARGS = {
  name: text('Its name'),
  count: optional(integer('How many'), 1),
  bridge: named(optional(text('Bridge'))),
  dhcp_start: named(optional(text('First address'))),
  dns1: named(optional(text('DNS server'))),
  host: named(optional(text('Host'))),
  purge: onOff('Wholly'),
};
/** What the words give, without what they leave out. */
const given = (...words: string[]) => {
  const values = Object.entries(parseArguments(ARGS, ['--name=web', ...words]));
  return Object.fromEntries(values.filter(([, value]) => value !== undefined && value !== false && value !== 'web'));
};
const placed = (...words: string[]) => {
  const { name, count } = parseArguments(ARGS, words);
  return [name, count];
};

test('an argument goes by its place, as --name=VALUE or as --name VALUE, in any order', () => {
  for (const words of [
    ['web', '3'],
    ['--count=3', 'web'],
    ['--count', '3', 'web'],
    ['3', '--name', 'web'],
    ['web', '--', '3'],
  ])
    assert.deepEqual(placed(...words), ['web', 3], words.join(' '));
  assert.deepEqual(placed('web'), ['web', 1]);
});

test("other releases' names for an argument are taken as --NAME=VALUE, with - for _ too", () => {
  const args = { size: alsoCalled(['network_size'], optional(integer('How large'))) };
  for (const words of [['8'], ['--size=8'], ['--network_size=8'], ['--network-size', '8']])
    assert.deepEqual(parseArguments(args, words), { size: 8 }, words.join(' '));
  assert.throws(() => parseArguments(args, ['--size=8', '--network_size=9']), /--size is given twice/);
});

test('a value is taken as it is written', () => {
  for (const value of [
    '',
    '-',
    '-x',
    '--purge',
    '--',
    '"quoted"',
    `'it'`,
    '007',
    '1e3',
    '0x10',
    '-1',
    'a=b',
    'a b\nc',
    'true',
  ]) {
    assert.equal(parseArguments(ARGS, ['--name', value])['name'], value, `--name ${value}`);
    assert.equal(parseArguments(ARGS, [`--name=${value}`])['name'], value, `--name=${value}`);
    assert.equal(parseArguments(ARGS, ['--', value])['name'], value, `-- ${value}`);
  }
  for (const value of ['-', '-1', '"quoted"', '007', '1e3', 'a=b', 'a.b', 'true'])
    assert.deepEqual(placed(value), [value, 1]);
});

test('a name may be shortened as long as one meaning is left, and have - for _', () => {
  assert.deepEqual(given('--br=br7', '--dhcp-start', '10.0.0.9'), { count: 1, bridge: 'br7', dhcp_start: '10.0.0.9' });
  assert.deepEqual(given('--dhcp-=a', '-b', 'br7', '--ho=node1'), {
    count: 1,
    dhcp_start: 'a',
    bridge: 'br7',
    host: 'node1',
  });
  assert.throws(() => given('--d=x'), { message: '--d can mean --dhcp_start, --dns1' });
});

test('a switch is on by its name, off by --no- and its name, and has no value', () => {
  assert.deepEqual(given('--purge'), { count: 1, purge: true });
  assert.deepEqual(given('--pu', '3'), { count: 3, purge: true });
  assert.deepEqual(given('--purge', '--no-purge'), { count: 1 });
  assert.throws(() => given('--purge=F'), UsageError);
});

test('what does not fit is refused in words that name it', () => {
  for (const [words, message] of [
    [['--colour=red'], /^there is no --colour here, but --name, --count, .*; flags stand before the category$/],
    [['--name.first=x'], /^there is no --name\.first here/],
    [['-x'], /^there is no --x here/],
    [['-zap'], /^there is no --z here/],
    [['--__proto__=x'], /^there is no --___proto___ here/],
    [['--bridge'], /^--bridge needs a value, --bridge=\.\.\.$/],
    [['--no-bridge'], /^--bridge needs a value/],
    [['--bridge=a', '--br=b'], /^--bridge is given twice$/],
    [['--count=3', '4'], /^'4' is one argument too many$/],
    [['--count=many'], /^COUNT: 'many' is not a whole number/],
  ] as [string[], RegExp][])
    assert.throws(
      () => given(...words),
      (err) => err instanceof UsageError && message.test(err.message),
      words.join(' '),
    );
});

test('an empty word leaves out what may be left out, and nothing else', () => {
  assert.deepEqual(given('', '--bridge='), { count: 1 });
  assert.throws(() => parseArguments(ARGS, []), { message: 'NAME is missing: its name' });
});

test('help is asked for anywhere among the words, also among wrong ones', () => {
  for (const words of [['--help'], ['web', '-h'], ['--colour', 'red', '--help']])
    assert.throws(
      () => parseArguments(ARGS, words),
      (err) => err instanceof HelpAsked,
    );
});
