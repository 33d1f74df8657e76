import type { Image } from '../../../common/db/images.ts';
import type { Urls } from '../urls.ts';
import { isoSeconds } from './servers.ts';
import { imageStatus } from './status.ts';

export const viewImageName = ({ id, name }: Image, urls: Urls): object => ({
  id: String(id),
  name,
  links: urls.links('images', id),
});

/** Source: Nova 2011.3 nova/api/openstack/views/images.py; `fault` as servers have it. */
export function viewImage(image: Image, urls: Urls): Record<string, unknown> {
  const status = imageStatus(image.status);
  const metadata = imageMetadata(image);
  const view: Record<string, unknown> = {
    ...viewImageName(image, urls),
    created: isoSeconds(image.created_at),
    updated: isoSeconds(image.updated_at ?? image.created_at),
    status,
    progress: status === 'ACTIVE' ? 100 : 0,
    metadata,
  };
  const server = /(\d+)$/.exec(metadata['instance_ref'] ?? '')?.[1];
  if (server !== undefined) view['server'] = urls.reference('servers', server);
  if (status === 'ERROR' && image.fault !== null) view['fault'] = { code: 500, message: image.fault };
  return view;
}

/** Metadata that is no property: fixed for ever. */
export const OF_THE_IMAGE = ['architecture', 'kernel_id', 'ramdisk_id'];

/** Its properties; what Nova kept among them and we in columns is shown there too. */
export function imageMetadata(image: Image): Record<string, string> {
  const metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(JSON.parse(image.properties) as Record<string, unknown>))
    metadata[key] = typeof value === 'string' ? value : JSON.stringify(value);
  metadata['architecture'] = image.architecture;
  if (image.kernel_id !== null) metadata['kernel_id'] = String(image.kernel_id);
  if (image.ramdisk_id !== null) metadata['ramdisk_id'] = String(image.ramdisk_id);
  return metadata;
}
