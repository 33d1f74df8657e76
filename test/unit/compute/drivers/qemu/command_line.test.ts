import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuestFiles } from '../../../../../src/compute/drivers/instance_files.ts';
import { qemuCommandLine, type QemuOptions } from '../../../../../src/compute/drivers/qemu/command_line.ts';
import { aGuestSpec } from '../specs.ts';

const FILES: GuestFiles = {
  root: { path: '/i/instance-0000000a/disk', format: 'qcow2' },
  ephemeral: null,
  kernel: null,
  ramdisk: null,
};
const OPTIONS: QemuOptions = {
  binary: 'qemu-system-x86_64',
  accel: 'tcg',
  cpu: null,
  screen: false,
  forwards: { 22: 40022 },
  dir: '/i/instance-0000000a',
  metadata_command: ['/usr/bin/node', '/nova/metadata_connection.js', '/i/metadata.json'],
};

/** The words after each time an option is said. */
const said = (argv: string[], option: string): string[] =>
  argv.flatMap((word, i) => (word === option ? [argv[i + 1] ?? ''] : []));

test('the user-mode network gives the guest its fixed ip and forwards its ports from loopback only', () => {
  const [user = ''] = said(qemuCommandLine(aGuestSpec(), FILES, OPTIONS), '-netdev');

  assert.ok(user.startsWith('user,id=user0,ipv6=off,net=10.0.0.0/24,host=10.0.0.1,dhcpstart=10.0.0.10,'), user);
  assert.ok(user.includes(',hostfwd=tcp:127.0.0.1:40022-10.0.0.10:22,'), user);
  assert.ok(
    user.endsWith("guestfwd=tcp:10.0.0.253:80-cmd:'/usr/bin/node' '/nova/metadata_connection.js' '/i/metadata.json'"),
    user,
  );
});

test('a path may hold what QEMU and its command splitter take for signs', () => {
  const dir = "/a,b'c/instance-0000000a";
  const argv = qemuCommandLine(
    aGuestSpec(),
    { ...FILES, root: { path: `${dir}/disk`, format: 'raw' } },
    { ...OPTIONS, dir, metadata_command: [`${dir}/x`] },
  );

  assert.deepEqual(said(argv, '-drive'), ["if=virtio,format=raw,file=/a,,b'c/instance-0000000a/disk"]);
  assert.deepEqual(said(argv, '-pidfile'), [`${dir}/qemu.pid`]);
  assert.ok(said(argv, '-netdev')[0]?.endsWith(`-cmd:'/a,,b'"'"'c/instance-0000000a/x'`));
});

test('the console is appended to, and a disk is always told its format', () => {
  const argv = qemuCommandLine(aGuestSpec(), { ...FILES, ephemeral: '/i/disk.local' }, OPTIONS);

  assert.deepEqual(said(argv, '-chardev'), ['file,id=console,path=/i/instance-0000000a/console.log,append=on']);
  assert.deepEqual(said(argv, '-drive'), [
    'if=virtio,format=qcow2,file=/i/instance-0000000a/disk',
    'if=virtio,format=raw,file=/i/disk.local',
  ]);
});

test('a guest with its own kernel is booted by it, one without by its disk', () => {
  const split = qemuCommandLine(aGuestSpec(), { ...FILES, kernel: '/i/kernel', ramdisk: '/i/ramdisk' }, OPTIONS);

  assert.deepEqual([said(split, '-kernel'), said(split, '-initrd')], [['/i/kernel'], ['/i/ramdisk']]);
  assert.match(said(split, '-append')[0] ?? '', /console=ttyS0/);
  assert.deepEqual(said(qemuCommandLine(aGuestSpec(), FILES, OPTIONS), '-kernel'), []);
});

test('a hostname that could change the option it stands in is left out', () => {
  const argv = qemuCommandLine(aGuestSpec({ hostname: 'x,hostfwd=tcp::1-:1' }), FILES, OPTIONS);

  assert.ok(!said(argv, '-netdev')[0]?.includes('tcp::1'));
});
