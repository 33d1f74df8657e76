import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { sleep } from '../../src/common/clock.ts';
import { aCloud, type Cloud } from '../rigs/cloud.ts';
import { at, ec2, Ec2Error, instancesOf, items, type Xml } from '../rigs/ec2_client.ts';
import { needs } from '../rigs/needs.ts';
import { freePort } from '../rigs/free_port.ts';
import { startRabbitmq } from '../rigs/rabbitmq.ts';
import { atEnd, type Scope } from '../rigs/tmp.ts';
import { until } from '../until.ts';
import { killTgtd } from './a_store.ts';
import { leftAt, storeFlags } from './real_store.ts';

const VOLUMES = 5;
/** Attached and detached again, of all volumes together. */
const CYCLES = 50;
/** At least, of the three in turn. */
const KILLS = 18;

const random = (below: number): number => Math.floor(Math.random() * below);

/** Guests are the fake driver's; volumes are real files, exported by a real tgtd. */
async function aCloudWithVolumes(t: Scope) {
  const rabbit = await startRabbitmq(t);
  const iscsi = { iscsi_ip_address: '127.0.0.1', iscsi_port: await freePort() };
  const cloud = await aCloud(t, {
    broker: rabbit.flags,
    // A question to a daemon that was killed is answered by nobody.
    flags: { ...storeFlags, ...iscsi, rpc_response_timeout: 3, report_interval: 1, periodic_interval: 5 },
  });
  const dir = String(cloud.flags['state_path']);
  const endTgtd = () => killTgtd(dir);
  const daemon = (name: string) => {
    const found = cloud.killable.find(({ log_file }) => log_file.endsWith(`${name}.log`));
    assert.ok(found);
    return found;
  };
  const [volumed, computed] = [daemon('nova-volume'), daemon('nova-compute')];
  atEnd(t, async () => {
    await volumed.kill(); // it would start another
    await endTgtd();
  });
  return {
    ...cloud,
    volumed,
    computed,
    endTgtd,
    left: () => leftAt({ dir, address: '127.0.0.1', port: iscsi.iscsi_port }),
  };
}

async function volumeOf(cloud: Cloud, id: string): Promise<Xml | undefined> {
  const { volumeSet = '' } = await ec2(cloud.ec2, 'DescribeVolumes');
  return items(volumeSet).find((one) => at(one, 'volumeId') === id);
}
const status = (volume: Xml | undefined): string => (volume === undefined ? 'gone' : String(at(volume, 'status')));
const attachmentStatus = (volume: Xml | undefined): string => {
  const attachment = volume === undefined ? undefined : items(at(volume, 'attachmentSet'))[0];
  return attachment === undefined ? 'none' : String(at(attachment, 'status'));
};

/** To any of the guests and away from it. @returns whether it was attached: a failed attempt leaves it available */
async function cycle(cloud: Cloud, id: string, guests: readonly string[]): Promise<boolean> {
  const InstanceId = guests[random(guests.length)] ?? '';
  await ec2(cloud.ec2, 'AttachVolume', {
    VolumeId: id,
    InstanceId,
    Device: `/dev/vd${'cdefgh'[Number(id.slice(-1))]}`,
  });
  const was = await until(`${id} is attached, or available again`, async () => {
    const volume = await volumeOf(cloud, id);
    return attachmentStatus(volume) === 'attached' || (status(volume) === 'available' && 'available');
  });
  if (was === 'available') return false;
  await sleep(random(200));
  await ec2(cloud.ec2, 'DetachVolume', { VolumeId: id });
  await until(`${id} is detached`, async () => {
    const volume = await volumeOf(cloud, id);
    // A guest that did not let go says so, and is asked again.
    if (attachmentStatus(volume) === 'attached')
      await ec2(cloud.ec2, 'DetachVolume', { VolumeId: id }).catch(unlessBusy);
    return status(volume) === 'available';
  });
  return true;
}
function unlessBusy(err: unknown): void {
  if (!(err instanceof Ec2Error && err.code === 'IncorrectState')) throw err;
}

test(
  `tgtd, nova-volume and nova-compute are killed during ${CYCLES} attachments: nothing is stuck, left over or attached twice`,
  { skip: needs('root', 'rabbitmq-server', 'tgtd'), timeout: 900_000 },
  async (t) => {
    const cloud = await aCloudWithVolumes(t);
    const launched = await ec2(cloud.ec2, 'RunInstances', { ImageId: cloud.image, InstanceType: 'm1.tiny', MinCount: 3, MaxCount: 3 }); // prettier-ignore
    const guests = instancesOf(launched).map((one) => String(at(one, 'instanceId')));
    await until('the guests run', async () =>
      instancesOf(await ec2(cloud.ec2, 'DescribeInstances')).every(
        (one) => at(one, 'instanceState', 'name') === 'running',
      ),
    );
    const ids = await Promise.all(
      Array.from({ length: VOLUMES }, async () =>
        String((await ec2(cloud.ec2, 'CreateVolume', { Size: 1 }))['volumeId']),
      ),
    );
    for (const id of ids) await until(`${id} is there`, async () => status(await volumeOf(cloud, id)) === 'available');

    let done = 0;
    let failed = 0;
    let kills = 0;
    const goesOn = () => done < CYCLES || kills < KILLS;
    const attachAndDetach = async (id: string) => {
      while (goesOn())
        if (await cycle(cloud, id, guests)) done++;
        else failed++;
    };
    const kill = async () => {
      while (goesOn()) {
        await sleep(300 + random(1200));
        const victim = [undefined, cloud.volumed, cloud.computed][kills++ % 3];
        await (victim ? victim.kill() : cloud.endTgtd());
        await sleep(random(300));
        await victim?.start();
      }
    };
    const seen = new Set<string>();
    const watch = async () => {
      for (; goesOn(); await sleep(50)) {
        const holders = heldBy(cloud);
        for (const [serial, names] of holders) {
          seen.add(serial);
          // One that is being taken away from a guest may be at the next before that guest's host knows: by its epoch it is dead there.
          assert.ok(names.length <= 1, `${serial} is at ${names.join(' and ')}`);
        }
      }
    };
    await Promise.all([...ids.map(attachAndDetach), kill(), watch()]);
    assert.equal(seen.size, VOLUMES, 'the guests really had them');

    await until('nothing is under way', async () => {
      const jobs = await cloud.db.selectFrom('jobs').select('id').where('state', 'in', ['queued', 'running']).execute();
      return jobs.length === 0;
    });
    for (const id of ids) assert.deepEqual([status(await volumeOf(cloud, id)), attachmentStatus(await volumeOf(cloud, id))], ['available', 'none'], id); // prettier-ignore
    assert.deepEqual([...heldBy(cloud)], [], 'no guest has one');
    await until('the files are those of the volumes, and nothing is exported', async () => {
      const left = await cloud.left().catch(() => []);
      return JSON.stringify(left) === JSON.stringify(ids.map((id) => `volume-${id.slice(4)}`).toSorted());
    });
    const stuck = await cloud.db.selectFrom('volume_attachments').select('id').where('deleted', '=', 0).execute();
    assert.deepEqual(stuck, []);
    assert.deepEqual(await cloud.db.selectFrom('iscsi_targets').selectAll().execute(), []);

    for (const id of ids) await ec2(cloud.ec2, 'DeleteVolume', { VolumeId: id });
    for (const id of ids) await until(`${id} is gone`, async () => status(await volumeOf(cloud, id)) === 'gone');
    assert.deepEqual(await cloud.left(), []);
    t.diagnostic(`${done} attached and detached, ${failed} attempts failed and left theirs available, ${kills} kills`);
  },
);

/** Which guests of the fake driver have each volume, by its serial. */
function heldBy({ guests_file }: Cloud): Map<string, string[]> {
  const guests = JSON.parse(readFileSync(guests_file, 'utf8')) as Record<string, { volumes?: string[] }>;
  const held = new Map<string, string[]>();
  for (const [name, { volumes = [] }] of Object.entries(guests))
    for (const serial of volumes) held.set(serial, [...(held.get(serial) ?? []), name]);
  return held;
}
