import { existsSync, readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { myIp } from '../../src/common/core_flags.ts';
import { loadFlags, type Flags } from '../../src/common/flags.ts';
import { ownLibvirtdUri } from '../own_libvirtd.ts';
import { freePort, gatewayOf } from './host_network.ts';
import type { Mode, Run, StateFolder } from './state_folder.ts';

/** Where the APIs listen; the first is everyone's default, taken when it is free. */
export interface Ports {
  ec2: number;
  openstack: number;
  identity: number;
  metadata: number;
  s3: number;
  iscsi: number;
}
export const DEFAULT_PORTS: Ports = {
  ec2: 8773,
  openstack: 8774,
  identity: 5000,
  metadata: 8775,
  s3: 3333,
  iscsi: 3260,
};

export async function choosePorts(): Promise<Ports> {
  const ports = { ...DEFAULT_PORTS };
  for (const name of Object.keys(ports) as (keyof Ports)[]) ports[name] = await freePort(ports[name]);
  return ports;
}

/** Not the machine's name, which changes, and with it whose the network and the guests are. */
export const HOST = 'localhost';

/** Writes the flagfile of nova-all. @returns the flags that it gives, as nova-manage reads them */
export function writeFlagfile(state: StateFolder, run: Run, ports: Ports): Flags {
  const lines = [
    '# Written by each npm start, which is the one to change it: scripts/start/flagfile.ts',
    '--fake_rabbit',
    `--state_path=${state.dir}`,
    `--host=${HOST}`,
    '--my_ip=127.0.0.1',
    '--ec2_listen=127.0.0.1',
    `--ec2_listen_port=${ports.ec2}`,
    `--ec2_port=${ports.ec2}`,
    '--osapi_listen=127.0.0.1',
    `--osapi_listen_port=${ports.openstack}`,
    `--osapi_port=${ports.openstack}`,
    '--identity_listen=127.0.0.1',
    `--identity_listen_port=${ports.identity}`,
    `--identity_port=${ports.identity}`,
    '--s3_listen=127.0.0.1',
    `--s3_port=${ports.s3}`,
    `--metadata_port=${ports.metadata}`,
    `--iscsi_port=${ports.iscsi}`,
    '--network_manager=nova.network.manager.FlatDHCPManager',
    `--flat_network_bridge=${run.network.bridge}`,
    `--fixed_range=${run.network.cidr}`,
    `--dhcpbridge_flagfile=${state.path('nova.flags')}`,
    ...modeLines(state, run.mode, run.network.cidr, ports),
  ];
  state.write('nova.flags', `${lines.join('\n')}\n`);
  return loadFlags([`--flagfile=${state.path('nova.flags')}`], { binary: 'nova-manage' });
}

function modeLines(state: StateFolder, mode: Mode, cidr: string, ports: Ports): string[] {
  switch (mode.driver) {
    case 'libvirt':
      return [
        '--connection_type=libvirt',
        `--libvirt_type=${mode.accel === 'kvm' ? 'kvm' : 'qemu'}`,
        ...(mode.libvirtd === 'own'
          ? [`--libvirt_uri=${ownLibvirtdUri(libvirtDir(state))}`]
          : ['--instance_name_template=nova-start-%08x']), // another cloud may use this libvirtd
        `--routing_source_ip=${myIp()}`,
        // Guests cannot reach this host's loopback: 169.254.169.254 leads them to the bridge, so the metadata is there.
        `--metadata_listen=${gatewayOf(cidr)}`,
        `--metadata_dnat=127.0.0.1:${ports.metadata}`,
      ];
    case 'qemu':
      return [
        '--connection_type=qemu',
        `--qemu_accel=${mode.accel}`,
        '--fake_network',
        '--metadata_listen=127.0.0.1',
        `--metadata_proxy_shared_secret=${secret(state)}`,
      ];
    case 'fake':
      return ['--connection_type=fake', '--fake_network', '--metadata_listen=127.0.0.1'];
  }
}

export const libvirtDir = (state: StateFolder): string => join(state.dir, 'libvirt');

function secret(state: StateFolder): string {
  const file = state.path('secret');
  if (!existsSync(file)) state.write('secret', randomBytes(16).toString('hex'));
  return readFileSync(file, 'utf8').trim();
}
