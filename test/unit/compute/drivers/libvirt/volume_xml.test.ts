import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Conflict } from '../../../../../src/common/errors.ts';
import type { GuestVolume } from '../../../../../src/common/volume_connection.ts';
import { domainXml } from '../../../../../src/compute/drivers/libvirt/domain_xml.ts';
import { targetOf, targets, volumeDisks, volumeXml } from '../../../../../src/compute/drivers/libvirt/volume_xml.ts';
import { qemuCommandLine } from '../../../../../src/compute/drivers/qemu/command_line.ts';
import { aGuestSpec } from '../specs.ts';

const aVolume = (id: number, over: Partial<GuestVolume> = {}): GuestVolume => ({
  volume_id: id,
  serial: `vol-${id.toString(16).padStart(8, '0')}`,
  device: 'vdc',
  size_gb: 1,
  boot: false,
  connection: {
    driver_volume_type: 'iscsi',
    target_portal: '[2001:db8::1]:3260',
    target_iqn: `iqn.2010-10.org.openstack:volume-${id}`,
    target_lun: 1,
    auth_username: `vol-${id}-e1`,
    auth_password: 'the-password',
  },
  ...over,
});
const files = { root: { path: '/i/disk', format: 'qcow2' as const }, ephemeral: null, kernel: null, ramdisk: null };
const options = {
  libvirt_type: 'qemu' as const,
  cpu: null,
  disk_cache: 'none',
  vnc_listen: null,
  instances_path: '/i',
  console_log: '/i/console.log',
  secret_uuid: (serial: string) => `secret-of-${serial}`,
};

test('a volume in a domain is found again by its serial, with what tells its connection', () => {
  const xml = domainXml(aGuestSpec({ volumes: [aVolume(10)] }), files, options);

  assert.deepEqual(volumeDisks(xml), [
    {
      serial: 'vol-0000000a',
      source: 'iqn.2010-10.org.openstack:volume-10/1',
      target: 'vdc',
      auth_username: 'vol-10-e1',
    },
  ]);
  assert.match(xml, /<host name='2001:db8::1' port='3260'\/>/);
  assert.match(xml, /<secret type='iscsi' uuid='secret-of-vol-0000000a'\/>/);
});

test('the password of a volume is in no definition and on no command line', () => {
  const spec = aGuestSpec({ volumes: [aVolume(10)] });
  const words = qemuCommandLine(spec, files, {
    binary: 'qemu',
    accel: 'tcg',
    cpu: null,
    screen: false,
    forwards: {},
    dir: '/i',
    metadata_command: null,
  });

  assert.doesNotMatch(domainXml(spec, files, options), /the-password/);
  assert.doesNotMatch(words.join(' '), /the-password/);
});

test('a guest that boots from a volume has that one first and no disk of an image', () => {
  const volumes = [aVolume(10, { device: 'vdb' }), aVolume(11, { boot: true, device: 'sda1' })];
  const xml = domainXml(aGuestSpec({ image: null, volumes }), { ...files, root: null }, options);

  assert.deepEqual(targets(xml), ['vda', 'vdb']);
  assert.deepEqual(
    volumeDisks(xml).map(({ serial }) => serial),
    ['vol-0000000b', 'vol-0000000a'],
  );
});

test('a disk has the name that its user chose where no other disk has it, else the next', () => {
  assert.equal(targetOf('vdc', ['vda']), 'vdc');
  assert.equal(targetOf('sdf', ['vda']), 'sdf');
  assert.equal(targetOf('vdb', ['vda', 'vdb']), 'vdc');
  assert.equal(targetOf("x' onload='", ['vda']), 'vdb');
});

test('a volume that QEMU cannot reach is refused with the driver it is of', () => {
  const fake = aVolume(10, { connection: { driver_volume_type: 'fake' } });
  assert.throws(
    () => volumeXml(fake, 'vdb', ''),
    (err: Error) => err instanceof Conflict && /fake driver/.test(err.message),
  );
});
