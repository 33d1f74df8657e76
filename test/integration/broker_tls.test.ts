import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startDaemon } from '../rigs/daemon.ts';
import { aCloud } from '../rigs/cloud.ts';
import { at, ec2, instancesOf } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { until } from '../until.ts';

const skip = needs('rabbitmq-server', 'openssl');

test(
  'over RabbitMQ with TLS a launch runs and ends, and who does not know its CA is told how to name it',
  { skip, timeout: 600_000 },
  async (t) => {
    const { tls } = await startRabbitmq(t);
    process.env['NODE_EXTRA_CA_CERTS'] = tls.ca; // of the daemons that are started here
    const cloud = await aCloud(t, { broker: tls.flags });
    const image = { ImageId: cloud.image, MinCount: 1, MaxCount: 1, InstanceType: 'm1.tiny' };
    const [made] = instancesOf(await ec2(cloud.ec2, 'RunInstances', image));
    const state = async () =>
      instancesOf(await ec2(cloud.ec2, 'DescribeInstances')).map((one) => String(at(one, 'instanceState', 'name')));
    await until('it runs', async () => (await state())[0] === 'running');
    await ec2(cloud.ec2, 'TerminateInstances', { 'InstanceId.1': String(at(made ?? '', 'instanceId')) });
    await until('it is gone', async () => (await state())[0] !== 'running' && (await state())[0] !== 'shutting-down');

    delete process.env['NODE_EXTRA_CA_CERTS'];
    await assert.rejects(
      startDaemon(t, 'nova-scheduler', { flags: { ...cloud.flags, rabbit_max_retries: 1 } }),
      /--rabbit_use_ssl: the certificate of the broker at 127\.0\.0\.1:\d+ is not trusted \(.*\); name its CA by NODE_EXTRA_CA_CERTS=FILE/,
    );
  },
);
