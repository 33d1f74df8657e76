import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { flagFileText, startDaemon } from '../../rigs/daemon.ts';
import { needs } from '../../rigs/needs.ts';
import { startLan } from '../../rigs/netns.ts';
import { tempDir, type Scope } from '../../rigs/tmp.ts';
import { assertLeavesNothing } from './leftovers.ts';

/** Says what a daemon of ours says, so that this test is about the rig alone. */
function anExecutable(scope: Scope, serve: string): string {
  const path = join(tempDir(scope), 'nova-example.mjs');
  writeFileSync(
    path,
    `import { readFileSync } from 'node:fs';
    import { hostname } from 'node:os';
    const log = (msg, facts) => console.log(JSON.stringify({ level: 30, msg, ...facts }));
    const flags = readFileSync(process.argv[2].slice('--flagfile='.length), 'utf8');
    setInterval(() => {}, 1000);
    ${serve}`,
  );
  return path;
}

test('a daemon is ready when it says so, restarts with its state, and leaves nothing behind', async () => {
  await assertLeavesNothing(async (scope) => {
    const binary = anExecutable(scope, `log('starting', { flags }); setTimeout(() => log('ready'), 50);`);
    const daemon = await startDaemon(scope, binary, { flags: { verbose: true, rabbit_port: 7 } });
    const state_path = `--state_path=${join(daemon.dir, 'state')}\n`;
    assert.equal(daemon.log()[0]?.['flags'], `${state_path}--verbose\n--rabbit_port=7\n`);
    const first = daemon.pid;

    await daemon.restart();
    assert.notEqual(daemon.pid, first);
    assert.equal(daemon.log().length, 2); // of this run alone

    await daemon.kill();
    assert.equal(daemon.running, false);
    assert.ok(existsSync(daemon.log_file));
  });
});

test('a daemon that ends before it is ready fails the test with what it wrote', async () => {
  await assertLeavesNothing(async (scope) => {
    const binary = anExecutable(scope, `console.error('no such database'); process.exit(2);`);
    await assert.rejects(startDaemon(scope, binary, { flags: {} }), /ended before it was ready[^]*no such database/);
  });
});

test('a daemon that does not become ready is killed and fails the test', async () => {
  await assertLeavesNothing(async (scope) => {
    const binary = anExecutable(scope, `log('starting');`);
    await assert.rejects(
      startDaemon(scope, binary, { flags: {}, timeout_ms: 5000 }),
      /not ready after 5000 ms[^]*starting/,
    );
  });
});

const skip = needs('root', 'nsenter', 'unshare', 'ip');
test('a daemon in a test host is told its name and address, and gets the signals meant for it', { skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const lan = await startLan(scope, ['h1']);
    const binary = anExecutable(
      scope,
      `process.on('SIGTERM', () => { log('stopping'); process.exit(0); }); log('ready', { name: hostname(), flags });`,
    );
    const daemon = await startDaemon(scope, binary, { flags: {}, host: lan.hosts[0]! });
    const ready = await daemon.waitForLog('ready');
    assert.equal(ready['name'], 'h1');
    assert.match(String(ready['flags']), new RegExp(`--my_ip=${lan.hosts[0]!.address}\n--host=h1\n`));

    await daemon.stop();

    assert.equal(daemon.log().at(-1)?.msg, 'stopping');
  });
});

test('a flagfile says true, false, lists and nothing as gflags do', () => {
  const text = flagFileText({ a: true, b: false, c: ['x', 'y'], d: null, e: 'v w', f: 0 });
  assert.equal(text, '--a\n--nob\n--c=x\n--c=y\n--e=v w\n--f=0\n');
});
