import type { GuestVolume } from '../../../common/volume_connection.ts';
import { iscsiOf, portalOf } from '../volume_unplug.ts';

/** A volume's disk, as libvirt shows it. */
export interface VolumeDisk {
  serial: string;
  target: string;
  auth_username: string;
  /** `IQN/LUN` */
  source: string;
}

/** The disk of a volume, which QEMU itself reaches over iSCSI. Its alias is its serial, so libvirt refuses a second one. */
export function volumeXml({ serial, connection }: GuestVolume, target: string, secret_uuid: string): string {
  const iscsi = iscsiOf(connection, serial);
  const { host, port } = portalOf(iscsi);
  return [
    "<disk type='network' device='disk'>",
    "  <driver name='qemu' type='raw' cache='none'/>",
    `  <source protocol='iscsi' name='${escapeXml(sourceOf(iscsi))}'>`,
    `    <host name='${escapeXml(host)}' port='${port}'/>`,
    `    <auth username='${escapeXml(iscsi.auth_username)}'><secret type='iscsi' uuid='${secret_uuid}'/></auth>`,
    '  </source>',
    `  <target dev='${escapeXml(target)}' bus='virtio'/>`,
    `  <serial>${escapeXml(serial)}</serial>`,
    `  <alias name='ua-${escapeXml(serial)}'/>`,
    '</disk>',
  ].join('\n');
}

export const sourceOf = (iscsi: { target_iqn: string; target_lun: number }): string =>
  `${iscsi.target_iqn}/${iscsi.target_lun}`;

/** The volumes of a domain, from its XML. */
export function volumeDisks(xml: string): VolumeDisk[] {
  return (xml.match(/<disk [\s\S]*?<\/disk>/g) ?? []).flatMap((disk) => {
    const serial = /<serial>(.*?)<\/serial>/.exec(disk)?.[1];
    const source = /<source protocol='iscsi' name='([^']*)'/.exec(disk)?.[1];
    if (serial === undefined || source === undefined) return [];
    const target = /<target dev='([^']*)'/.exec(disk)?.[1] ?? '';
    return [{ serial, source, target, auth_username: /<auth username='([^']*)'/.exec(disk)?.[1] ?? '' }];
  });
}

/** What tells libvirt which disk goes. */
export const unplugXml = ({ serial, target, source }: VolumeDisk): string =>
  [
    "<disk type='network' device='disk'>",
    `  <source protocol='iscsi' name='${escapeXml(source)}'><host name='127.0.0.1'/></source>`,
    `  <target dev='${escapeXml(target)}' bus='virtio'/>`,
    `  <alias name='ua-${escapeXml(serial)}'/>`,
    '</disk>',
  ].join('\n');

/**
 * libvirt's names of a guest's disks, which must differ: a volume's is the one that its user chose, where no other disk
 * has it.
 */
export function targetOf(device: string, taken: readonly string[]): string {
  if (/^[a-z]{1,3}d[a-z]+$/.test(device) && !taken.includes(device)) return device;
  for (const letter of 'bcdefghijklmnopqrstuvwxyz') if (!taken.includes(`vd${letter}`)) return `vd${letter}`;
  return `vda${'abcdefghijklmnopqrstuvwxyz'[taken.length % 26]}`;
}

/** Every `<target dev>` of a domain. */
export const targets = (xml: string): string[] =>
  [...xml.matchAll(/<disk [\s\S]*?<target dev='([^']*)'/g)].map((found) => found[1] ?? '');

export const escapeXml = (text: string): string => text.replace(/[&<>'"]/g, (c) => `&#${c.charCodeAt(0)};`);
