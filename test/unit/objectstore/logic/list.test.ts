import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareKeys, listPage, sortKeys, type ListQuery } from '../../../../src/objectstore/logic/list.ts';

const KEYS = sortKeys(['a', 'b/1', 'b/2', 'b/c/3', 'b0', 'bb', 'c', 'd/1', 'd/2']);
const query = (over: Partial<ListQuery> = {}): ListQuery => ({
  prefix: '',
  delimiter: '',
  after: '',
  max_keys: 1000,
  ...over,
});

/** Every key and prefix in turn, by pages of `max_keys`. */
function pages(over: Partial<ListQuery>): string[][] {
  const all: string[][] = [];
  let after = over.after ?? '';
  for (;;) {
    const page = listPage(KEYS, query({ ...over, after }));
    all.push([...page.keys, ...page.common_prefixes].sort());
    if (page.next === null) return all;
    assert.ok(all.length < 20, 'paging does not end');
    after = page.next;
  }
}

test('keys come in the order of their UTF-8 bytes', () => {
  const keys = ['\u{10000}', '\uffff', 'z', '\ud7ff', 'é', 'a', 'aa', 'A', '\u{1f600}'];
  const bytes = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  assert.deepEqual(sortKeys([...keys]), bytes);
  assert.deepEqual([...keys].sort(compareKeys), bytes);
});

test('a prefix chooses, and the marker is exclusive', () => {
  assert.deepEqual(listPage(KEYS, query({ prefix: 'b' })).keys, ['b/1', 'b/2', 'b/c/3', 'b0', 'bb']);
  assert.deepEqual(listPage(KEYS, query({ prefix: 'b', after: 'b/2' })).keys, ['b/c/3', 'b0', 'bb']);
  assert.deepEqual(listPage(KEYS, query({ after: 'b/15' })).keys, ['b/2', 'b/c/3', 'b0', 'bb', 'c', 'd/1', 'd/2']);
  assert.deepEqual(listPage(KEYS, query({ prefix: 'zz' })), { keys: [], common_prefixes: [], next: null });
});

test('a delimiter rolls up what has it behind the prefix', () => {
  const top = listPage(KEYS, query({ delimiter: '/' }));
  assert.deepEqual(top, { keys: ['a', 'b0', 'bb', 'c'], common_prefixes: ['b/', 'd/'], next: null });
  const below = listPage(KEYS, query({ delimiter: '/', prefix: 'b/' }));
  assert.deepEqual(below, { keys: ['b/1', 'b/2'], common_prefixes: ['b/c/'], next: null });
});

test('pages of any size together give each key and each common prefix once', () => {
  for (const max_keys of [1, 2, 3, 5]) {
    assert.deepEqual(pages({ max_keys }).flat(), KEYS);
    assert.deepEqual(pages({ max_keys, delimiter: '/' }).flat().sort(), ['a', 'b/', 'b0', 'bb', 'c', 'd/']);
    for (const page of pages({ max_keys, delimiter: '/' })) assert.ok(page.length <= max_keys);
  }
});

test('a page that holds the last key is not truncated, and one of no keys never is', () => {
  assert.equal(listPage(KEYS, query({ max_keys: KEYS.length })).next, null);
  assert.equal(listPage(KEYS, query({ max_keys: KEYS.length - 1 })).next, 'd/1');
  assert.deepEqual(listPage(KEYS, query({ max_keys: 0 })), { keys: [], common_prefixes: [], next: null });
});

test('a marker inside a rolled up group leaves the group in when keys of it follow', () => {
  assert.deepEqual(listPage(KEYS, query({ delimiter: '/', after: 'b/1' })).common_prefixes, ['b/', 'd/']);
  assert.deepEqual(listPage(KEYS, query({ delimiter: '/', after: 'b/' })).common_prefixes, ['d/']);
});
