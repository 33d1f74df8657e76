import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStringPromise } from 'xml2js';
import { domainXml, type DomainOptions } from '../../../../../src/compute/drivers/libvirt/domain_xml.ts';
import type { GuestFiles } from '../../../../../src/compute/drivers/instance_files.ts';
import type { GuestSpec } from '../../../../../src/compute/drivers/driver.ts';
import { aGuestSpec, aNic } from '../specs.ts';

const FILES: GuestFiles = {
  root: { path: '/i/instance-0000000a/disk', format: 'qcow2' },
  ephemeral: null,
  kernel: null,
  ramdisk: null,
};
const OPTIONS: DomainOptions = {
  libvirt_type: 'qemu',
  cpu: null,
  disk_cache: 'none',
  vnc_listen: null,
  instances_path: '/i',
  console_log: '/i/instance-0000000a/console.log',
  secret_uuid: (serial) => `secret-of-${serial}`,
};

interface Node {
  $: Record<string, string>;
  [child: string]: unknown;
}

/** The domain as an XML parser sees it; `at` walks to the elements of a path. */
async function aDomain(spec: GuestSpec, files: Partial<GuestFiles> = {}, options: Partial<DomainOptions> = {}) {
  const xml = domainXml(spec, { ...FILES, ...files }, { ...OPTIONS, ...options });
  const { domain } = (await parseStringPromise(xml)) as { domain: Node };
  const at = (path: string) =>
    path.split('/').reduce<Node[]>((nodes, name) => nodes.flatMap((node) => (node[name] ?? []) as Node[]), [domain]);
  return { domain, at };
}

test('the first serial is the file of the console, and QEMU appends to it', async () => {
  const { at } = await aDomain(aGuestSpec());

  const [first] = at('devices/serial');
  assert.equal(first?.$['type'], 'file');
  assert.deepEqual(at('devices/serial/source')[0]?.$, { path: OPTIONS.console_log, append: 'on' });
});

test('a whole-disk image boots from its disk, one with a kernel by the kernel', async () => {
  const whole = await aDomain(aGuestSpec());
  assert.deepEqual(whole.at('os/boot')[0]?.$, { dev: 'hd' });
  assert.deepEqual(whole.at('os/kernel'), []);

  const split = await aDomain(aGuestSpec(), { kernel: '/i/kernel', ramdisk: '/i/ramdisk' });
  assert.deepEqual(split.at('os/kernel'), ['/i/kernel']);
  assert.deepEqual(split.at('os/initrd'), ['/i/ramdisk']);
  assert.match(String(split.at('os/cmdline')[0]), /^root=\/dev\/vda console=ttyS0/);
});

test('every card has its bridge, its hardware address and the tap that the firewall expects', async () => {
  const { at } = await aDomain(aGuestSpec({ nics: [aNic(), aNic({ mac: '02:16:3e:00:00:0b', bridge: 'br101' })] }));

  assert.deepEqual(
    at('devices/interface/target').map((target) => target.$['dev']),
    ['novaa-0', 'novaa-1'],
  );
  assert.deepEqual(
    at('devices/interface/source').map((source) => source.$['bridge']),
    ['br100', 'br101'],
  );
  assert.equal(at('devices/interface/mac')[1]?.$['address'], '02:16:3e:00:00:0b');
});

test('the second disk is there exactly when the instance type has one', async () => {
  const disks = async (ephemeral: string | null) =>
    (await aDomain(aGuestSpec(), { ephemeral })).at('devices/disk/target');

  assert.deepEqual(
    (await disks(null)).map((target) => target.$['dev']),
    ['vda'],
  );
  assert.deepEqual(
    (await disks('/i/disk.local')).map((target) => target.$['dev']),
    ['vda', 'vdb'],
  );
});

test('without vnc_enabled a guest has no screen', async () => {
  assert.deepEqual((await aDomain(aGuestSpec())).at('devices/graphics'), []);
  const { at } = await aDomain(aGuestSpec(), {}, { vnc_listen: '127.0.0.1' });
  assert.equal(at('devices/graphics')[0]?.$['listen'], '127.0.0.1');
});

test('text with signs that XML reserves comes through whole', async () => {
  const path = `/i/a'b<c>&"d"/disk`;
  const { at } = await aDomain(aGuestSpec(), { root: { path, format: 'raw' } });

  assert.equal(at('devices/disk/source')[0]?.$['file'], path);
});
