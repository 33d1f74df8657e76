import type { RequestContext } from '../../common/context.ts';
import { groupsOfProject } from '../../common/db/security_groups.ts';
import { SecurityGroupNotFound } from '../../common/errors.ts';
import { USER_DATA_BYTES } from '../../compute/api.ts';
import { blockDeviceMappings, blockDevices } from './block_devices.ts';
import { action, type Ec2Deps } from './deps.ts';
import { viewReservation } from './instance_view.ts';
import { parseId } from './ids.ts';
import { metadataOptionParams, metadataOptionsOf } from './metadata_options.ts';
import { kernelOf } from './images.ts';
import { base64, imageId, int, list, optional, str, struct } from './params.ts';
import { tagsOf, tagSpecifications } from './tags.ts';

export const runInstances = action('RunInstances', {
  about: 'Launches from MinCount to MaxCount instances, as many as the quota allows',
  params: {
    ImageId: imageId(),
    MinCount: optional(int({ min: 1 })),
    MaxCount: optional(int({ min: 1 })),
    InstanceType: optional(str()),
    KernelId: optional(str()),
    RamdiskId: optional(imageId()),
    KeyName: optional(str()),
    UserData: optional(base64({ max_bytes: USER_DATA_BYTES })),
    SecurityGroup: list(str()),
    SecurityGroupId: list(str()),
    Placement: optional(struct({ AvailabilityZone: optional(str()) })),
    DisplayName: optional(str()),
    DisplayDescription: optional(str()),
    ClientToken: optional(str({ max: 64 })),
    BlockDeviceMapping: blockDeviceMappings(),
    TagSpecification: tagSpecifications(),
    MetadataOptions: optional(struct(metadataOptionParams)),
    NetworkInterface: list(struct({ SecurityGroupId: list(str()) }), { max: 1 }),
  },
  not_offered: [
    'SubnetId',
    'PrivateIpAddress',
    'Ipv6Address',
    'Ipv6AddressCount=0',
    'IamInstanceProfile',
    'LaunchTemplate',
    'DisableApiTermination',
    'DisableApiStop',
    'InstanceInitiatedShutdownBehavior=stop',
    'InstanceMarketOptions',
    'Placement.Tenancy=default',
    'Placement.GroupName',
    'Placement.GroupId',
    'BlockDeviceMapping.N.Ebs.KmsKeyId',
    'NetworkInterface.N.Ipv6AddressCount=0',
    ...['SubnetId', 'NetworkInterfaceId', 'PrivateIpAddress', 'PrivateIpAddresses', 'AssociatePublicIpAddress'].map(
      (name) => `NetworkInterface.N.${name}`,
    ),
  ],
  roles: ['projectmanager', 'sysadmin'],
  async run(ctx, asked, deps, version) {
    const group_ids = [...asked.SecurityGroupId, ...asked.NetworkInterface.flatMap((one) => one.SecurityGroupId)];
    const max_count = asked.MaxCount ?? asked.MinCount ?? 1;
    const { instances } = await deps.compute.create(ctx, {
      image_id: asked.ImageId,
      ...kernelOf(asked.KernelId, deps.settings.null_kernel),
      ...(asked.RamdiskId === undefined ? {} : { ramdisk_id: asked.RamdiskId }),
      ...(asked.InstanceType === undefined ? {} : { instance_type: asked.InstanceType }),
      min_count: asked.MinCount ?? max_count,
      max_count,
      key_name: asked.KeyName ?? null,
      user_data: asked.UserData?.toString('base64') || null,
      security_groups: [...new Set([...asked.SecurityGroup, ...(await groupNames(ctx, deps, group_ids))])],
      availability_zone: asked.Placement?.AvailabilityZone ?? null,
      ...(asked.DisplayName === undefined ? {} : { display_name: asked.DisplayName }),
      ...(asked.DisplayDescription === undefined ? {} : { display_description: asked.DisplayDescription }),
      block_device_mapping: blockDevices(asked.BlockDeviceMapping),
      metadata: tagsOf(asked.TagSpecification, 'instance'),
      metadata_options: metadataOptionsOf(asked.MetadataOptions ?? {}),
      client_token: asked.ClientToken ?? null,
    });
    return viewReservation(ctx, instances, { ...deps.settings, version });
  },
});

/** @throws SecurityGroupNotFound */
async function groupNames(ctx: RequestContext, { db }: Ec2Deps, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const groups = await groupsOfProject(db, ctx.project_id ?? '');
  return ids.map((text) => {
    const id = parseId(['sg'], text);
    const group = groups.find((known) => known.id === id);
    if (!group) throw new SecurityGroupNotFound(`project ${ctx.project_id} has no security group ${text.slice(0, 80)}`);
    return group.name;
  });
}
