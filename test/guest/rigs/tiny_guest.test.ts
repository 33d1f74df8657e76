import assert from 'node:assert/strict';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'node:test';
import { guestImage } from '../../../scripts/guest_image.ts';
import { startLibvirtd } from '../../rigs/libvirtd.ts';
import { needs } from '../../rigs/needs.ts';
import { startLan } from '../../rigs/netns.ts';
import { until } from '../../until.ts';
import { assertLeavesNothing } from '../../integration/rigs/leftovers.ts';

const skip = needs('root', 'libvirtd', 'virsh', 'qemu-system-x86_64', 'dnsmasq', 'socat', 'nsenter', 'unshare', 'ip');

test('the tiny guest boots in a test host, gets its address and answers on its bridge', { skip }, async () => {
  const image = await guestImage(console.log);
  await assertLeavesNothing(async (scope) => {
    const [host] = (await startLan(scope, ['h1'])).hosts;
    const { virsh } = await startLibvirtd(scope, { host: host! });
    const file = (name: string) => join(host!.dir, name);
    await host!.exec(['ip', '-batch', '-'], {
      input: 'link add br100 type bridge\nlink set br100 up\naddr add 10.77.0.1/24 dev br100\n',
    });
    await host!.exec(
      ['dnsmasq', '--conf-file=', '--bind-interfaces', '--interface=br100', '--except-interface=lo', '--port=0'].concat(
        '--dhcp-range=10.77.0.2,static,255.255.255.0,120s',
        '--dhcp-host=02:16:3e:00:00:02,10.77.0.2',
        `--pid-file=${file('dnsmasq.pid')}`,
        `--dhcp-leasefile=${file('leases')}`,
      ),
    );
    await copyFile(image.rootfs, file('disk'));
    await writeFile(
      file('guest.xml'),
      `<domain type='qemu'><name>guest</name><memory unit='MiB'>128</memory>
      <os><type arch='x86_64' machine='pc'>hvm</type><kernel>${image.kernel}</kernel><initrd>${image.ramdisk}</initrd>
        <cmdline>root=/dev/vda console=ttyS0 quiet mitigations=off tiny.nometa</cmdline></os>
      <features><acpi/></features>
      <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/>
          <source file='${file('disk')}'/><target dev='vda' bus='virtio'/></disk>
        <interface type='bridge'><mac address='02:16:3e:00:00:02'/><source bridge='br100'/>
          <model type='virtio'/><rom enabled='no'/></interface>
        <serial type='file'><source path='${file('console')}'/><target port='0'/></serial></devices></domain>`,
    );

    await virsh(['create', file('guest.xml')]);

    const console_text = () => readFile(file('console'), 'utf8');
    await until(
      'it has its address',
      async () => (await console_text()).includes('TINY: ip eth0 10.77.0.2/24'),
      console_text,
    );
    const said = await host!.exec(['socat', '-t', '20', '-', 'TCP:10.77.0.2:2222'], { input: 'hostname\n' });
    assert.equal(said.stdout, 'tiny\n');
  });
});
