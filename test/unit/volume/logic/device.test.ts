import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeviceInUse, InvalidInput } from '../../../../src/common/errors.ts';
import { chooseDevice, lettersOf, type Disks } from '../../../../src/volume/logic/device.ts';

const disks = (over: Partial<Disks> = {}): Disks => ({
  instance: 'i-0000000a',
  attached: [],
  ephemeral: false,
  ...over,
});

test('a device is named as Nova took it, and as clients of AWS name it', () => {
  for (const device of ['/dev/vdb', '/dev/sdc', '/dev/hdd', '/dev/xvdf', '/dev/sdaa'])
    assert.equal(chooseDevice(device, disks()), device);
  for (const device of [
    'vdb',
    '/dev/b',
    '/dev/vd1',
    '/dev/vd',
    '/dev/xvdf1',
    '/dev/../vdb',
    '/dev/vdb\n',
    'x'.repeat(99),
  ])
    assert.throws(() => lettersOf(device), InvalidInput, device);
});

test('a device of which the guest has another disk is refused, by whichever name', () => {
  assert.throws(() => chooseDevice('/dev/vda', disks()), { name: 'DeviceInUse', message: /its root disk/ });
  assert.throws(() => chooseDevice('/dev/sda', disks()), DeviceInUse);
  const taken = disks({ attached: ['/dev/vdc'], ephemeral: true });
  assert.throws(() => chooseDevice('/dev/sdc', taken), { message: /\/dev\/sdc of i-0000000a .* volume at \/dev\/vdc/ });
  assert.throws(() => chooseDevice('/dev/vdb', taken), { message: /the second disk of its type/ });
  assert.equal(chooseDevice('/dev/vdd', taken), '/dev/vdd');
});

test('without a device the next free name is taken, until there is none', () => {
  assert.equal(chooseDevice(null, disks()), '/dev/vdb');
  assert.equal(chooseDevice(null, disks({ attached: ['/dev/vdb', '/dev/sdd'], ephemeral: true })), '/dev/vdc');
  const all = [...'bcdefghijklmnopqrstuvwxyz'].map((letter) => `/dev/vd${letter}`);
  assert.throws(() => chooseDevice(null, disks({ attached: all })), DeviceInUse);
});
