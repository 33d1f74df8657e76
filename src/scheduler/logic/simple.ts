import { fitting, type SchedulingRule } from './hosts.ts';

/** The host with the fewest vcpus placed, up to max_cores each. Source: Nova 2011.2 nova/scheduler/simple.py. */
export const simple: SchedulingRule = (hosts, wanted, { ratios, max_cores }) => {
  const { hosts: fit, why } = fitting(hosts, wanted, ratios);
  const used = (host: (typeof fit)[number]) => host.node?.vcpus_used ?? 0;
  const below = fit.filter((host) => {
    if (wanted.host !== null || used(host) + wanted.vcpus <= max_cores) return true;
    why[host.host] = `vcpus: ${used(host)} placed, ${wanted.vcpus} more would pass --max_cores=${max_cores}`;
    return false;
  });
  const hosts_below = below.toSorted((a, b) => used(a) - used(b));
  return { hosts: hosts_below, why, ...(wanted.host === null && { max_vcpus: max_cores }) };
};
