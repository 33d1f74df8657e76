import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { aRealRig } from '../guest/compute/drivers/rig.ts';
import { startLibvirtd, type Libvirtd } from '../rigs/libvirtd.ts';
import { startLan } from '../rigs/netns.ts';
import { Program } from '../rigs/program.ts';
import { startTgt, type Tgt } from '../rigs/tgt.ts';
import { atEnd, tempDir, type Scope } from '../rigs/tmp.ts';
import { aNic } from '../unit/compute/drivers/specs.ts';
import { withShell, type VolumeRig } from './guest_volumes.ts';

export const LIBVIRT_HOST_NEEDS = [
  ...['root', 'libvirtd', 'virsh', 'qemu-system-x86_64', 'qemu-img', 'mke2fs', 'debugfs'],
  ...['nsenter', 'tgtd', 'tgtadm', 'socat', 'dnsmasq'],
];

export interface LibvirtHost {
  libvirtd: Libvirtd;
  tgt: Tgt;
  /** Of this process, where its guests reach a tgtd. */
  address: string;
  /** A driver with guests on this host, one at a time. */
  rig(scope: Scope, flags?: Record<string, unknown>): Promise<VolumeRig>;
}

/** A compute host with a libvirtd and a bridge whose guest gets 10.77.0.77, and a tgtd outside it. */
export async function aLibvirtHost(scope: Scope): Promise<LibvirtHost> {
  const lan = await startLan(scope, ['node1']);
  const [node1] = lan.hosts;
  const libvirtd = await startLibvirtd(scope, node1 === undefined ? {} : { host: node1 });
  const { host, uri } = libvirtd;
  await host.exec(['ip', '-batch', '-'], {
    input: 'link add br100 type bridge\nlink set br100 up\naddr add 10.77.0.1/24 dev br100\n',
  });
  const log = join(host.dir, 'dnsmasq.log');
  const argv = ['dnsmasq', '-k', '--conf-file=', '--port=0', '--interface=br100', '--bind-interfaces', '--pid-file='];
  argv.push('--leasefile-ro', '--log-facility=-', '--dhcp-range=10.77.0.2,static,255.255.255.0,3600s');
  argv.push(`--dhcp-host=${aNic().mac},10.77.0.77`);
  const dnsmasq = new Program({ name: 'dnsmasq', argv, log, enter: host.enter });
  atEnd(scope, () => dnsmasq.kill());
  await dnsmasq.start(async () => readFileSync(log, 'utf8').includes('sockets bound'));
  const tgt = await startTgt(scope, lan.address);
  const shell = async (_name: string, line: string) => {
    const socat = ['socat', '-t', '60', '-', 'TCP:10.77.0.77:2222,connect-timeout=5'];
    return (await host.exec(socat, { input: `${line}\n` })).stdout;
  };
  return {
    libvirtd,
    tgt,
    address: lan.address,
    async rig(t, flags = {}) {
      const ours = { connection_type: 'libvirt', libvirt_type: 'qemu', libvirt_uri: uri, ...flags };
      const paused: VolumeRig['paused'] = async (name, yes) =>
        void (await libvirtd.virsh([yes ? 'suspend' : 'resume', name]));
      return withShell(await aRealRig(t, tempDir(t), ours), tgt, shell, paused);
    },
  };
}
