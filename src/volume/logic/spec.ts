import { InvalidInput, MissingParameter, VolumeLimitExceeded } from '../../common/errors.ts';

/** GiB: 1 PiB, far more than a file or an iSCSI unit of ours can be. */
const LARGEST_GB = 1024 * 1024;
const LONGEST = 255;

/** The size a volume gets. @throws InvalidInput, MissingParameter */
export function checkedSize(asked: number | null, snapshot: { name: string; volume_size: number } | null): number {
  const size = asked ?? snapshot?.volume_size;
  if (size === undefined) throw new MissingParameter('a size in GiB, or a snapshot, is needed');
  if (!Number.isInteger(size) || size < 1)
    throw new InvalidInput(`${size} is no size of a volume: whole GiB, 1 or more`);
  if (size > LARGEST_GB) throw new InvalidInput(`a volume of ${size} GiB is too large: at most ${LARGEST_GB} GiB`);
  if (snapshot !== null && size < snapshot.volume_size)
    throw new InvalidInput(
      `${size} GiB is less than ${snapshot.name} has: a volume made of it has ${snapshot.volume_size} GiB or more`,
    );
  return size;
}

/** @throws InvalidInput */
export function checkNames(names: { display_name?: string; display_description?: string }): void {
  for (const [what, text] of Object.entries(names))
    if (text.length > LONGEST)
      throw new InvalidInput(`the ${what} has ${text.length} characters; ${LONGEST} at most are kept`);
}

/** @throws InvalidInput */
export function checkMetadata(pairs: Readonly<Record<string, string>>, limit: number | null): void {
  const count = Object.keys(pairs).length;
  if (limit !== null && count > limit)
    throw new InvalidInput(`${count} metadata pairs; a volume holds at most ${limit} (quota metadata_items)`);
  for (const [key, value] of Object.entries(pairs))
    if (key.length === 0 || key.length > LONGEST || value.length > LONGEST)
      throw new InvalidInput(
        `metadata ${key.slice(0, 40)}: a key has 1 to ${LONGEST} characters, a value up to ${LONGEST}`,
      );
}

/** Whether one more volume fits. Source: Nova 2011.3 nova/quota.py allowed_volumes. @throws VolumeLimitExceeded */
export function checkQuota(
  project_id: string,
  quota: { volumes: number | null; gigabytes: number | null },
  used: { volumes: number; gigabytes: number },
  size: number,
): void {
  const help = 'Delete some, or have the quota raised';
  if (quota.volumes !== null && used.volumes + 1 > quota.volumes)
    throw new VolumeLimitExceeded(
      `project ${project_id} has ${used.volumes} volumes and may have ${quota.volumes}. ${help}`,
    );
  if (quota.gigabytes !== null && used.gigabytes + size > quota.gigabytes)
    throw new VolumeLimitExceeded(
      `project ${project_id} uses ${used.gigabytes} of ${quota.gigabytes} GiB, ${size} more asked for. ${help}`,
    );
}
