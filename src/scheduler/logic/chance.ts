import { fitting, type SchedulingRule } from './hosts.ts';

/** Any host that fits, at random. Source: Nova 2011.2 nova/scheduler/chance.py; Nova did not look whether it fits. */
export const chance: SchedulingRule = (hosts, wanted, { ratios, random }) => {
  const { hosts: fit, why } = fitting(hosts, wanted, ratios);
  const ranked = fit.map((host) => ({ host, at: random() })).toSorted((a, b) => a.at - b.at);
  return { hosts: ranked.map(({ host }) => host), why };
};
