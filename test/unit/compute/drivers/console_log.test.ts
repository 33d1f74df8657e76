import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Turns } from '../../../../src/common/linux/host.ts';
import { boundConsole } from '../../../../src/compute/drivers/console_log.ts';
import { tempDir } from '../../../rigs/tmp.ts';

test('a console log that many would cut at once keeps its tail', async (t) => {
  const log = join(tempDir(t), 'console.log');
  const turns = new Turns();
  for (let round = 0; round < 20; round++) {
    writeFileSync(log, 'x'.repeat(1024 * 1024));
    // One after the other, so that somebody comes at every moment of it.
    const cut = Array.from({ length: 50 }, async (_, n) => {
      for (let wait = 0; wait < n; wait++) await setImmediate();
      await boundConsole(log, turns);
    });
    await Promise.all(cut);

    assert.equal(statSync(log).size, 0);
    assert.equal(readFileSync(`${log}.1`, 'utf8'), 'x'.repeat(512 * 1024));
  }
});
