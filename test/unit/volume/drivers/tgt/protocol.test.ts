import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atFileLimit } from '../../../../rigs/file_limit.ts';

test('tgtd is gone when nobody listens, and not when it cannot be asked for want of open files', async () => {
  const said = await atFileLimit(`
    const { askTgtd, TgtdGone } = await load('volume/drivers/tgt/protocol.js');
    const isGone = () => askTgtd('/nowhere/ctl.0', { mode: 'portal', op: 'show' }).catch((err) => err instanceof TgtdGone);
    const told = [await isGone()];
    fill();
    told.push(await isGone());
    empty();
    console.log(told.join());
  `);

  assert.equal(said, 'true,false\n');
});
