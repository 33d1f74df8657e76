import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { sleep } from '../../../src/common/clock.ts';
import { makeContext } from '../../../src/common/context.ts';

test('many who wait by the signal that all contexts share are no leak to warn of', async () => {
  const warnings: string[] = [];
  const told = (warning: Error) => warnings.push(warning.name);
  process.on('warning', told);
  try {
    await Promise.all(Array.from({ length: 20 }, () => sleep(1, makeContext().signal)));
    const last = once(process, 'warning'); // warnings come in order, later than they are made
    process.emitWarning('the last one', 'TestEnds');
    await last;
  } finally {
    process.off('warning', told);
  }
  assert.deepEqual(warnings, ['TestEnds']);
});
