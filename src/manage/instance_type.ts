import { writing } from '../common/db/connect.ts';
import {
  createInstanceType,
  deleteInstanceType,
  listInstanceTypes,
  purgeInstanceType,
  type InstanceType,
} from '../common/db/instance_types.ts';
import { InstanceTypeNotFound } from '../common/errors.ts';
import { alsoCalled, integer, onOff, optional, text, verb, type Noun } from './noun.ts';

const name = text('Name of the instance type');
const number = (help: string, min = 0) => integer(help, { min, max: 2 ** 31 - 1 });

/** Source: Nova 2011.3 bin/nova-manage InstanceTypeCommands. */
export const instanceTypeCommands: Noun = {
  name: 'instance_type',
  summary: 'Sizes of instances',
  verbs: {
    create: verb({
      summary: 'Make an instance type',
      args: {
        name,
        memory: number('Memory, MB', 1),
        vcpus: alsoCalled(['cpu'], number('Virtual processors', 1)),
        local_gb: number('Disk, GiB; 0 is the size of the image'),
        flavorid: number('Number of the flavor in the OpenStack API', 1),
        swap: optional(number('Swap disk, GiB; kept and shown, no disk is made'), 0),
        rxtx_quota: optional(number('Traffic, GB'), 0),
        rxtx_cap: optional(number('Traffic, Mbit/s'), 0),
      },
      run: async (m, { memory, ...type }) => {
        await createInstanceType(m.db, { ...type, memory_mb: memory });
        m.out(`${type.name} created`);
      },
    }),
    delete: verb({
      summary: 'Take an instance type away; instances that have it go on',
      args: { name, purge: onOff('Also from the list of --all') },
      run: async (m, { name, purge }) => {
        const kept = purge
          ? await writing(m.db, (tx) => purgeInstanceType(tx, name))
          : await deleteInstanceType(m.db, name);
        m.out(`${name} ${purge && !kept ? 'purged' : 'deleted'}`);
        if (kept) m.warn(`${name} stays in the list of --all, because instances were made of it`);
      },
    }),
    list: verb({
      summary: 'Print the instance types, or one',
      args: { name: optional(name), all: onOff('Also those that were deleted') },
      run: async (m, { name, all }) => {
        const types = (await listInstanceTypes(m.db, { deleted: all })).filter((type) => !name || type.name === name);
        if (name !== undefined && types.length === 0)
          throw new InstanceTypeNotFound(`there is no instance type ${name}`);
        for (const type of types) m.out(listed(type));
      },
    }),
  },
};

const listed = (type: InstanceType): string =>
  `${type.name}: Memory: ${type.memory_mb}MB, VCPUS: ${type.vcpus}, Storage: ${type.local_gb}GB, ` +
  `FlavorID: ${type.flavorid}, Swap: ${type.swap}GB, RXTX Quota: ${type.rxtx_quota}GB, ` +
  `RXTX Cap: ${type.rxtx_cap}MB${type.deleted ? ', inactive' : ''}`;
