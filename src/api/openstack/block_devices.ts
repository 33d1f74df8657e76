import { z } from 'zod';
import type { LaunchSpec } from '../../compute/api.ts';
import { Truth, Whole } from '../json_body.ts';
import { Id, SizeGb } from './volumes.ts';

type BlockDeviceMapping = NonNullable<LaunchSpec['block_device_mapping']>[number];

const given = <T extends z.ZodType>(type: T) => z.preprocess((value) => (value === '' ? null : value), type.nullish());
/** Clients of 2011 write truths as 0 and 1, in numbers or text. */
const GivenTruth = given(Truth);
const Name = z.string().min(1).max(40);

/** `block_device_mapping` of a new server. Source: Nova 2011.3 nova/api/openstack/contrib/volumes.py, BootFromVolumeController */
const Mapping = z
  .object({
    device_name: Name,
    volume_id: given(Id),
    snapshot_id: given(Id),
    volume_size: given(SizeGb),
    delete_on_termination: GivenTruth,
    no_device: GivenTruth,
    virtual_name: given(z.string()),
  })
  .transform((one): BlockDeviceMapping => ({
    device_name: one.device_name,
    volume_id: one.volume_id ?? null,
    snapshot_id: one.snapshot_id ?? null,
    volume_size: one.volume_size ?? null,
    delete_on_termination: one.delete_on_termination ?? false,
    no_device: one.no_device ?? false,
    virtual_name: one.virtual_name ?? null,
  }));

/** The same as clients of today write it; the disk made of the image stands among them and is none of ours. */
const MappingV2 = z
  .object({
    source_type: z.enum(['volume', 'snapshot', 'image', 'blank']),
    destination_type: given(z.enum(['volume', 'local'])),
    uuid: given(z.union([z.string(), z.number()])),
    boot_index: given(Whole),
    device_name: given(Name),
    volume_size: given(SizeGb),
    delete_on_termination: GivenTruth,
  })
  .transform((one, issue): BlockDeviceMapping | undefined => {
    const { source_type, destination_type, boot_index, volume_size } = one;
    if (source_type === 'image' && destination_type !== 'volume') return undefined;
    if (source_type === 'image' || destination_type === 'local') {
      const to = destination_type ?? 'volume';
      issue.addIssue({ code: 'custom', message: `from ${source_type} to ${to} is not offered` });
      return undefined;
    }
    const id = source_type === 'blank' ? null : Id.safeParse(one.uuid).data;
    if (id === undefined) issue.addIssue({ code: 'custom', path: ['uuid'], message: `is no id of a ${source_type}` });
    const device_name = boot_index === 0 ? '/dev/vda' : one.device_name;
    if (device_name == null)
      issue.addIssue({
        code: 'custom',
        path: ['device_name'],
        message: 'is needed where boot_index is not 0: /dev/vdb',
      });
    return {
      device_name: device_name ?? '',
      volume_id: source_type === 'volume' ? (id ?? null) : null,
      snapshot_id: source_type === 'snapshot' ? (id ?? null) : null,
      volume_size: volume_size ?? null,
      delete_on_termination: one.delete_on_termination ?? false,
    };
  });

/** Volumes of a new server, by either name. */
export const BLOCK_DEVICES = {
  block_device_mapping: z.array(Mapping).max(25).nullish(),
  block_device_mapping_v2: z.array(MappingV2).max(25).nullish(),
};

export const blockDevices = (server: {
  block_device_mapping?: BlockDeviceMapping[] | null | undefined;
  block_device_mapping_v2?: (BlockDeviceMapping | undefined)[] | null | undefined;
}): BlockDeviceMapping[] => [
  ...(server.block_device_mapping ?? []),
  ...(server.block_device_mapping_v2 ?? []).filter((one) => one !== undefined),
];
