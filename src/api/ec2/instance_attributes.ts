import type { InstanceView } from '../../common/db/instance_views.ts';
import { action } from './deps.ts';
import { formatId } from './ids.ts';
import { instancesById } from './instance_query.ts';
import { rootDeviceName, viewDevices, viewGroups } from './instance_view.ts';
import { instanceId, list, str, word } from './params.ts';
import { groupNumber } from './security_group_params.ts';
import type { XmlValue } from './xml.ts';

/** AWS's form: the value in an element of its own, lists aside. Nova had them flat. */
const ATTRIBUTES = {
  instanceType: ({ instance_type }) => ({ value: instance_type }),
  kernel: ({ kernel_id }) => ({ value: kernel_id === null ? null : formatId('aki', kernel_id) }),
  ramdisk: ({ ramdisk_id }) => ({ value: ramdisk_id === null ? null : formatId('ari', ramdisk_id) }),
  rootDeviceName: (instance) => ({ value: rootDeviceName(instance) }),
  blockDeviceMapping: viewDevices,
  groupSet: viewGroups,
} satisfies Record<string, (instance: InstanceView, shown: { version: string }) => XmlValue>;
const NAMES = Object.keys(ATTRIBUTES) as (keyof typeof ATTRIBUTES)[];

export const describeInstanceAttribute = action('DescribeInstanceAttribute', {
  about: 'One attribute of an instance',
  params: { InstanceId: instanceId(), Attribute: word(NAMES) },
  roles: 'all',
  async run(ctx, { InstanceId, Attribute }, deps, version) {
    const [instance] = await instancesById(ctx, deps, [InstanceId]);
    return {
      instanceId: formatId('i', InstanceId),
      [Attribute]: instance === undefined ? null : ATTRIBUTES[Attribute](instance, { version }),
    };
  },
});

export const modifyInstanceAttribute = action('ModifyInstanceAttribute', {
  about: 'The security groups of an instance are these from now; no other attribute can be changed',
  params: { InstanceId: instanceId(), GroupId: list(str(), { min: 1 }) },
  roles: ['projectmanager', 'sysadmin', 'netadmin'],
  async run(ctx, { InstanceId, GroupId }, { groups }) {
    await groups.setGroups(ctx, InstanceId, [...new Set(GroupId.map(groupNumber))]);
    return { return: true };
  },
});
