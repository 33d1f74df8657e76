import assert from 'node:assert/strict';
import { test } from 'node:test';
import { globMatches, matcher } from '../../../../src/api/ec2/filters.ts';
import { InvalidInput } from '../../../../src/common/errors.ts';

const GLOBS: [string, string, boolean][] = [
  ['web', 'web', true],
  ['web', 'web1', false],
  ['', '', true],
  ['', 'x', false],
  ['*', '', true],
  ['*', 'anything', true],
  ['web*', 'web', true],
  ['*.example', 'a.b.example', true],
  ['a*b*c', 'a--b--b--c', true],
  ['a*b*c', 'a--b--b--', false],
  ['w?b', 'web', true],
  ['w?b', 'wb', false],
  ['?', '', false],
  ['a\\*', 'a*', true],
  ['a\\*', 'ab', false],
  ['a\\?', 'a?', true],
  ['a.c', 'abc', false],
  ['**a', 'bba', true],
];
test('in a filter * is any text and ? one character, unless a backslash stands before', () => {
  for (const [pattern, text, expected] of GLOBS)
    assert.equal(globMatches(pattern, text), expected, `${pattern} ${text}`);
});

interface Thing {
  name: string;
  size: number;
  owner: string | null;
  groups: string[];
  tags: Record<string, string>;
}
const FIELDS = {
  name: (t: Thing) => t.name,
  size: (t: Thing) => t.size,
  owner: (t: Thing) => t.owner,
  'group-name': (t: Thing) => t.groups,
};
const aThing = (over: Partial<Thing> = {}): Thing => ({
  name: 'web',
  size: 5,
  owner: null,
  groups: ['default', 'db'],
  tags: { role: 'front', stage: '' },
  ...over,
});
const passes = (filters: [string, ...string[]][], thing = aThing()) =>
  matcher<Thing>(
    filters.map(([Name, ...Value]) => ({ Name, Value })),
    FIELDS,
    ({ tags }) => tags,
  )(thing);

test('every filter must match, with any of its values', () => {
  assert.ok(passes([]));
  assert.ok(passes([['name', 'db', 'web'], ['size', '5']])); // prettier-ignore
  assert.ok(!passes([['name', 'web'], ['size', '6']])); // prettier-ignore
  assert.ok(passes([['group-name', 'db']]));
  assert.ok(!passes([['owner', '*']])); // there is none
});

test('tags are found by key, and by key and value', () => {
  assert.ok(passes([['tag:role', 'front', 'back']]));
  assert.ok(passes([['tag:stage', '']]));
  assert.ok(!passes([['tag:stage', 'x']]));
  assert.ok(!passes([['tag:toString', '*']]));
  assert.ok(passes([['tag-key', 'st*']]));
});

test('a filter that is not offered is refused, with those that are', () => {
  assert.throws(() => passes([['constructor', 'x']]), InvalidInput);
  assert.throws(() => passes([['color', 'x']]), /no filter 'color' here; there are name, size, owner, group-name/);
});
