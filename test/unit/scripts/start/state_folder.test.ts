import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { StartError } from '../../../../scripts/start/start_error.ts';
import { StateFolder, type Run } from '../../../../scripts/start/state_folder.ts';
import { tempDir } from '../../../rigs/tmp.ts';

const startTime = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')[19] ?? '';

test('one start at a time has the folder, and a process that got the number of a dead one is no start', (t) => {
  const dir = tempDir(t);
  const file = join(dir, 'start.pid');

  writeFileSync(file, `${process.ppid} ${startTime(process.ppid)}\n`);
  assert.throws(
    () => new StateFolder(dir),
    (err) => err instanceof StartError && err.message.includes(`process ${process.ppid}, uses ${dir}`),
  );
  writeFileSync(file, `${process.ppid} 1\n`);
  new StateFolder(dir);

  assert.equal(readFileSync(file, 'utf8'), `${process.pid} ${startTime(process.pid)}\n`);
});

test('what is up is known to the next start until it has ended in order', (t) => {
  const state = new StateFolder(tempDir(t));
  const run: Run = { mode: { driver: 'fake' }, network: { cidr: '10.1.2.0/24', bridge: 'br7' }, sysctls: { a: '1' } };

  state.writeRun(run);
  assert.deepEqual(new StateFolder(state.dir).leftRun(), run);
  state.forgetRun();
  assert.equal(state.leftRun(), undefined);
});

test('what is written there is for its owner alone', (t) => {
  const state = new StateFolder(tempDir(t));

  state.write('secret', 'x');
  writeFileSync(state.path('database'), 'rows', { mode: 0o644 });
  state.makePrivate('database');

  for (const name of ['secret', 'database']) assert.equal(statSync(state.path(name)).mode & 0o777, 0o600);
  assert.equal(readFileSync(state.path('database'), 'utf8'), 'rows');
});
