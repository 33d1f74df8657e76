import { clock } from '../../common/clock.ts';
import { instanceUsage } from '../../common/db/instances.ts';
import { projectQuota, type ProjectQuota, type QuotaResource } from '../../common/db/quotas.ts';
import { volumeUsage } from '../../common/db/volumes.ts';
import type { RateState } from './rate_limits.ts';
import { route, type OsRequest, type RouteDeps } from './route.ts';

/** The API's names. Source: Nova 2011.3 nova/api/openstack/views/limits.py; those of volumes are Cinder's */
const ABSOLUTE: readonly [name: string, resource: QuotaResource][] = [
  ['maxTotalInstances', 'instances'],
  ['maxTotalCores', 'cores'],
  ['maxTotalRAMSize', 'ram'],
  ['maxTotalVolumes', 'volumes'],
  ['maxTotalVolumeGigabytes', 'gigabytes'],
  ['maxServerMeta', 'metadata_items'],
  ['maxImageMeta', 'metadata_items'],
  ['maxPersonality', 'injected_files'],
  ['maxPersonalitySize', 'injected_file_content_bytes'],
];

/** Limits of one place stand together. */
function viewRates(rates: readonly RateState[]): object[] {
  const places = new Map<string, { uri: string; regex: string; limit: object[] }>();
  for (const { uri, regex, verb, value, remaining, unit, next_available } of rates) {
    const place = places.get(uri) ?? { uri, regex, limit: [] };
    place.limit.push({ verb, value, remaining, unit, 'next-available': next_available });
    places.set(uri, place);
  }
  return [...places.values()];
}

export interface Limits {
  quota: ProjectQuota;
  used: { instances: number; cores: number; ram: number; volumes: number; gigabytes: number };
  rates: readonly RateState[];
}

export async function limitsOf({ ctx }: OsRequest, { db, settings, rate_limits }: RouteDeps): Promise<Limits> {
  const project_id = ctx.project_id ?? '';
  const [quota, used, stored] = await Promise.all([
    projectQuota(db, settings, project_id),
    instanceUsage(db, project_id),
    volumeUsage(db, project_id),
  ]);
  return { quota, used: { ...used, ...stored }, rates: rate_limits?.states(ctx.user_id ?? '', clock.now()) ?? [] };
}

/** What is unlimited is left out. */
export const viewAbsolute = ({ quota, used }: Limits): object => ({
  ...Object.fromEntries(
    ABSOLUTE.flatMap(([name, resource]) => (quota[resource] === null ? [] : [[name, quota[resource]]])),
  ),
  totalInstancesUsed: used.instances,
  totalCoresUsed: used.cores,
  totalRAMUsed: used.ram,
  totalVolumesUsed: used.volumes,
  totalGigabytesUsed: used.gigabytes,
});

/** In Cinder's words, to whom unlimited is -1. */
export const viewVolumeLimits = ({ quota, used }: Limits): object => ({
  limits: {
    rate: [],
    absolute: {
      maxTotalVolumes: quota.volumes ?? -1,
      maxTotalVolumeGigabytes: quota.gigabytes ?? -1,
      totalVolumesUsed: used.volumes,
      totalGigabytesUsed: used.gigabytes,
    },
  },
});

export const limitRoutes = [
  route({
    method: 'GET',
    path: '/limits',
    about: "The project's quotas, what is used of them, and the limits on how often one may ask",
    policy: 'member',
    status: 200,
    run: limitsOf,
    view: (limits) => ({ limits: { rate: viewRates(limits.rates), absolute: viewAbsolute(limits) } }),
  }),
];
