import { listInstanceTypes, type InstanceType } from '../../common/db/instance_types.ts';
import { InstanceTypeNotFound } from '../../common/errors.ts';
import { action } from './deps.ts';
import { filters, matcher, type Fields } from './filters.ts';
import { afterId, cutPage, pagingParams } from './paging.ts';
import { list, str } from './params.ts';

const FIELDS: Fields<InstanceType> = {
  'instance-type': ({ name }) => name,
  'vcpu-info.default-vcpus': ({ vcpus }) => vcpus,
  'memory-info.size-in-mib': ({ memory_mb }) => memory_mb,
  'instance-storage-info.total-size-in-gb': ({ local_gb }) => local_gb,
  'current-generation': () => true,
};

/** AWS's elements, and beside them those of Nova's action of the same name for administrators. */
export const describeInstanceTypes = action('DescribeInstanceTypes', {
  about: 'Sizes of instances',
  params: { InstanceType: list(str()), Filter: filters(), ...pagingParams },
  roles: 'all',
  async run(_ctx, { InstanceType, Filter, ...paging }, { db }) {
    const matches = matcher(Filter, FIELDS);
    const types = await listInstanceTypes(db);
    const missing = InstanceType.find((name) => !types.some((type) => type.name === name));
    if (missing !== undefined) throw new InstanceTypeNotFound(`there is no instance type ${missing}`);
    const marker = afterId(paging);
    const asked = types
      .filter((type) => type.id > marker && (InstanceType.length === 0 || InstanceType.includes(type.name)))
      .filter(matches)
      .sort((a, b) => a.id - b.id);
    const { page, nextToken } = cutPage(asked, paging);
    return { instanceTypeSet: page.map(viewType), nextToken };
  },
});

const viewType = (type: InstanceType) => ({
  instanceType: type.name,
  currentGeneration: true,
  freeTierEligible: false,
  bareMetal: false,
  vCpuInfo: { defaultVCpus: type.vcpus },
  memoryInfo: { sizeInMiB: type.memory_mb },
  instanceStorageSupported: type.local_gb > 0,
  instanceStorageInfo: type.local_gb > 0 ? { totalSizeInGB: type.local_gb } : undefined,
  name: type.name,
  memoryMb: type.memory_mb,
  vcpus: type.vcpus,
  diskGb: type.local_gb,
  flavorId: type.flavorid,
});
