import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkConditions } from '../../../../src/objectstore/logic/conditions.ts';

const version = { etag: 'abc', modified: new Date('2011-04-15T10:00:00.900Z') };
const AT = 'Fri, 15 Apr 2011 10:00:00 GMT';
const BEFORE = 'Fri, 15 Apr 2011 09:59:59 GMT';

test('etags: with and without quotes, weak, lists and the star', () => {
  for (const if_match of ['"abc"', 'abc', 'W/"abc"', '"x", "abc"', '*'])
    assert.equal(checkConditions({ if_match }, version), 'ok', if_match);
  assert.equal(checkConditions({ if_match: '"x"' }, version), 'failed');
  assert.equal(checkConditions({ if_none_match: '"abc"' }, version), 'not_modified');
  assert.equal(checkConditions({ if_none_match: '"x"' }, version), 'ok');
});

test('dates count in whole seconds', () => {
  assert.equal(checkConditions({ if_modified_since: AT }, version), 'not_modified');
  assert.equal(checkConditions({ if_modified_since: BEFORE }, version), 'ok');
  assert.equal(checkConditions({ if_unmodified_since: AT }, version), 'ok');
  assert.equal(checkConditions({ if_unmodified_since: BEFORE }, version), 'failed');
  assert.equal(checkConditions({ if_modified_since: 'yesterday' }, version), 'ok');
});

test('an etag decides before a date', () => {
  assert.equal(checkConditions({ if_none_match: '"x"', if_modified_since: AT }, version), 'ok');
  assert.equal(checkConditions({ if_match: '"abc"', if_unmodified_since: BEFORE }, version), 'ok');
});

test('where nothing is, only If-Match fails', () => {
  assert.equal(checkConditions({ if_match: '*' }, null), 'failed');
  assert.equal(checkConditions({ if_none_match: '*' }, null), 'ok');
  assert.equal(checkConditions({ if_none_match: '*' }, version), 'not_modified');
});
