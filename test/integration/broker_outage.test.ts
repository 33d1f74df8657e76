import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowText, sleep } from '../../src/common/clock.ts';
import { eventsOf } from '../../src/common/db/events.ts';
import { volumeResource } from '../../src/volume/rpc.ts';
import { aCloud, type Cloud } from '../rigs/cloud.ts';
import { at, ec2, instancesOf, items } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { startRabbitmq, type Rabbitmq } from '../rigs/rabbitmq.ts';
import { until } from '../until.ts';

const skip = needs('rabbitmq-server', 'rabbitmqctl');
const DOWN_TIME_S = 8;

const launch = ({ ec2: ann, image }: Cloud) =>
  ec2(ann, 'RunInstances', { ImageId: image, MinCount: 1, MaxCount: 1, InstanceType: 'm1.tiny' });
const states = async ({ ec2: ann }: Cloud) =>
  instancesOf(await ec2(ann, 'DescribeInstances')).map((one) => String(at(one, 'instanceState', 'name')));
const volumeStatus = async ({ ec2: ann }: Cloud) =>
  items((await ec2(ann, 'DescribeVolumes'))['volumeSet'] ?? []).map((one) => String(at(one, 'status')));
const reports = async ({ db }: Cloud) =>
  (await db.selectFrom('services').select('report_count').execute()).map((row) => row.report_count);

const outages: { what: string; begin(rabbit: Rabbitmq): Promise<void>; end(rabbit: Rabbitmq): Promise<void> }[] = [
  { what: 'away', begin: (rabbit) => rabbit.stop(), end: (rabbit) => rabbit.start() },
  { what: 'short of memory', begin: (rabbit) => rabbit.alarm(true), end: (rabbit) => rabbit.alarm(false) },
];
for (const { what, begin, end } of outages)
  test(
    `the broker is ${what} for twice --service_down_time: no host counts as down, launches and detaching wait and succeed`,
    { skip, timeout: 600_000 },
    async (t) => {
      const rabbit = await startRabbitmq(t);
      const flags = { report_interval: 1, periodic_interval: 2, service_down_time: DOWN_TIME_S };
      const cloud = await aCloud(t, { broker: rabbit.flags, flags });
      for (const project of [[], ['apollo']]) await cloud.manage('role', 'add', 'ann', 'netadmin', ...project);
      const launched = instancesOf(await launch(cloud));
      const volume = await ec2(cloud.ec2, 'CreateVolume', { Size: 1, AvailabilityZone: 'nova' });
      const VolumeId = String(volume['volumeId']);
      await until('it runs', async () => (await states(cloud)).includes('running'));
      await until('it is made', async () => (await volumeStatus(cloud)).includes('available'));
      const InstanceId = String(at(launched[0] ?? '', 'instanceId'));
      await ec2(cloud.ec2, 'AttachVolume', { VolumeId, InstanceId, Device: '/dev/vdc' });
      await until('it is attached', async () => {
        const attached = await cloud.db.selectFrom('volumes').select('status').executeTakeFirstOrThrow();
        return attached.status === 'in-use' && (await volumeStatus(cloud)).includes('in-use');
      });

      await begin(rabbit);
      await sleep(2 * DOWN_TIME_S * 1000);
      const before = await reports(cloud);
      await until('every daemon reports', async () =>
        (await reports(cloud)).every((count, i) => count > (before[i] ?? 0)),
      );
      const asked_at = nowText();
      await launch(cloud);
      await ec2(cloud.ec2, 'AuthorizeSecurityGroupIngress', {
        GroupName: 'default',
        IpProtocol: 'tcp',
        FromPort: 22,
        ToPort: 22,
        CidrIp: '0.0.0.0/0',
      });
      await ec2(cloud.ec2, 'DetachVolume', { VolumeId });
      await until('the volume is free', async () => (await volumeStatus(cloud)).includes('available'));
      assert.ok(!(await states(cloud)).includes('error'));
      await end(rabbit);

      await until('both run', async () => (await states(cloud)).filter((state) => state === 'running').length === 2);
      const { id } = await cloud.db.selectFrom('volumes').select('id').executeTakeFirstOrThrow();
      const story = (await eventsOf(cloud.db, volumeResource(id))).filter((one) => one.at >= asked_at);
      assert.ok(story.length > 0);
      for (const { event } of story) assert.doesNotMatch(event, /host down/);
    },
  );
