import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSets, setsText } from '../../../../src/common/linux/ipset.ts';

const SAVED = `create nova-sg-1 hash:ip family inet hashsize 1024 maxelem 1048576 bucketsize 12 initval 0x78db24b1
add nova-sg-1 10.0.0.2
add nova-sg-1 10.0.0.3
`;
const set = (...members: string[]) => [{ name: 'nova-sg-1', family: 'inet' as const, members }];

test('a set that is as wanted is left alone, in whatever order', () => {
  assert.equal(setsText(parseSets(SAVED), set('10.0.0.3', '10.0.0.2')), null);
});

test('other members come in all at once, by a swap', () => {
  const text = setsText(parseSets(SAVED), set('10.0.0.2', '10.0.0.4'));

  assert.deepEqual(text?.split('\n'), [
    'create nova-sg-1-new hash:ip family inet maxelem 1048576 -exist',
    'flush nova-sg-1-new',
    'add nova-sg-1-new 10.0.0.2 -exist',
    'add nova-sg-1-new 10.0.0.4 -exist',
    'swap nova-sg-1-new nova-sg-1',
    'destroy nova-sg-1-new',
    '',
  ]);
});

test('a set that is not there is made, without members too', () => {
  assert.match(setsText(new Map(), set()) ?? '', /^create nova-sg-1 hash:ip family inet/);
});
