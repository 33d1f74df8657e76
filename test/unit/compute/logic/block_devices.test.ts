import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeviceInUse, InvalidInput } from '../../../../src/common/errors.ts';
import { launchVolumes, type BlockDeviceMapping } from '../../../../src/compute/logic/block_devices.ts';

const one = (mapping: Partial<BlockDeviceMapping>, root: string | null = null) =>
  launchVolumes([{ device_name: '/dev/vdb', ...mapping }], root)[0];

test('a volume, a snapshot and a size are three ways to a volume, which goes with the instance unless said otherwise', () => {
  const none = { volume_id: null, snapshot_id: null, size: null, volume_type: null };
  const plain = { device: '/dev/vdb', ...none, delete_on_termination: true };
  assert.deepEqual(one({ volume_id: 3 }), { ...plain, volume_id: 3, boot: false });
  assert.deepEqual(one({ snapshot_id: 4, volume_size: 8 }), { ...plain, snapshot_id: 4, size: 8, boot: false });
  assert.deepEqual(one({ volume_size: 2, delete_on_termination: false }), {
    ...plain,
    size: 2,
    delete_on_termination: false,
    boot: false,
  });
});

test('a mapping of the root, by whichever of its names, is what the instance boots from', () => {
  for (const device_name of ['/dev/sda1', 'sda1', 'vda', '/dev/vda', '/dev/xvda', '/dev/sda'])
    assert.equal(one({ device_name, volume_id: 1 })?.boot, true, device_name);
  assert.equal(one({ device_name: 'vdc', volume_id: 1 }, '/dev/vdc')?.boot, true);
  assert.equal(one({ device_name: '/dev/vdc', volume_id: 1 }, 'vdc')?.boot, true);
  for (const device_name of ['/dev/sdb', '/dev/vdaa'])
    assert.equal(one({ device_name, volume_id: 1 })?.boot, false, device_name);
});

test('devices that are left out or that the type has anyway are no volumes', () => {
  assert.deepEqual(
    launchVolumes(
      [
        { device_name: 'sdb', virtual_name: 'ephemeral0' },
        { device_name: 'sdc', virtual_name: 'swap' },
        { device_name: 'sdd', no_device: true },
      ],
      null,
    ),
    [],
  );
});

test('what cannot be is refused with the device that it is about', () => {
  const wrong: Partial<BlockDeviceMapping>[] = [
    {},
    { volume_id: 1, snapshot_id: 1 },
    { device_name: '/dev/sdb1', volume_id: 1 },
    { device_name: '../../etc', volume_id: 1 },
    { device_name: '', volume_id: 1 },
    { device_name: 'vda', volume_size: 1 },
    { virtual_name: 'floppy' },
  ];
  for (const mapping of wrong) assert.throws(() => one(mapping), InvalidInput, JSON.stringify(mapping));
  const twice = (first: string, second: string) => () =>
    launchVolumes(
      [first, second].map((device_name, i) => ({ device_name, volume_id: i + 1 })),
      null,
    );
  assert.throws(twice('/dev/vdb', '/dev/sdb'), DeviceInUse);
  assert.throws(twice('/dev/sda1', '/dev/vda'), DeviceInUse);
});
