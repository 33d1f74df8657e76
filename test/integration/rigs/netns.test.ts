import assert from 'node:assert/strict';
import test from 'node:test';
import { execute } from '../../../src/common/execute.ts';
import { needs } from '../../rigs/needs.ts';
import { startHost, startLan } from '../../rigs/netns.ts';
import { assertLeavesNothing } from './leftovers.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'ping', 'socat');

test('hosts on one switch reach each other and the test, and leave nothing behind', { skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const lan = await startLan(scope, ['h1', 'h2']);
    const [h1, h2] = lan.hosts as [(typeof lan.hosts)[0], (typeof lan.hosts)[0]];

    await h1.exec(['ping', '-c1', '-W5', h2.address]);
    await h1.exec(['ping', '-c1', '-W5', lan.address]);
    await execute(['ping', '-c1', '-W5', h2.address]);

    assert.equal((await h2.exec(['hostname'])).stdout, 'h2\n');
    assert.match((await h2.exec(['ls', '/sys/class/net'])).stdout, /^eth0\neth1\nlo\n$/);
  });
});

test('two switches at once have addresses of their own, and one taken port parts two hosts', { skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const a = await startLan(scope, ['h1', 'h2']);
    const b = await startLan(scope, ['h1']);
    assert.notEqual(a.cidr, b.cidr);

    await a.switch.exec(['ip', 'link', 'set', 'h2-eth0', 'down']);

    await assert.rejects(a.hosts[0]!.exec(['ping', '-c1', '-W1', a.hosts[1]!.address]), /ended with 1/);
  });
});

test('a process that put itself in the background in a host ends with the host', { skip }, async () => {
  await assertLeavesNothing(async (scope) => {
    const host = await startHost(scope, 'h1');
    await host.exec(['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 </dev/null &']);
    assert.match((await host.exec(['ps', '-ef'])).stdout, /sleep 1000/);
  });
});
