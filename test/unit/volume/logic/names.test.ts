import assert from 'node:assert/strict';
import { test } from 'node:test';
import { idOfName, nameOf } from '../../../../src/volume/logic/names.ts';

test('a name at the store is read back as the id it was made of, and as none when it is not ours', () => {
  for (const template of ['volume-%08x', 'vol%d', '%04d_nova'])
    for (const id of [1, 10, 4096, 2 ** 31 - 1]) assert.equal(idOfName(template, nameOf(template, id)), id);
  assert.equal(nameOf('volume-%08x', 10), 'volume-0000000a');
  for (const name of ['volume-0000000A', 'volume-a', 'volume-0000000a.part', 'snapshot-0000000a', 'volume-', ''])
    assert.equal(idOfName('volume-%08x', name), undefined, name);
});
