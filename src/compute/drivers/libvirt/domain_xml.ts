import { tapName } from '../../logic/tap_name.ts';
import type { GuestSpec } from '../driver.ts';
import type { GuestFiles } from '../instance_files.ts';
import { escapeXml, targetOf, volumeXml } from './volume_xml.ts';

/** Under this name a domain carries whose guest it is; a domain without it is not ours. */
export const METADATA_URI = 'http://openstack.org/nova/instance/1.0';

export interface DomainOptions {
  libvirt_type: 'kvm' | 'qemu';
  /** libvirt's `cpu mode`; null leaves it to QEMU. */
  cpu: { mode: string; model: string | null } | null;
  /** libvirt's `cache` of every disk. */
  disk_cache: string;
  /** Address the guest's screen listens on; null: no screen. */
  vnc_listen: string | null;
  /** Marks the domain as made by the nova-compute that keeps its guests in this folder. */
  instances_path: string;
  console_log: string;
  /** Of libvirt's secret that opens a volume. */
  secret_uuid: (serial: string) => string;
}

/**
 * The libvirt domain of a guest. The file serial comes first: to it goes the guest's console, which get-console-output
 * reads, and QEMU appends to it so that a reboot does not lose what was said.
 * Source: Nova 2011.2 nova/virt/libvirt.xml.template.
 */
export function domainXml(spec: GuestSpec, files: GuestFiles, options: DomainOptions): string {
  const lines = [
    `<domain type='${options.libvirt_type}'>`,
    `  <name>${escapeXml(spec.name)}</name>`,
    `  <uuid>${escapeXml(spec.uuid)}</uuid>`,
    '  <metadata>',
    `    <nova:instance xmlns:nova='${METADATA_URI}' name='${escapeXml(spec.name)}' ` +
      `id='${spec.instance_id}' instances_path='${escapeXml(options.instances_path)}'/>`,
    '  </metadata>',
    `  <memory unit='MiB'>${spec.memory_mb}</memory>`,
    `  <vcpu>${spec.vcpus}</vcpu>`,
    '  <os>',
    "    <type arch='x86_64' machine='pc'>hvm</type>",
    ...bootLines(files).map((line) => `    ${line}`),
    '  </os>',
    '  <features><acpi/></features>',
    ...cpuLines(options),
    "  <clock offset='utc'/>",
    '  <on_poweroff>destroy</on_poweroff>',
    '  <on_reboot>restart</on_reboot>',
    '  <on_crash>destroy</on_crash>',
    '  <devices>',
    ...deviceLines(spec, files, options).map((line) => `    ${line}`),
    '  </devices>',
    '</domain>',
  ];
  return `${lines.join('\n')}\n`;
}

function bootLines(files: GuestFiles): string[] {
  if (files.kernel === null) return ["<boot dev='hd'/>"];
  const lines = [`<kernel>${escapeXml(files.kernel)}</kernel>`];
  if (files.ramdisk !== null) lines.push(`<initrd>${escapeXml(files.ramdisk)}</initrd>`);
  return [...lines, `<cmdline>${KERNEL_COMMAND_LINE}</cmdline>`];
}

export const KERNEL_COMMAND_LINE = 'root=/dev/vda console=ttyS0';

function cpuLines({ cpu }: DomainOptions): string[] {
  if (cpu === null) return [];
  if (cpu.model === null) return [`  <cpu mode='${escapeXml(cpu.mode)}'/>`];
  return [`  <cpu mode='${escapeXml(cpu.mode)}'><model>${escapeXml(cpu.model)}</model></cpu>`];
}

function deviceLines(spec: GuestSpec, files: GuestFiles, options: DomainOptions): string[] {
  const log = `<source path='${escapeXml(options.console_log)}' append='on'/>`;
  const lines = files.root === null ? [] : [...diskLines(files.root, 'vda', options)];
  if (files.ephemeral !== null) lines.push(...diskLines({ path: files.ephemeral, format: 'raw' }, 'vdb', options));
  lines.push(...volumeLines(spec, files, options));
  for (const [index, nic] of spec.nics.entries())
    lines.push(
      "<interface type='bridge'>",
      `  <mac address='${escapeXml(nic.mac)}'/>`,
      `  <source bridge='${escapeXml(nic.bridge)}'/>`,
      `  <target dev='${tapName(spec.instance_id, index)}'/>`,
      "  <model type='virtio'/>",
      "  <rom enabled='no'/>", // a guest boots from its disk: asking the network first is a second lost
      '</interface>',
    );
  lines.push(
    `<serial type='file'>${log}<target port='0'/></serial>`,
    "<serial type='pty'><target port='1'/></serial>",
    `<console type='file'>${log}<target type='serial' port='0'/></console>`,
  );
  if (options.vnc_listen !== null)
    lines.push(
      `<graphics type='vnc' autoport='yes' websocket='-1' keymap='en-us' listen='${escapeXml(options.vnc_listen)}'/>`,
      "<video><model type='vga' vram='16384'/></video>",
    );
  lines.push(
    "<memballoon model='virtio'><stats period='10'/></memballoon>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
  );
  return lines;
}

/** The one that the guest boots from comes first. */
function volumeLines(spec: GuestSpec, files: GuestFiles, { secret_uuid }: DomainOptions): string[] {
  const taken = ['vda', ...(files.ephemeral === null ? [] : ['vdb'])];
  return spec.volumes
    .toSorted((a, b) => Number(b.boot) - Number(a.boot))
    .flatMap((volume) => {
      const target = volume.boot ? 'vda' : targetOf(volume.device, taken);
      taken.push(target);
      return volumeXml(volume, target, secret_uuid(volume.serial)).split('\n');
    });
}

function diskLines(disk: { path: string; format: string }, target: string, { disk_cache }: DomainOptions): string[] {
  return [
    "<disk type='file' device='disk'>",
    `  <driver name='qemu' type='${disk.format}' cache='${disk_cache}'/>`,
    `  <source file='${escapeXml(disk.path)}'/>`,
    `  <target dev='${target}' bus='virtio'/>`,
    '</disk>',
  ];
}
