import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'node:test';
import { needs } from '../../rigs/needs.ts';
import { until } from '../../until.ts';
import { mark } from './leftovers.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip');

/** A test run that has a host with a process in the background, and a program beside it. */
const RUN = `
  import { after } from 'node:test';
  const { startLan } = await import('${new URL('../../rigs/netns.js', import.meta.url).href}');
  const { Program } = await import('${new URL('../../rigs/program.js', import.meta.url).href}');
  const scope = { after() {} };
  const lan = await startLan(scope, ['h1']);
  await lan.hosts[0].exec(['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 </dev/null &']);
  const program = new Program({ name: 'sleep', argv: ['sleep', '1000'], log: lan.hosts[0].dir + '/sleep.log' });
  await program.start(async () => true);
  console.log('up');
`;

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`a test run that ends by ${signal} leaves no process and no network device`, { skip }, async (t) => {
    const marked = mark();
    t.after(() => marked.remove());
    const run = spawn(process.execPath, ['--input-type=module', '-e', RUN], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => run.kill('SIGKILL'));
    const [up] = (await once(run.stdout, 'data')) as [Buffer];
    assert.equal(up.toString(), 'up\n');
    assert.match(marked.leftovers().join('\n'), /sleep 1000/);
    assert.match(marked.leftovers().join('\n'), /nova-lan/);

    run.kill(signal);
    await once(run, 'exit');

    const left = () => marked.leftovers().filter((what) => !what.startsWith('folder'));
    await until(
      'nothing of it is left',
      () => left().length === 0,
      () => left().join('\n'),
    );
  });
}
