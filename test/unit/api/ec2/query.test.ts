import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MalformedQueryString } from '../../../../src/api/ec2/errors.ts';
import { nest, parseParams } from '../../../../src/api/ec2/query.ts';

const none = Buffer.alloc(0);
const fromQuery = (query: string) => Object.fromEntries(parseParams(query, none));

test('query and form are one set of parameters', () => {
  const params = parseParams('Action=RunInstances&a=%C3%A9+b&empty=&bare', Buffer.from('Version=2009-04-04&x=1%2B1'));

  assert.deepEqual(Object.fromEntries(params), {
    Action: 'RunInstances',
    a: 'é b',
    empty: '',
    bare: '',
    Version: '2009-04-04',
    x: '1+1',
  });
});

test('text outside ASCII may come raw, as UTF-8', () => {
  const raw = Buffer.from('KeyName=é');

  assert.deepEqual(fromQuery(raw.toString('latin1')), { KeyName: 'é' });
  assert.equal(parseParams('', raw).get('KeyName'), 'é');
});

const BAD: [string, string | Buffer][] = [
  ['broken UTF-8', 'a=%ff'],
  ['a surrogate in UTF-8', 'a=%ed%a0%80'],
  ['raw bytes that are not UTF-8', Buffer.from([0x61, 0x3d, 0xff])],
  ['a percent sign that escapes nothing', 'a=100%'],
  ['a NUL', 'a=b%00c'],
  ['a raw NUL', 'a=b\0c'],
  ['an empty name', '=x'],
  ['a name of 257 characters', `${'n'.repeat(257)}=x`],
  ['a name twice with two values', 'InstanceId=i-1&InstanceId=i-2'],
  ['2001 parameters', Array.from({ length: 2001 }, (_, i) => `p.${i}=x`).join('&')],
];
for (const [what, sent] of BAD) {
  test(`a request with ${what} is refused, in the query and in the form`, () => {
    assert.throws(() => parseParams(Buffer.from(sent).toString('latin1'), none), MalformedQueryString);
    assert.throws(() => parseParams('', Buffer.from(sent)), MalformedQueryString);
  });
}

test('2000 parameters are allowed', () => {
  const query = Array.from({ length: 2000 }, (_, i) => `p.${i}=x`).join('&');

  assert.equal(parseParams(query, none).size, 2000);
});

test('dots in a name build a tree, in which no name is special', () => {
  const root = nest(parseParams('Filter.1.Name=n&Filter.1.Value.2=b&__proto__.x=1&constructor=2', none));

  assert.equal(
    root.children?.get('Filter')?.children?.get('1')?.children?.get('Value')?.children?.get('2')?.value,
    'b',
  );
  assert.equal(root.children?.get('__proto__')?.children?.get('x')?.value, '1');
  assert.equal(root.children?.get('constructor')?.value, '2');
  assert.equal(({} as Record<string, unknown>)['x'], undefined);
});

test('a name of more than 8 parts is refused', () => {
  nest(parseParams('a.b.c.d.e.f.g.h=1', none));

  assert.throws(() => nest(parseParams('a.b.c.d.e.f.g.h.i=1', none)), MalformedQueryString);
});
