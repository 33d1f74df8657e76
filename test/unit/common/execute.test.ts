import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { execute } from '../../../src/common/execute.ts';
import { Aborted, ProcessExecutionError } from '../../../src/common/errors.ts';
import { tempDir } from '../../rigs/tmp.ts';

const ENDLESS = 'exec sleep 20';
const AT_ONCE = 'exit 0';

/** A command that leaves a process behind which holds its output, and then does what `then` says. */
function leavesOne(t: TestContext, then: string): string[] {
  let pid = '';
  t.after(() => process.kill(Number(readFileSync(pid, 'utf8')), 'SIGKILL')); // before its folder goes
  pid = join(tempDir(t), 'pid');
  return ['sh', '-c', `sleep 20 & echo $! >'${pid}'; ${then}`];
}

for (const then of [ENDLESS, AT_ONCE])
  test(`a command is given up when its time is over though what it started holds its output: ${then}`, async (t) => {
    const started = Date.now();

    await assert.rejects(execute(leavesOne(t, then), { timeout_ms: 300 }), (err) => {
      assert.ok(err instanceof ProcessExecutionError);
      assert.match(err.message, /no answer in 300 ms$/);
      assert.deepEqual(err.details, { command: 'sh', timeout_ms: 300 });
      return true;
    });
    assert.ok(Date.now() - started < 10_000);
  });

test('a command is given up with its signal though what it started holds its output', async (t) => {
  const started = Date.now();

  await assert.rejects(execute(leavesOne(t, ENDLESS), { signal: AbortSignal.timeout(300) }), Aborted);

  assert.ok(Date.now() - started < 10_000);
});

test('a command is over when what it started is, and its output is whole', async () => {
  const { stdout } = await execute(['sh', '-c', '(sleep 0.1; echo later) & echo first']);

  assert.equal(stdout, 'first\nlater\n');
});
