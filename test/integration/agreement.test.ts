import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Daemon, startDaemon, type FlagFile } from '../rigs/daemon.ts';
import { needs } from '../rigs/needs.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { tempDir } from '../rigs/tmp.ts';

const MANAGERS = ['FlatManager', 'FlatDHCPManager', 'VlanManager'].map((name) => `nova.network.manager.${name}`);

test(
  'a daemon whose flagfile names another network manager than the running daemons have does not start, and names both',
  { skip: needs('rabbitmq-server') },
  async (t) => {
    const rabbit = await startRabbitmq(t);
    const dir = tempDir(t);
    const flags: FlagFile = {
      ...rabbit.flags,
      sql_connection: `sqlite:///${join(dir, 'nova.sqlite')}`,
      my_ip: '127.0.0.1',
      fake_network: true,
      connection_type: 'fake',
      enabled_apis: 'ec2',
      ec2_listen: '127.0.0.1',
      ec2_listen_port: 0,
    };

    for (const running of MANAGERS) {
      const network = await startDaemon(t, 'nova-network', {
        flags: { ...flags, host: 'net1', network_manager: running },
      });
      for (const [i, other] of MANAGERS.filter((one) => one !== running).entries()) {
        const binary = i === 0 ? 'nova-compute' : 'nova-api';
        const daemon = new Daemon(tempDir(t), binary, { flags: { ...flags, host: 'node7', network_manager: other } });
        await assert.rejects(daemon.start(), /ended before it was ready/);
        const line = `${binary}: --network_manager must be the same on every host: ${binary} on node7 has ${other}, the running nova-network on net1 has ${running}.`;
        assert.ok(daemon.text().includes(line), daemon.text());
        assert.match(daemon.text(), /Correct the flagfile, or stop the others first/);
      }
      // With the same line it starts, and so does one that was asked for in so many words.
      const same = { ...flags, host: 'node1', network_manager: running };
      await (await startDaemon(t, 'nova-compute', { flags: same })).stop();
      const other = MANAGERS.find((one) => one !== running) as string;
      const asked = { ...same, network_manager: other, ignore_flag_mismatch: true };
      await (await startDaemon(t, 'nova-compute', { flags: asked })).stop();
      await network.stop(); // nobody is there to disagree with the next
    }
  },
);
