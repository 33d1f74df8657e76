import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atFileLimit } from '../../../rigs/file_limit.ts';

test('a bundle that cannot be opened for want of open files is an error, and no end of the process', async () => {
  const said = await atFileLimit(`
    import { createDecipheriv } from 'node:crypto';
    const { unpackBundle } = await load('objectstore/manager/bundle.js');
    const cipher = createDecipheriv('aes-128-cbc', Buffer.alloc(16), Buffer.alloc(16));
    const image = unpackBundle(async function* () {}, cipher, null);
    fill();
    const said = await image.toArray().catch(String);
    empty();
    console.log(said);
  `);

  assert.equal(said, 'NovaError: tar was not run: spawn tar EMFILE\n');
});
