import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { execute } from '../../../src/common/execute.ts';
import { Aborted, ProcessExecutionError } from '../../../src/common/errors.ts';
import { isAlive } from '../../../scripts/proc.ts';
import { atFileLimit } from '../../rigs/file_limit.ts';
import { findProgram, needs } from '../../rigs/needs.ts';
import { tempDir } from '../../rigs/tmp.ts';
import { until } from '../../until.ts';

const ENDLESS = 'exec sleep 60';
const AT_ONCE = 'exit 0';

/** A command that leaves a process behind which holds its output, and then does what `then` says. */
function leavesOne(t: TestContext, then: string) {
  let file = '';
  const pid = () => Number(readFileSync(file, 'utf8'));
  t.after(() => process.kill(pid(), 'SIGKILL')); // before its folder goes
  file = join(tempDir(t), 'pid');
  const argv = ['sh', '-c', `sleep 60 & echo $! >'${file}'; ${then}`];
  return { argv, begun: () => existsSync(file), holds: () => isAlive(pid()) };
}

for (const then of [ENDLESS, AT_ONCE])
  test(`a command is given up when its time is over though what it started holds its output: ${then}`, async (t) => {
    const { argv, holds } = leavesOne(t, then);

    await assert.rejects(execute(argv, { timeout_ms: 1000 }), (err) => {
      assert.ok(err instanceof ProcessExecutionError);
      assert.match(err.message, /no answer in 1000 ms$/);
      assert.deepEqual(err.details, { command: 'sh', timeout_ms: 1000 });
      return true;
    });
    assert.ok(holds());
  });

test('a command is given up with its signal though what it started holds its output', async (t) => {
  const { argv, begun, holds } = leavesOne(t, ENDLESS);
  const stop = new AbortController();
  const given_up = assert.rejects(execute(argv, { signal: stop.signal }), Aborted);
  await until('it has left one behind', begun);

  stop.abort();

  await given_up;
  assert.ok(holds());
});

test('a command is over when what it started is, and its output is whole', async () => {
  const { stdout } = await execute(['sh', '-c', '(sleep 0.1; echo later) & echo first']);

  assert.equal(stdout, 'first\nlater\n');
});

test('a command that cannot be started for want of open files is an error, and no end of the process', async () => {
  const said = await atFileLimit(`
    const { execute } = await load('common/execute.js');
    await execute(['true']);
    fill();
    const said = await execute(['true']).catch(String);
    empty();
    await execute(['true']);
    console.log(said);
  `);

  assert.equal(said, 'ProcessExecutionError: true cannot be run: spawn true EMFILE\n');
});

/** What a process of no rights does: has root sleep by the helper, and gives up when that has begun. */
const asNobody = (helper: string[], pid_file: string): string => `
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { execute } from '${new URL('../../../src/common/execute.js', import.meta.url).href}';
process.setgroups([]);
process.setgid(65534);
process.setuid(65534);
const stop = new AbortController();
const argv = ['sh', '-c', 'echo $$ >${pid_file}; exec sleep 60'];
const work = execute(argv, { signal: stop.signal, root_helper: ${JSON.stringify(helper)} }).catch((err) => err);
while (!existsSync('${pid_file}')) await sleep(10);
stop.abort();
console.log((await work).name);
`;

test(
  'a root command that is given up is ended by its root helper first (a stand-in: setpriv with the setuid bit)',
  { skip: needs('root', 'setpriv', 'kill') },
  async (t) => {
    const dir = tempDir(t);
    const [setpriv, pid_file] = [join(dir, 'setpriv'), join(dir, 'pid')];
    chmodSync(dir, 0o755);
    copyFileSync(findProgram('setpriv') as string, setpriv);
    chmodSync(setpriv, 0o4755);
    const waits = ['sh', '-c', '"$@"; exit $?', 'helper']; // like sudo, it is not the command itself
    const helper = [setpriv, '--reuid=0', '--regid=0', '--clear-groups', ...waits];

    const script = asNobody(helper, pid_file);
    const { stdout } = await execute([process.execPath, '--input-type=module', '-e', script]);

    assert.equal(stdout, 'Aborted\n');
    assert.equal(isAlive(Number(readFileSync(pid_file, 'utf8'))), false);
  },
);
