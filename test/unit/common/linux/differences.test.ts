import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setDifferences } from '../../../../src/common/linux/ipset.ts';
import {
  parseSave,
  restoreText,
  tableDifferences,
  type WantedTable,
} from '../../../../src/common/linux/iptables_text.ts';

const wanted: WantedTable = {
  table: 'filter',
  chains: { local: ['-d 10.0.0.2/32 -j $inst-2'], 'inst-2': ['-j ACCEPT', '-j DROP'] },
  shared: { 'nova-filter-top': ['-j $local'] },
  builtin: { FORWARD: [{ rule: '-j nova-filter-top', place: 'first' }] },
};
const words = (save: string) =>
  tableDifferences('iptables table filter', parseSave(save), 'nova-n', wanted).map((one) => `${one.what.slice(22)} | ${one.expected} | ${one.found} | ${one.repair}`); // prettier-ignore
const RIGHT = `:FORWARD ACCEPT [0:0]\n:nova-filter-top - [0:0]\n:nova-n-local - [0:0]\n:nova-n-inst-2 - [0:0]
-A FORWARD -j nova-filter-top\n-A FORWARD -j MINE\n-A nova-filter-top -j nova-n-local
-A nova-n-local -d 10.0.0.2/32 -j nova-n-inst-2\n-A nova-n-inst-2 -j ACCEPT\n-A nova-n-inst-2 -j DROP\n`;

test('a table with which nothing is to be done has no differences, whatever else is in it', () => {
  assert.equal(restoreText(parseSave(RIGHT), 'nova-n', wanted), null);
  assert.deepEqual(words(RIGHT), []);
});

test('of a table each missing, foreign, moved and doubled rule of ours is told', () => {
  const wrong = RIGHT.replace('-A nova-n-inst-2 -j ACCEPT', '-A nova-n-inst-2 -s 10.0.0.9/32 -j ACCEPT')
    .replace(
      '-A FORWARD -j nova-filter-top\n-A FORWARD -j MINE\n',
      '-A FORWARD -j MINE\n-A FORWARD -j nova-filter-top\n',
    )
    .replace(':nova-n-local', ':nova-n-inst-7 - [0:0]\n:nova-n-local')
    .replace('-A nova-n-local', '-A nova-filter-top -j nova-n-local\n-A nova-n-local');

  assert.deepEqual(words(wrong), [
    'chain nova-n-inst-2 | -j ACCEPT | no such rule | adds it',
    'chain nova-n-inst-2 | no such rule | -s 10.0.0.9/32 -j ACCEPT | takes it away',
    'chain nova-n-inst-7 | no such chain, since what it was for is gone | a chain of 0 rules | removes it and the jumps to it',
    'chain nova-filter-top | -j nova-n-local once | it 2 times | takes the others away',
    'chain FORWARD | -j nova-filter-top | them in other places | puts them in order',
  ]);
});

test('rules in another order, and a chain that is not there, are told as such', () => {
  const turned = RIGHT.replace('-A nova-n-inst-2 -j ACCEPT\n-A nova-n-inst-2 -j DROP', '-A nova-n-inst-2 -j DROP\n-A nova-n-inst-2 -j ACCEPT'); // prettier-ignore
  assert.deepEqual(words(turned), ['chain nova-n-inst-2 | 2 rules | them in another order, or twice | fills it anew']);
  const without = RIGHT.replace(/.*nova-n-inst-2.*\n/g, '');
  assert.deepEqual(words(without), [
    'chain nova-n-local | -d 10.0.0.2/32 -j nova-n-inst-2 | no such rule | adds it',
    'chain nova-n-inst-2 | a chain of 2 rules | no such chain | makes it',
  ]);
});

test('of sets each address too few and too many is told, and each set', () => {
  const have = new Map([
    ['nova-sg-1', new Set(['10.0.0.2', '10.0.0.3'])],
    ['nova-sg-9', new Set<string>()],
  ]);
  const want = (name: string, ...members: string[]) => ({ name, family: 'inet' as const, members });
  const found = setDifferences(have, [want('nova-sg-1', '10.0.0.3', '10.0.0.4'), want('nova-sg-2')]);
  assert.deepEqual(
    found.map(({ what, expected, found: is }) => [what, expected, is].join(' | ')),
    [
      'ipset nova-sg-1 | 10.0.0.4 | not in it',
      'ipset nova-sg-1 | not 10.0.0.2 | it is in it',
      'ipset nova-sg-2 | 0 addresses | no such set',
      'ipset nova-sg-9 | no such set, since no rule uses it | a set of 0 addresses',
    ],
  );
});
