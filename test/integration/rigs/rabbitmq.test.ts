import assert from 'node:assert/strict';
import test from 'node:test';
import { needs } from '../../rigs/needs.ts';
import { startLan } from '../../rigs/netns.ts';
import { startRabbitmq, type Rabbitmq } from '../../rigs/rabbitmq.ts';
import { assertLeavesNothing } from './leftovers.ts';

const skip = needs('rabbitmq-server', 'epmd');

async function send(rabbit: Rabbitmq, queue: string): Promise<void> {
  await rabbit.withChannel(async (channel) => {
    await channel.assertQueue(queue, { durable: true });
    channel.sendToQueue(queue, Buffer.from('kept'), { persistent: true });
    await channel.waitForConfirms();
  });
}
const depth = (rabbit: Rabbitmq, queue: string): Promise<number> =>
  rabbit.withChannel(async (channel) => (await channel.checkQueue(queue)).messageCount);

test(
  'RabbitMQ keeps persistent messages over a restart, can be purged, and leaves nothing behind',
  { skip },
  async () => {
    await assertLeavesNothing(async (scope) => {
      const rabbit = await startRabbitmq(scope);
      await send(rabbit, 'q');
      await rabbit.restart();
      assert.equal(await depth(rabbit, 'q'), 1);

      assert.equal(await rabbit.purge('q'), 1);

      assert.equal(await depth(rabbit, 'q'), 0);
    });
  },
);

test(
  'RabbitMQ that was killed in a host comes back with its confirmed messages',
  { skip: needs('root') || skip },
  async () => {
    await assertLeavesNothing(async (scope) => {
      const lan = await startLan(scope, ['broker']);
      const rabbit = await startRabbitmq(scope, { host: lan.hosts[0]! });
      assert.match(rabbit.url, /@198\.18\./);
      await send(rabbit, 'q');

      await rabbit.kill();
      await assert.rejects(depth(rabbit, 'q'), /ECONNREFUSED/);
      await rabbit.start();

      assert.equal(await depth(rabbit, 'q'), 1);
    });
  },
);
