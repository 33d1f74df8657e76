import type { InstanceType } from '../../../common/db/instance_types.ts';
import type { Urls } from '../urls.ts';

export const viewFlavorName = ({ flavorid, name }: InstanceType, urls: Urls): object => ({
  id: urls.text_ids ? String(flavorid) : flavorid,
  name,
  links: urls.links('flavors', flavorid),
});

/** `ram` in MB, `disk` in GB. Source: Nova 2011.3 nova/api/openstack/views/flavors.py */
export const viewFlavor = (type: InstanceType, urls: Urls): object => ({
  ...viewFlavorName(type, urls),
  ram: type.memory_mb,
  disk: type.local_gb,
  vcpus: type.vcpus,
  swap: type.swap,
  rxtx_quota: type.rxtx_quota,
  rxtx_cap: type.rxtx_cap,
});
