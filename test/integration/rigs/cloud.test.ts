import assert from 'node:assert/strict';
import test from 'node:test';
import { startDaemon } from '../../rigs/daemon.ts';
import { needs } from '../../rigs/needs.ts';
import { startLan } from '../../rigs/netns.ts';
import { startPostgres } from '../../rigs/postgres.ts';
import { startRabbitmq } from '../../rigs/rabbitmq.ts';
import { assertLeavesNothing } from './leftovers.ts';

const skip = needs('root', 'nsenter', 'unshare', 'ip', 'rabbitmq-server', 'postgres');

test(
  'a daemon, its broker and its database on three hosts work together and leave nothing behind',
  { skip },
  async () => {
    await assertLeavesNothing(async (scope) => {
      const [node, broker, database] = (await startLan(scope, ['node', 'broker', 'db'])).hosts;
      const [rabbit, postgres] = await Promise.all([
        startRabbitmq(scope, { host: broker! }),
        startPostgres(scope, { host: database! }),
      ]);
      const flags = { ...rabbit.flags, sql_connection: await postgres.createNovaDatabase() };

      const scheduler = await startDaemon(scope, 'nova-scheduler', { host: node!, flags });

      assert.equal(await rabbit.withChannel(async (c) => (await c.checkQueue('scheduler.node')).consumerCount), 1);
      await scheduler.restart();
      await scheduler.stop();
    });
  },
);
