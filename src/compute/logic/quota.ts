/** What a project may have and has; null is unlimited. */
export interface InstanceQuota {
  instances: number | null;
  cores: number | null;
  ram: number | null;
}
export interface InstanceUsage {
  instances: number;
  cores: number;
  ram: number;
}

/**
 * How many instances of a type fit into the quota: min(asked, what is left / size). `why` names the limit that decided.
 * Source: Nova 2011.3 nova/quota.py allowed_instances.
 */
export function allowedInstances(
  quota: InstanceQuota,
  used: InstanceUsage,
  asked: number,
  type: { vcpus: number; memory_mb: number },
): { allowed: number; why: string } {
  const limits: [string, number | null, number, number][] = [
    ['instances', quota.instances, used.instances, 1],
    ['cores', quota.cores, used.cores, type.vcpus],
    ['ram (MB)', quota.ram, used.ram, type.memory_mb],
  ];
  let allowed = asked;
  let why = '';
  for (const [name, limit, now, each] of limits) {
    if (limit === null || limit < 0 || each === 0) continue;
    const fits = Math.max(0, Math.floor((limit - now) / each));
    if (fits >= allowed) continue;
    allowed = fits;
    why = `${name}: ${now} of ${limit} in use, ${asked * each} more asked for`;
  }
  return { allowed, why };
}
