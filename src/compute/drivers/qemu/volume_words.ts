import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { GuestVolume } from '../../../common/volume_connection.ts';
import { iscsiOf } from '../volume_unplug.ts';

/** What the parts of a volume are called in a QEMU: the serial, and a mark of the connection. 31 characters at most. */
export const nodeName = (volume: GuestVolume): string => `node-${volume.serial}-${mark(volume)}`;
export const secretName = (volume: GuestVolume): string => `secret-${volume.serial}-${mark(volume)}`;

function mark({ connection, serial }: GuestVolume): string {
  const { target_portal, target_iqn, target_lun, auth_username } = iscsiOf(connection, serial);
  const text = [target_portal, target_iqn, target_lun, auth_username].join(' ');
  return createHash('sha256').update(text).digest('hex').slice(0, 8);
}

/** In the guest's folder while its QEMU starts. */
export const secretFile = (dir: string, serial: string): string => join(dir, `${serial}.secret`);

/** QEMU's own initiator, as blockdev-add and -blockdev take it. */
export function iscsiNode(volume: GuestVolume): Record<string, unknown> {
  const iscsi = iscsiOf(volume.connection, volume.serial);
  return {
    driver: 'raw',
    'node-name': nodeName(volume),
    file: {
      driver: 'iscsi',
      transport: 'tcp',
      portal: iscsi.target_portal,
      target: iscsi.target_iqn,
      lun: iscsi.target_lun,
      user: iscsi.auth_username,
      'password-secret': secretName(volume),
    },
  };
}

/** Arguments for a guest that starts with the volume. */
export const volumeArguments = (volume: GuestVolume, dir: string): string[] => [
  ...['-object', `secret,id=${secretName(volume)},file=${secretFile(dir, volume.serial).replaceAll(',', ',,')}`],
  ...['-blockdev', JSON.stringify(iscsiNode(volume))],
  '-device',
  `virtio-blk-pci,id=${volume.serial},drive=${nodeName(volume)},serial=${volume.serial}${volume.boot ? ',bootindex=1' : ''}`,
];
