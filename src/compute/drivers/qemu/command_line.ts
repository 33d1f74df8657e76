import { userNetwork } from '../../logic/user_network.ts';
import type { GuestSpec } from '../driver.ts';
import type { GuestFiles } from '../instance_files.ts';
import { volumeArguments } from './volume_words.ts';

export interface QemuOptions {
  binary: string;
  accel: string;
  /** QEMU's `-cpu`, or null for its default. */
  cpu: string | null;
  screen: boolean;
  /** Guest's TCP port to port of 127.0.0.1. */
  forwards: Readonly<Record<string, number>>;
  /** Absolute path of the guest's folder. Sockets are named from there, where QEMU is started. */
  dir: string;
  /** Command that serves one connection to the metadata service on its standard input and output; null: none. */
  metadata_command: readonly string[] | null;
}

export const KERNEL_COMMAND_LINE = 'root=/dev/vda console=ttyS0';

/** In the folder of a guest: QMP, the screen, and the two ends of a card's network, which guest_net.ts joins. */
export const QMP_SOCKET = 'qmp.sock';
export const SCREEN_SOCKET = 'vnc.sock';
export const guestEnd = (index: number): string => `net${index}.guest`;
export const hostEnd = (index: number): string => `net${index}.host`;

/** By this argument a guest's QEMU is known among all processes (processes.ts). */
export const pidFile = (dir: string): string => `${dir}/qemu.pid`;

/** What starts a guest. Pure: the same spec and options give the same words. */
export function qemuCommandLine(spec: GuestSpec, files: GuestFiles, options: QemuOptions): string[] {
  const { volumes } = spec;
  return [
    options.binary,
    ...['-name', value(spec.name), '-uuid', spec.uuid],
    ...['-no-user-config', '-nodefaults', '-machine', `pc,accel=${options.accel}`],
    ...(options.cpu === null ? [] : ['-cpu', options.cpu]),
    ...['-m', String(spec.memory_mb), '-smp', String(spec.vcpus)],
    ...(options.screen ? ['-vga', 'std', '-vnc', `unix:${SCREEN_SOCKET}`] : ['-display', 'none']),
    ...['-chardev', `file,id=console,path=${value(`${options.dir}/console.log`)},append=on`],
    ...['-serial', 'chardev:console'],
    ...['-qmp', `unix:${QMP_SOCKET},server=on,wait=off`],
    ...(files.root === null ? [] : disk(files.root)),
    ...volumes.filter(({ boot }) => boot).flatMap((volume) => volumeArguments(volume, options.dir)),
    ...(files.ephemeral === null ? [] : disk({ path: files.ephemeral, format: 'raw' })),
    ...volumes.filter(({ boot }) => !boot).flatMap((volume) => volumeArguments(volume, options.dir)),
    ...boot(files),
    ...['-device', 'virtio-balloon-pci', '-device', 'virtio-rng-pci'],
    ...spec.nics.flatMap((_, index) => card(spec, index, options)),
    ...['-daemonize', '-pidfile', pidFile(options.dir)],
  ];
}

/** QEMU splits an option at commas; one that is meant is said twice. */
const value = (text: string): string => text.replaceAll(',', ',,');

const disk = ({ path, format }: { path: string; format: string }): string[] => [
  '-drive',
  `if=virtio,format=${format},file=${value(path)}`,
];

function boot({ kernel, ramdisk }: GuestFiles): string[] {
  if (kernel === null) return [];
  return ['-kernel', kernel, ...(ramdisk === null ? [] : ['-initrd', ramdisk]), '-append', KERNEL_COMMAND_LINE];
}

/**
 * A card on a user-mode network of its own. The two are not joined directly but each ends in a socket, with guest_net.ts
 * between them:   card -- net0.guest -- guest_net.ts -- net0.host -- hub -- user-mode network
 */
function card(spec: GuestSpec, index: number, { forwards, metadata_command }: QemuOptions): string[] {
  const nic = spec.nics[index];
  if (nic === undefined) return [];
  const { net, gateway, address, dns, metadata } = userNetwork(nic);
  const user = [`user,id=user${index},ipv6=off,net=${net},host=${gateway},dhcpstart=${address},dns=${dns}`];
  if (/^[A-Za-z0-9.-]+$/.test(spec.hostname)) user.push(`hostname=${spec.hostname}`);
  if (index === 0)
    for (const [port, at] of Object.entries(forwards)) user.push(`hostfwd=tcp:127.0.0.1:${at}-${address}:${port}`);
  if (metadata_command !== null)
    user.push(`guestfwd=tcp:${metadata}:80-cmd:${value(metadata_command.map(quoted).join(' '))}`);
  const stream = (id: string, path: string) => `stream,id=${id},server=on,addr.type=unix,addr.path=${path}`;
  return [
    ...['-netdev', user.join(',')],
    ...['-netdev', stream(`host${index}`, hostEnd(index))],
    ...['-netdev', `hubport,id=hub${index}a,hubid=${index},netdev=user${index}`],
    ...['-netdev', `hubport,id=hub${index}b,hubid=${index},netdev=host${index}`],
    ...['-netdev', stream(`guest${index}`, guestEnd(index))],
    ...['-device', `virtio-net-pci,netdev=guest${index},mac=${nic.mac},romfile=`],
  ];
}

/** QEMU splits the command as a shell does. */
const quoted = (word: string): string => `'${word.replaceAll("'", `'"'"'`)}'`;
