import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowText } from '../../../../src/common/clock.ts';
import { writing } from '../../../../src/common/db/connect.ts';
import { insertVolumeType } from '../../../../src/common/db/volume_types.ts';
import { anInstance, aVolumeHost } from '../../../builders.ts';
import { atEnd, type Scope } from '../../../rigs/tmp.ts';
import { aMember, anEc2Api } from './an_ec2_api.ts';

/** A cloud with a nova-volume on `store1` and an instance `id`; what daemons would do, the test does by `now`. */
async function aCloud(t: Scope, flags: Record<string, unknown> = {}) {
  const api = await anEc2Api(
    { after: (end) => atEnd(t, async () => void (await (end as () => unknown)())) },
    { flags },
  );
  await aVolumeHost(api.db);
  const id = `i-${(await anInstance(api.db)).toString(16).padStart(8, '0')}`;
  const now = {
    volume: (number: number, set: { status: string; host?: string; fault?: string }) =>
      api.db.updateTable('volumes').set(set).where('id', '=', number).execute(),
    attachment: (set: { status: string; attached_at?: string; deleted?: number }) =>
      api.db.updateTable('volume_attachments').set(set).where('deleted', '=', 0).execute(),
    snapshot: (number: number, set: { status: string; progress?: string }) =>
      api.db.updateTable('snapshots').set(set).where('id', '=', number).execute(),
  };
  return { ...api, id, now };
}

test('a volume that is asked for twice with one token is one volume', async (t) => {
  const { ask } = await aCloud(t);
  const params = { Size: '3', AvailabilityZone: 'nova', ClientToken: 'once' };

  const made = await ask('CreateVolume', params);
  const again = await ask('CreateVolume', params);

  assert.deepEqual([again.status, again.xml.volumeId], [200, made.xml.volumeId]);
  const other = await ask('CreateVolume', { ...params, Size: '4' });
  assert.equal(other.code, 'IdempotentParameterMismatch');
  assert.match(other.message ?? '', /the client token once was used before/);
  assert.equal((await ask('CreateVolume', { ...params, ClientToken: 'twice' })).status, 200);
  assert.equal((await ask('DescribeVolumes')).xml.volumeSet.length, 2);
});

test('a volume is made, attached, detached and deleted, in the words of AWS', async (t) => {
  const { ask, id, now } = await aCloud(t);

  const made = await ask('CreateVolume', { Size: '3', AvailabilityZone: 'nova', DisplayName: 'data' });
  assert.equal(made.status, 200, made.text);
  assert.deepEqual(
    [made.xml.volumeId, made.xml.size, made.xml.status, made.xml.availabilityZone, made.xml.attachmentSet, made.xml.snapshotId, made.xml.displayName],
    ['vol-00000001', '3', 'creating', 'nova', '', '', 'data'],
  ); // prettier-ignore
  assert.equal(
    (await ask('UpdateVolume', { VolumeId: 'vol-00000001', DisplayDescription: 'of web' })).xml.return,
    'true',
  );
  assert.equal((await ask('UpdateVolume', { VolumeId: 'vol-00000001', DisplayName: 'notes' })).status, 200);
  const [named] = (await ask('DescribeVolumes')).xml.volumeSet;
  assert.deepEqual([named.displayName, named.displayDescription], ['notes', 'of web']);
  assert.equal((await ask('UpdateVolume', { VolumeId: 'vol-0000004d' })).code, 'InvalidVolume.NotFound');
  await now.volume(1, { status: 'available', host: 'store1' });

  const attached = await ask('AttachVolume', { VolumeId: 'vol-00000001', InstanceId: id, Device: '/dev/vdc' });
  assert.deepEqual(
    [attached.xml.volumeId, attached.xml.instanceId, attached.xml.device, attached.xml.status],
    ['vol-00000001', id, '/dev/vdc', 'attaching'],
  );
  const [busy] = (await ask('DescribeVolumes')).xml.volumeSet;
  assert.deepEqual([busy.status, busy.attachmentSet[0].status], ['in-use', 'attaching'], 'as AWS says it');
  await now.volume(1, { status: 'in-use' });
  await now.attachment({ status: 'attached', attached_at: nowText() });
  const [device] = (await ask('DescribeInstances')).xml.reservationSet[0].instancesSet[0].blockDeviceMapping;
  assert.deepEqual(
    [device.deviceName, device.ebs.volumeId, device.ebs.status, device.ebs.deleteOnTermination],
    ['/dev/vdc', 'vol-00000001', 'attached', 'false'],
  );

  const detached = await ask('DetachVolume', { VolumeId: 'vol-00000001', InstanceId: id });
  assert.deepEqual([detached.xml.status, detached.xml.instanceId], ['detaching', id]);
  const [leaving] = (await ask('DescribeVolumes')).xml.volumeSet;
  assert.deepEqual([leaving.status, leaving.attachmentSet[0].status], ['in-use', 'detaching']);
  await now.attachment({ status: 'detaching', deleted: 1 });
  await now.volume(1, { status: 'available' });

  assert.equal((await ask('DeleteVolume', { VolumeId: 'vol-00000001' })).xml.return, 'true');
  assert.equal((await ask('DescribeVolumes')).xml.volumeSet[0].status, 'deleting');
});

test('a detachment by force is over at once', async (t) => {
  const { ask, id, now } = await aCloud(t);
  await ask('CreateVolume', { Size: '1' });
  await now.volume(1, { status: 'available', host: 'store1' });
  await ask('AttachVolume', { VolumeId: 'vol-00000001', InstanceId: id, Device: '/dev/vdc' });
  const gone = await ask('DetachVolume', { VolumeId: 'vol-00000001', Force: 'true' });
  assert.deepEqual([gone.xml.status, gone.xml.device, gone.xml.instanceId], ['detached', '/dev/vdc', id]);
  assert.deepEqual(
    [
      (await ask('DescribeVolumes')).xml.volumeSet[0].status,
      (await ask('DescribeVolumes')).xml.volumeSet[0].attachmentSet,
    ],
    ['available', ''],
  );
});

test('volumes are found by filters and in pages', async (t) => {
  const { ask, id, now } = await aCloud(t);
  for (const Size of ['1', '2', '3']) {
    const made = await ask('CreateVolume', { Size, 'TagSpecification.1.ResourceType': 'volume', 'TagSpecification.1.Tag.1.Key': 'n', 'TagSpecification.1.Tag.1.Value': Size }); // prettier-ignore
    assert.equal(made.status, 200, made.text);
    await now.volume(Number(Size), { status: 'available', host: 'store1' });
  }
  await ask('AttachVolume', { VolumeId: 'vol-00000002', InstanceId: id, Device: '/dev/sdf' });
  await ask('CreateSnapshot', { VolumeId: 'vol-00000003' });
  await now.snapshot(1, { status: 'available', progress: '100%' });
  await ask('CreateVolume', { SnapshotId: 'snap-00000001' });

  const found = async (Name: string, Value: string) => {
    const answer = await ask('DescribeVolumes', { 'Filter.1.Name': Name, 'Filter.1.Value.1': Value });
    return [answer.xml.volumeSet].flat().map((volume) => Number(volume.volumeId?.slice(4) ?? 0));
  };
  assert.deepEqual(await found('status', 'available'), [1, 3]);
  assert.deepEqual(await found('status', 'in-use'), [2]);
  assert.deepEqual(await found('size', '2'), [2]);
  assert.deepEqual(await found('volume-id', 'vol-0000000?'), [1, 2, 3, 4]);
  assert.deepEqual(await found('attachment.instance-id', id), [2]);
  assert.deepEqual(await found('attachment.device', '/dev/sdf'), [2]);
  assert.deepEqual(await found('attachment.status', 'attaching'), [2]);
  assert.deepEqual(await found('availability-zone', 'nova'), [1, 2, 3, 4]);
  assert.deepEqual(await found('snapshot-id', 'snap-00000001'), [4]);
  assert.deepEqual(await found('create-time', `${nowText().slice(0, 10)}*`), [1, 2, 3, 4]);
  assert.deepEqual(await found('tag:n', '3'), [3]);

  const first = await ask('DescribeVolumes', { MaxResults: '3' });
  const rest = await ask('DescribeVolumes', { MaxResults: '3', NextToken: first.xml.nextToken });
  assert.deepEqual([first.xml.volumeSet.length, rest.xml.volumeSet.length, rest.xml.nextToken], [3, 1, undefined]);
});

test('a snapshot is pending, then completed, is made into a volume, and deleted', async (t) => {
  const { ask, now } = await aCloud(t);
  await ask('CreateVolume', { Size: '2' });
  await now.volume(1, { status: 'available', host: 'store1' });
  const made = await ask('CreateSnapshot', { VolumeId: 'vol-00000001', Description: 'monday' });
  assert.deepEqual(
    [made.xml.snapshotId, made.xml.status, made.xml.progress, made.xml.volumeId, made.xml.volumeSize, made.xml.description],
    ['snap-00000001', 'pending', '0%', 'vol-00000001', '2', 'monday'],
  ); // prettier-ignore
  await now.snapshot(1, { status: 'available', progress: '100%' });
  const [shown] = (await ask('DescribeSnapshots', { 'Owner.1': 'self', 'RestorableBy.1': 'self' })).xml.snapshotSet;
  assert.deepEqual([shown.status, shown.progress, shown.ownerId], ['completed', '100%', 'apollo']);
  assert.equal((await ask('DescribeSnapshots', { 'Owner.1': 'amazon' })).xml.snapshotSet, '');
  const filter = { 'Filter.1.Name': 'volume-size', 'Filter.1.Value.1': '2' };
  assert.equal((await ask('DescribeSnapshots', filter)).xml.snapshotSet.length, 1);

  assert.equal((await ask('CreateVolume', { SnapshotId: 'snap-00000001' })).xml.size, '2', "the snapshot's size");
  assert.equal((await ask('CreateVolume', { SnapshotId: 'snap-00000001', Size: '1' })).code, 'InvalidParameterValue');
  const held = await ask('DeleteVolume', { VolumeId: 'vol-00000001' });
  assert.deepEqual([held.code, held.message], ['IncorrectState', 'vol-00000001 has 1 snapshots: delete them first']);
  await now.volume(2, { status: 'available', host: 'store1' });
  assert.equal((await ask('DeleteSnapshot', { SnapshotId: 'snap-00000001' })).xml.return, 'true');
});

test('an instance is launched with volumes, and boots from one', async (t) => {
  const { ask, now, image, db } = await aCloud(t);
  await ask('CreateVolume', { Size: '1' });
  await now.volume(1, { status: 'available', host: 'store1' });
  await ask('CreateSnapshot', { VolumeId: 'vol-00000001' });
  await now.snapshot(1, { status: 'available', progress: '100%' });
  const devices = (...mappings: Record<string, string>[]) =>
    Object.fromEntries(
      mappings.flatMap((mapping, i) =>
        Object.entries(mapping).map(([name, value]) => [`BlockDeviceMapping.${i + 1}.${name}`, value]),
      ),
    );
  const run = (...mappings: Record<string, string>[]) =>
    ask('RunInstances', { ImageId: `ami-0000000${image}`, InstanceType: 'm1.tiny', ...devices(...mappings) });
  const root = { DeviceName: '/dev/sda1', 'Ebs.SnapshotId': 'snap-00000001', 'Ebs.DeleteOnTermination': 'false' };

  const launched = await run(
    root,
    { DeviceName: '/dev/vdc', 'Ebs.VolumeSize': '2' },
    { DeviceName: '/dev/vdd', 'Ebs.SnapshotId': 'vol-00000001' },
    { DeviceName: '/dev/vde', NoDevice: '' },
    { DeviceName: '/dev/vdf', VirtualName: 'ephemeral0' },
  );
  assert.equal(launched.status, 200, launched.text);
  const [instance] = launched.xml.instancesSet;
  assert.deepEqual([instance.rootDeviceType, instance.rootDeviceName], ['ebs', '/dev/sda1']);
  assert.deepEqual(
    instance.blockDeviceMapping.map((one: { deviceName: string; ebs: Record<string, string> }) => [
      one.deviceName,
      one.ebs['volumeId'],
      one.ebs['deleteOnTermination'],
    ]),
    [
      ['/dev/sda1', 'vol-00000002', 'false'],
      ['/dev/vdc', 'vol-00000003', 'true'],
      ['/dev/vdd', 'vol-00000001', 'true'],
    ],
  );
  const { xml } = await ask('DescribeInstanceAttribute', { InstanceId: instance.instanceId, Attribute: 'blockDeviceMapping' }); // prettier-ignore
  assert.equal(xml.blockDeviceMapping.length, 3);
  const attribute = { InstanceId: instance.instanceId, Attribute: 'rootDeviceName' };
  assert.deepEqual((await ask('DescribeInstanceAttribute', attribute)).xml.rootDeviceName, { value: '/dev/sda1' });

  const nonsense = await run({ DeviceName: '/dev/vdc', 'Ebs.SnapshotId': 'disk-1' });
  assert.match(nonsense.message ?? '', /BlockDeviceMapping.1.Ebs.SnapshotId 'disk-1' is neither like snap-0000000b/);
  assert.equal((await run({ DeviceName: '/dev/vdc', 'Ebs.SnapshotId': 'snap-000000ff' })).code, 'InvalidSnapshot.NotFound'); // prettier-ignore
  assert.match((await run(root, { ...root, DeviceName: '/dev/vda' })).message ?? '', /the same device/);
  assert.match((await run({ ...root, 'Ebs.Encrypted': 'true' })).message ?? '', /not encrypted here/);
  const typed = { DeviceName: '/dev/vdc', 'Ebs.VolumeSize': '2', 'Ebs.VolumeType': 'gp2' };
  assert.equal((await run(typed)).code, 'UnknownVolumeType');
  await writing(db, (tx) => insertVolumeType(tx, 'gp2'));
  const [with_type] = (await run(typed)).xml.instancesSet;
  const [{ ebs }] = with_type.blockDeviceMapping;
  const volumes = (await ask('DescribeVolumes', { 'VolumeId.1': ebs.volumeId })).xml.volumeSet;
  assert.equal(volumes[0].volumeType, 'gp2');
});

test('what cannot be is refused in words', async (t) => {
  const { ask, id, now, db } = await aCloud(t, { quota_volumes: 3, quota_gigabytes: 10 });
  const refused = async (code: string, words: RegExp, action: string, params: Record<string, string>, as = 'ann') => {
    const answer = await ask(action, params, as);
    assert.deepEqual([answer.status, answer.code], [400, code], answer.text);
    assert.match(answer.message ?? '', words);
  };
  await refused('InvalidParameterValue', /Size '0' is not a whole number from 1/, 'CreateVolume', { Size: '0' });
  await refused('MissingParameter', /a size in GiB, or a snapshot/, 'CreateVolume', {});
  await refused('VolumeLimitExceeded', /uses 0 of 10 GiB, 11 more asked for/, 'CreateVolume', { Size: '11' });
  await refused('InvalidParameterValue', /no availability zone mars/, 'CreateVolume', { Size: '1', AvailabilityZone: 'mars' }); // prettier-ignore
  await refused('UnknownVolumeType', /no volume type gold/, 'CreateVolume', { Size: '1', VolumeType: 'gold' });
  await refused('InvalidParameterValue', /not encrypted here/, 'CreateVolume', { Size: '1', Encrypted: 'true' });
  await refused('InvalidSnapshot.NotFound', /snap-000000ff/, 'CreateVolume', { SnapshotId: 'snap-000000ff' });
  for (const n of [1, 2, 3]) {
    await ask('CreateVolume', { Size: '1' });
    await now.volume(n, { status: 'available', host: 'store1' });
  }
  await refused('VolumeLimitExceeded', /has 3 volumes and may have 3/, 'CreateVolume', { Size: '1' });

  const attach = (VolumeId: string, Device: string) => ({ VolumeId, Device, InstanceId: id });
  await refused('InvalidParameterValue', /'vdb' names no device/, 'AttachVolume', attach('vol-00000001', 'vdb'));
  await refused('InvalidVolume.NotFound', /vol-000000ff/, 'AttachVolume', attach('vol-000000ff', '/dev/vdb'));
  await refused('MissingParameter', /Device is missing/, 'AttachVolume', { VolumeId: 'vol-00000001', InstanceId: id });
  await refused('InvalidInstanceID.NotFound', /i-000000ff/, 'AttachVolume', { ...attach('vol-00000001', '/dev/vdb'), InstanceId: 'i-000000ff' }); // prettier-ignore
  await refused('InvalidParameterValue', /\/dev\/vda of .* is in use by its root disk/, 'AttachVolume', attach('vol-00000001', '/dev/vda')); // prettier-ignore
  assert.equal((await ask('AttachVolume', attach('vol-00000001', '/dev/vdb'))).status, 200);
  await refused('VolumeInUse', /attaching at \/dev\/vdb of/, 'AttachVolume', attach('vol-00000001', '/dev/vdc'));
  await refused('InvalidParameterValue', /\/dev\/sdb of .* in use by the volume at \/dev\/vdb/, 'AttachVolume', attach('vol-00000002', '/dev/sdb')); // prettier-ignore
  await refused('VolumeInUse', / at .dev.vdb of i-0000000\d: detach it first/, 'DeleteVolume', {
    VolumeId: 'vol-00000001',
  });
  await refused('IncorrectState', /attached to no instance/, 'DetachVolume', { VolumeId: 'vol-00000002' });
  await refused('InvalidVolume.NotFound', /vol-000000ff/, 'DescribeVolumes', { VolumeId: 'vol-000000ff' });
  await refused('InvalidParameterValue', /there is no filter 'colour' here; there are volume-id/, 'DescribeVolumes', { 'Filter.1.Name': 'colour', 'Filter.1.Value.1': 'red' }); // prettier-ignore

  await db.updateTable('volumes').set({ project_id: 'borealis' }).where('id', '=', 3).execute();
  for (const [action, more] of Object.entries({
    DescribeVolumes: {},
    DeleteVolume: {},
    DetachVolume: {},
    CreateSnapshot: {},
    AttachVolume: attach('', '/dev/vdd'),
  }))
    // prettier-ignore
    await refused('InvalidVolume.NotFound', /vol-00000003/, action, { ...more, VolumeId: 'vol-00000003' });
});

test('volumes are for who has a role, snapshots are seen by all, an administrator sees whose they are', async (t) => {
  const { ask, db, now } = await aCloud(t);
  await aMember(db, 'guest');
  await aMember(db, 'boss', ['cloudadmin']);
  await ask('CreateVolume', { Size: '1' });
  await now.volume(1, { status: 'error', host: 'store1', fault: 'no host has room for 1 GiB' });

  assert.equal((await ask('DescribeVolumes', {}, 'guest')).code, 'UnauthorizedOperation');
  assert.equal((await ask('CreateSnapshot', { VolumeId: 'vol-00000001' }, 'guest')).code, 'UnauthorizedOperation');
  assert.equal((await ask('DescribeSnapshots', {}, 'guest')).status, 200);
  const [own] = (await ask('DescribeVolumes')).xml.volumeSet;
  assert.deepEqual([own.status, own.stateReason.message, own.host], ['error', 'no host has room for 1 GiB', undefined]);
  const [seen] = (await ask('DescribeVolumes', {}, 'boss')).xml.volumeSet;
  assert.deepEqual([seen.status, seen.projectId, seen.host], ['error', 'apollo', 'store1']);
});
