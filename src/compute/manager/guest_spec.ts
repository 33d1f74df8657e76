import type { Db } from '../../common/db/connect.ts';
import { imageById } from '../../common/db/images.ts';
import type { Instance } from '../../common/db/instances.ts';
import { ImageNotFound } from '../../common/errors.ts';
import type { NetworkInfo } from '../../common/network_info.ts';
import type { GuestVolume } from '../../common/volume_connection.ts';
import type { GuestImage, GuestSpec } from '../drivers/driver.ts';

export interface SpecRules {
  instance_name_template: string;
  /** A root disk grows to this, GiB, unless the type has no disk of its own (m1.tiny). Source: Nova minimum_root_size. */
  minimum_root_gb: number;
}

/** `instance-%08x` of an id. */
export const guestName = (template: string, id: number): string => fillTemplate(template, id);
const fillTemplate = (template: string, id: number): string =>
  template.replace(/%(0?)(\d*)([xd])/, (_, zero: string, width: string, base: string) =>
    id.toString(base === 'x' ? 16 : 10).padStart(Number(width), zero === '0' ? '0' : ' '),
  );

/** The id in a guest's name, or undefined when the name is not made by this template. */
export function guestId(template: string, name: string): number | undefined {
  const spec = /%0?\d*([xd])/.exec(template);
  if (!spec) return undefined;
  const after = template.length - spec.index - spec[0].length;
  const id = Number.parseInt(name.slice(spec.index, name.length - after), spec[1] === 'x' ? 16 : 10);
  return Number.isSafeInteger(id) && guestName(template, id) === name ? id : undefined;
}

/** The same row always gives the same guest. Images that were deleted meanwhile are still known by their rows. */
export async function guestSpec(
  db: Db,
  instance: Instance,
  nics: NetworkInfo[],
  volumes: GuestVolume[],
  rules: SpecRules,
): Promise<GuestSpec> {
  const image = (id: number) => guestImage(db, id);
  return {
    name: guestName(rules.instance_name_template, instance.id),
    instance_id: instance.id,
    uuid: instance.uuid,
    hostname: instance.hostname,
    memory_mb: instance.memory_mb,
    vcpus: instance.vcpus,
    root_gb: instance.local_gb > 0 ? rules.minimum_root_gb : 0,
    ephemeral_gb: instance.local_gb,
    image: volumes.some((volume) => volume.boot) ? null : await image(instance.image_id),
    kernel: instance.kernel_id === null ? null : await image(instance.kernel_id),
    ramdisk: instance.ramdisk_id === null ? null : await image(instance.ramdisk_id),
    nics,
    key_data: instance.key_data,
    volumes,
  };
}

async function guestImage(db: Db, id: number): Promise<GuestImage> {
  const row = await imageById(db, id);
  if (!row || row.checksum === null || row.size_bytes === null)
    throw new ImageNotFound(`image ${id} has no bytes to boot from`);
  return { id, checksum: row.checksum, size_bytes: row.size_bytes, disk_format: row.disk_format };
}
