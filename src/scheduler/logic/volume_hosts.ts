import { asked } from './hosts.ts';

/** A storage host as the scheduler sees it. */
export interface VolumeHostState {
  host: string;
  zone: string;
  up: boolean;
  /** It went down in order. */
  stopped: boolean;
  disabled: boolean;
  /** Seconds since its last heartbeat. */
  silent_s: number;
  /** GiB that may be promised there; undefined until its nova-volume reported. */
  limit_gb: number | undefined;
  /** GiB of live volumes and snapshots. */
  promised_gb: number;
}
export interface WantedVolume {
  size_gb: number;
  zone: string | null;
  /** Only this host: an admin's `zone:host`, or who has the snapshot. */
  host: string | null;
  /** Why only that one, for the message. */
  because?: string;
}
export interface VolumeChoice {
  /** Best first. */
  hosts: VolumeHostState[];
  /** One sentence for each that may not. */
  why: Record<string, string>;
  /** Most GiB promised of one host, if the rule has a limit: holds also when others are placed at the same moment. */
  max_gb?: number;
}
export interface VolumeRuleOptions {
  /** simple: GiB placed on one host. */
  max_gigabytes: number;
  /** 0 to 1. */
  random: () => number;
}
export type VolumeRule = (
  hosts: readonly VolumeHostState[],
  wanted: WantedVolume,
  options: VolumeRuleOptions,
) => VolumeChoice;

/** Why this host cannot take it, with the numbers that decided; undefined when it can. */
export function whyNotVolume(host: VolumeHostState, wanted: WantedVolume): string | undefined {
  if (wanted.because === undefined && wanted.zone !== null && host.zone !== wanted.zone)
    return `in zone ${host.zone}, asked for was ${wanted.zone}`;
  if (host.disabled) return 'disabled by the operator';
  if (host.stopped) return 'down: its nova-volume was stopped';
  if (!host.up) return `down: no heartbeat for ${Math.round(host.silent_s)} s`;
  if (host.limit_gb === undefined) return 'has not reported its room yet';
  if (host.promised_gb + wanted.size_gb > host.limit_gb)
    return `${wanted.size_gb} GiB wanted, ${Math.max(0, host.limit_gb - host.promised_gb)} free of ${host.limit_gb}`;
  return undefined;
}

function fitting(hosts: readonly VolumeHostState[], wanted: WantedVolume): VolumeChoice {
  const choice: VolumeChoice = { hosts: [], why: {} };
  for (const host of asked(hosts, wanted)) {
    const why = whyNotVolume(host, wanted);
    if (why === undefined) choice.hosts.push(host);
    else choice.why[host.host] = why;
  }
  return choice;
}

/** Any host that fits, at random. Source: Nova 2011.2 nova/scheduler/chance.py; Nova did not look whether it fits. */
export const volumeChance: VolumeRule = (hosts, wanted, { random }) => {
  const { hosts: fit, why } = fitting(hosts, wanted);
  const ranked = fit.map((host) => ({ host, at: random() })).toSorted((a, b) => a.at - b.at);
  return { hosts: ranked.map(({ host }) => host), why };
};

/** The host with the fewest gigabytes, up to max_gigabytes each. Source: Nova 2011.2 nova/scheduler/simple.py. */
export const volumeSimple: VolumeRule = (hosts, wanted, { max_gigabytes }) => {
  const { hosts: fit, why } = fitting(hosts, wanted);
  const below = fit.filter((host) => {
    if (wanted.host !== null || host.promised_gb + wanted.size_gb <= max_gigabytes) return true;
    why[host.host] =
      `${host.promised_gb} GiB placed, ${wanted.size_gb} more would pass --max_gigabytes=${max_gigabytes}`;
    return false;
  });
  const hosts_below = below.toSorted((a, b) => a.promised_gb - b.promised_gb);
  return { hosts: hosts_below, why, ...(wanted.host === null && { max_gb: max_gigabytes }) };
};

/** For the volume's owner and the log. */
export function noValidVolumeHostText(wanted: WantedVolume, why: Record<string, string>): string {
  const reasons = Object.entries(why).map(([host, reason]) => `${host}: ${reason}`);
  const what = `${wanted.size_gb} GiB${wanted.zone === null ? '' : ` in zone ${wanted.zone}`}`;
  const none =
    wanted.host === null
      ? 'There is no storage host at all; start nova-volume'
      : `There is no storage host ${wanted.host}`;
  const because = wanted.because === undefined ? '' : `${wanted.because}. `;
  return `no valid host for a volume of ${what}. ${because}${reasons.length === 0 ? none : reasons.join('; ')}`;
}
