import { defineFlags, integer, type FlagValues } from '../flags.ts';
import type { Db, Tx } from './connect.ts';
import { holdProject } from './projects.ts';

const unless = 'where the project has no limit of its own; -1 is unlimited';

/** Limits of a project that has none of its own. Source: Nova 2011.3 nova/quota.py. */
export const quotaFlags = defineFlags({
  quota_instances: integer(10, `Instances of a project ${unless}`, { min: -1 }),
  quota_cores: integer(20, `Virtual processors of a project ${unless}`, { min: -1 }),
  quota_ram: integer(50 * 1024, `Memory of a project, MB, ${unless}`, { min: -1 }),
  quota_volumes: integer(10, `Volumes of a project ${unless}`, { min: -1 }),
  quota_gigabytes: integer(1000, `Size of all volumes of a project, GiB, ${unless}`, { min: -1 }),
  quota_floating_ips: integer(10, `Floating addresses of a project ${unless}`, { min: -1 }),
  quota_security_groups: integer(100, `Security groups of a project ${unless}`, { min: -1 }),
  quota_security_group_rules: integer(100, `Rules of one security group ${unless}`, { min: -1 }),
  quota_metadata_items: integer(128, `Metadata pairs of an instance ${unless}`, { min: -1 }),
  quota_max_injected_files: integer(5, `Files injected into a new instance ${unless}`, { min: -1 }),
  quota_max_injected_file_content_bytes: integer(10 * 1024, `Bytes of an injected file ${unless}`, { min: -1 }),
});

/** What can be limited for a project, and the flag that says the limit of the others. */
export const QUOTA_RESOURCES = {
  instances: 'quota_instances',
  cores: 'quota_cores',
  ram: 'quota_ram',
  volumes: 'quota_volumes',
  gigabytes: 'quota_gigabytes',
  floating_ips: 'quota_floating_ips',
  security_groups: 'quota_security_groups',
  security_group_rules: 'quota_security_group_rules',
  metadata_items: 'quota_metadata_items',
  injected_files: 'quota_max_injected_files',
  injected_file_content_bytes: 'quota_max_injected_file_content_bytes',
} as const;
export type QuotaResource = keyof typeof QUOTA_RESOURCES;
/** Null is unlimited. */
export type ProjectQuota = Record<QuotaResource, number | null>;

export const isQuotaResource = (name: string): name is QuotaResource => Object.hasOwn(QUOTA_RESOURCES, name);

/** The limits that hold for a project: its own, else those of the flags. */
export async function projectQuota(
  db: Db,
  flags: FlagValues<typeof quotaFlags>,
  project_id: string,
): Promise<ProjectQuota> {
  const rows = await db
    .selectFrom('quotas')
    .select(['resource', 'hard_limit'])
    .where('project_id', '=', project_id)
    .execute();
  const own = new Map(rows.map((row) => [row.resource, row.hard_limit]));
  return quotaOf((resource) => (own.has(resource) ? (own.get(resource) ?? null) : flags[QUOTA_RESOURCES[resource]]));
}

/** The limits of a project that has none of its own. */
export const defaultQuota = (flags: FlagValues<typeof quotaFlags>): ProjectQuota =>
  quotaOf((resource) => flags[QUOTA_RESOURCES[resource]]);

function quotaOf(limitOf: (resource: QuotaResource) => number | null): ProjectQuota {
  const entries = (Object.keys(QUOTA_RESOURCES) as QuotaResource[]).map((resource) => {
    const limit = limitOf(resource);
    return [resource, limit === null || limit < 0 ? null : limit] as const;
  });
  return Object.fromEntries(entries) as ProjectQuota;
}

/** The limit holds from the next request on. Null is unlimited. @throws ProjectNotFound */
export async function setQuota(
  tx: Tx,
  project_id: string,
  resource: QuotaResource,
  hard_limit: number | null,
): Promise<void> {
  await holdProject(tx, project_id);
  await tx
    .insertInto('quotas')
    .values({ project_id, resource, hard_limit })
    .onConflict((e) => e.columns(['project_id', 'resource']).doUpdateSet({ hard_limit }))
    .execute();
}
