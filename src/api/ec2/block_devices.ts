import { InvalidInput, SnapshotNotFound, VolumeNotFound } from '../../common/errors.ts';
import type { LaunchSpec } from '../../compute/api.ts';
import { formatId, parseId } from './ids.ts';
import { bool, int, list, optional, str, struct } from './params.ts';

export const blockDeviceMappings = () =>
  list(
    struct({
      DeviceName: str({ max: 40 }),
      VirtualName: optional(str()),
      NoDevice: optional(str({ min: 0 })),
      Ebs: optional(
        struct({
          SnapshotId: optional(str()),
          VolumeSize: optional(int({ min: 1 })),
          VolumeType: optional(str()),
          DeleteOnTermination: optional(bool(), true),
          Encrypted: optional(bool(), false),
        }),
      ),
    }),
    { max: 25 },
  );
type Asked = ReturnType<ReturnType<typeof blockDeviceMappings>['decode']>;

/**
 * As in Diablo `Ebs.SnapshotId` may be a volume that there is.
 * Source: Nova 2011.3 nova/api/ec2/cloud.py, _parse_block_device_mapping. @throws InvalidInput, SnapshotNotFound, VolumeNotFound
 */
export const blockDevices = (asked: Asked): NonNullable<LaunchSpec['block_device_mapping']> =>
  asked.map(({ DeviceName, VirtualName, NoDevice, Ebs }, i) => {
    const name = `BlockDeviceMapping.${i + 1}.Ebs`;
    if (Ebs?.Encrypted) throw new InvalidInput(`${name}.Encrypted: volumes are not encrypted here; leave it out`);
    return {
      device_name: DeviceName,
      ...sourceOf(Ebs?.SnapshotId, `${name}.SnapshotId`),
      volume_size: Ebs?.VolumeSize ?? null,
      ...(Ebs?.VolumeType === undefined ? {} : { volume_type: Ebs.VolumeType }),
      delete_on_termination: Ebs?.DeleteOnTermination ?? true,
      no_device: NoDevice !== undefined || VirtualName === 'NoDevice',
      virtual_name: VirtualName ?? null,
    };
  });

function sourceOf(text: string | undefined, name: string): { snapshot_id: number | null; volume_id: number | null } {
  if (text === undefined) return { snapshot_id: null, volume_id: null };
  const [snapshot_id, volume_id] = [parseId(['snap'], text), parseId(['vol'], text)];
  if (snapshot_id === null) throw new SnapshotNotFound(`there is no snapshot ${text}`);
  if (volume_id === null) throw new VolumeNotFound(`there is no volume ${text}`);
  if (snapshot_id === undefined && volume_id === undefined)
    throw new InvalidInput(
      `${name} '${text.slice(0, 80)}' is neither like ${formatId('snap', 11)} nor like ${formatId('vol', 11)}`,
    );
  return { snapshot_id: snapshot_id ?? null, volume_id: volume_id ?? null };
}
