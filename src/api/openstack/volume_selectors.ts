import type { Snapshot } from '../../common/db/snapshots.ts';
import type { VolumeView } from '../../common/db/volume_views.ts';
import { isEverywhere } from './all_tenants.ts';
import type { OsRequest } from './route.ts';

/** By a query's parameter, what it is compared with. */
type Selectors<T> = Readonly<Record<string, (one: T) => string | number>>;

/** As Cinder tells it: one that was made of bytes may have a system on it. */
export const bootable = ({ snapshot_id }: VolumeView): string => (snapshot_id === null ? 'false' : 'true');

export const VOLUME_SELECTORS: Selectors<VolumeView> = {
  id: ({ id }) => id,
  name: ({ display_name }) => display_name,
  status: ({ status }) => status,
  project_id: ({ project_id }) => project_id,
  user_id: ({ user_id }) => user_id,
  availability_zone: ({ availability_zone }) => availability_zone,
  size: ({ size }) => size,
  bootable,
};
export const SNAPSHOT_SELECTORS: Selectors<Snapshot> = {
  id: ({ id }) => id,
  name: ({ display_name }) => display_name,
  status: ({ status }) => status,
  project_id: ({ project_id }) => project_id,
  user_id: ({ user_id }) => user_id,
  volume_id: ({ volume_id }) => volume_id,
};

/** For the documentation. */
export const selectorNames = (selectors: Selectors<never>): string =>
  `${Object.keys(selectors)
    .map((name) => `\`${name}\``)
    .join(', ')} and \`all_tenants\``;

/** Those that the query asks for; an administrator sees those of all projects when asking for them. */
export function selected<T extends { project_id: string }>(
  all: readonly T[],
  { ctx, query }: OsRequest,
  selectors: Selectors<T>,
): T[] {
  const everywhere = isEverywhere(query.get('all_tenants'));
  const asked = Object.entries(selectors).flatMap(([name, of]) => {
    const given = query.get(name);
    return given === null ? [] : [{ given: name === 'bootable' ? given.toLowerCase() : given, of }];
  });
  return all.filter(
    (one) =>
      (everywhere || one.project_id === ctx.project_id) && asked.every(({ given, of }) => String(of(one)) === given),
  );
}
