import { z } from 'zod';
import type { RequestContext } from '../../common/context.ts';
import { writing, type Db } from '../../common/db/connect.ts';
import { getProject } from '../../common/db/projects.ts';
import {
  defaultQuota,
  projectQuota,
  QUOTA_RESOURCES,
  setQuota,
  type ProjectQuota,
  type QuotaResource,
} from '../../common/db/quotas.ts';
import { volumeUsage } from '../../common/db/volumes.ts';
import { InvalidInput, NotAuthorized } from '../../common/errors.ts';
import { isTrue } from './pagination.ts';
import { route, type Route } from './route.ts';

const MOST = 2 ** 31 - 1;
const NO_LIMIT = `is no limit: a whole number from 0 to ${MOST}, or -1 or null for none`;
const Limit = z
  .union(
    [
      z.null(),
      z.number(),
      z
        .string()
        .regex(/^-?\d+$/)
        .transform(Number),
    ],
    NO_LIMIT,
  )
  .refine((limit) => limit === null || (Number.isInteger(limit) && limit >= -1 && limit <= MOST), NO_LIMIT)
  .transform((limit) => (limit === -1 ? null : limit));

/** Names of limits that this face does not have are refused, so that nobody takes them for set. */
function bodyOf(resources: readonly QuotaResource[]) {
  const limit = Limit.optional();
  const limits = Object.fromEntries(resources.map((name) => [name, limit])) as Record<QuotaResource, typeof limit>;
  const unused = z.unknown().optional(); // clients of today send them
  return z.object({ quota_set: z.strictObject({ ...limits, tenant_id: unused, force: unused }) });
}

/** @throws NotAuthorized */
function checkProject(ctx: RequestContext, project_id: string): void {
  if (ctx.is_admin || ctx.project_id === project_id) return;
  throw new NotAuthorized(`quotas of project ${project_id.slice(0, 80)} are for its members and administrators`);
}

type Usage = Partial<Record<QuotaResource, number>>;
type UsageOf = (db: Db, project_id: string) => Promise<Usage>;

/** Source: Nova 2011.3 nova/api/openstack/contrib/quotas.py, whose unlimited was null; clients of today know -1 */
function quotaSetRoutes(resources: readonly QuotaResource[], usageOf?: UsageOf): Route[] {
  const view = ({ used, ...quota }: ProjectQuota & { used?: Usage }, { params }: { params: { project: string } }) => {
    const shown = (name: QuotaResource, limit: number) =>
      used ? { limit, in_use: used[name] ?? 0, reserved: 0, allocated: 0 } : limit;
    const limits = resources.map((name) => [name, shown(name, quota[name] ?? -1)]);
    return { quota_set: { id: params.project, ...Object.fromEntries(limits) } };
  };
  return [
    route({
      method: 'GET',
      path: '/os-quota-sets/:project',
      about: `The limits of a project, -1 where there is none; a member reads those of its own project${usageOf ? '. With `usage=True` what is used of each' : ''}`,
      policy: 'member',
      status: 200,
      async run({ ctx, params: { project }, query }, { db, settings }) {
        checkProject(ctx, project);
        await getProject(db, project);
        const quota = await projectQuota(db, settings, project);
        return usageOf && isTrue(query.get('usage') ?? '') ? { ...quota, used: await usageOf(db, project) } : quota;
      },
      view,
    }),
    route({
      method: 'GET',
      path: '/os-quota-sets/:project/defaults',
      about: 'The limits of a project that has none of its own',
      policy: 'member',
      status: 200,
      run({ ctx, params: { project } }, { settings }) {
        checkProject(ctx, project);
        return Promise.resolve(defaultQuota(settings));
      },
      view,
    }),
    route({
      method: 'PUT',
      path: '/os-quota-sets/:project',
      about:
        'Sets limits of a project, -1 or null for none; what is left out stays. They hold from the next request on',
      policy: 'admin',
      body: bodyOf(resources),
      status: 200,
      async run({ params: { project }, query, body: { quota_set } }, { db, settings }) {
        if (query.has('user_id')) throw new InvalidInput('limits are of a project; a user has none: leave out user_id');
        await getProject(db, project);
        await writing(db, async (tx) => {
          for (const name of resources) {
            const limit = quota_set[name];
            if (limit !== undefined) await setQuota(tx, project, name, limit);
          }
        });
        return projectQuota(db, settings, project);
      },
      view,
    }),
  ];
}

export const computeQuotaRoutes = quotaSetRoutes(Object.keys(QUOTA_RESOURCES) as QuotaResource[]);
/** Cinder has those of volumes. */
export const volumeQuotaRoutes = quotaSetRoutes(['volumes', 'gigabytes'], volumeUsage);
