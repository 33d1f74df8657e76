import { ec2ImageId } from '../common/db/images.ts';
import { ec2InstanceId } from '../common/db/instances.ts';
import { viewInstances, type InstanceView } from '../common/db/instance_views.ts';
import { checkHost } from './known_host.ts';
import { optional, text, verb, type Noun } from './noun.ts';
import { table } from './table.ts';

const HEADING = 'instance node type state launched image kernel ramdisk project user zone index'.split(' ');

/** Source: Nova 2011.3 bin/nova-manage VmCommands. */
export const vmCommands: Noun = {
  name: 'vm',
  summary: 'Instances of all projects',
  verbs: {
    list: verb({
      summary: 'Print every instance, or those of a host',
      args: { host: optional(text('Name of the host')) },
      run: async (m, { host }) => {
        const all = await viewInstances(m.db, m.ctx, {});
        if (host !== undefined) await checkHost(m, host, all);
        const rows = all.filter((instance) => host === undefined || instance.host === host).map(listed);
        for (const line of table([HEADING, ...rows])) m.out(line);
      },
    }),
  },
};

const listed = (instance: InstanceView): string[] => [
  ec2InstanceId(instance.id),
  instance.host ?? '-',
  instance.instance_type,
  instance.task_state === null ? instance.vm_state : `${instance.vm_state}/${instance.task_state}`,
  instance.launched_at ?? '-',
  ec2ImageId(instance.image_id),
  instance.kernel_id === null ? '-' : ec2ImageId(instance.kernel_id, 'aki'),
  instance.ramdisk_id === null ? '-' : ec2ImageId(instance.ramdisk_id, 'ari'),
  instance.project_id,
  instance.user_id,
  instance.availability_zone ?? '-',
  String(instance.launch_index),
];
