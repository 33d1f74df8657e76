/** A compute host as the scheduler sees it. Sizes in MB and GB; `used` is what placed instances claim. */
export interface HostState {
  host: string;
  zone: string;
  up: boolean;
  /** It went down in order. */
  stopped: boolean;
  disabled: boolean;
  /** Seconds since its last heartbeat. */
  silent_s: number;
  /** Why its hypervisor takes no guests, and since when; null while it answers. */
  fault: { since: string; reason: string } | null;
  /** Undefined until nova-compute reported what the host has. */
  node: HostCapacity | undefined;
}
export interface HostCapacity {
  vcpus: number;
  vcpus_used: number;
  memory_mb: number;
  memory_mb_used: number;
  local_gb: number;
  local_gb_used: number;
}
export interface Wanted {
  vcpus: number;
  memory_mb: number;
  local_gb: number;
  /** Zone asked for, or null. */
  zone: string | null;
  /** Only this host; admins ask by `zone:host`. */
  host: string | null;
}
export interface Ratios {
  cpu: number;
  ram: number;
  disk: number;
}
/** A scheduling rule: the hosts that may take it, best first; `why` has one sentence for each that may not. */
export interface Choice {
  hosts: HostState[];
  why: Record<string, string>;
  /** Most vcpus placed on one host, if the rule has a limit: holds also when others are placed at the same moment. */
  max_vcpus?: number;
}
export type SchedulingRule = (hosts: readonly HostState[], wanted: Wanted, options: RuleOptions) => Choice;
export interface RuleOptions {
  ratios: Ratios;
  /** simple: vcpus placed on one host. */
  max_cores: number;
  /** 0 to 1. */
  random: () => number;
}

/** Why this host cannot take it, with the numbers that decided; undefined when it can. */
export function whyNot(host: HostState, wanted: Wanted, ratios: Ratios): string | undefined {
  if (wanted.zone !== null && host.zone !== wanted.zone) return `in zone ${host.zone}, asked for was ${wanted.zone}`;
  if (host.disabled) return 'disabled by the operator';
  if (host.stopped) return 'down: its nova-compute was stopped';
  if (!host.up) return `down: no heartbeat for ${Math.round(host.silent_s)} s`;
  if (!host.node) return 'has not reported its capacity yet';
  if (host.fault) return `its hypervisor does not answer since ${host.fault.since}: ${host.fault.reason}`;
  const { node } = host;
  const sizes: [string, number, number, number, number][] = [
    ['vcpus', node.vcpus, node.vcpus_used, wanted.vcpus, ratios.cpu],
    ['memory_mb', node.memory_mb, node.memory_mb_used, wanted.memory_mb, ratios.ram],
    ['local_gb', node.local_gb, node.local_gb_used, wanted.local_gb, ratios.disk],
  ];
  for (const [name, total, used, more, ratio] of sizes)
    if (used + more > total * ratio)
      return `${name}: ${more} wanted, ${Math.max(0, Math.floor(total * ratio - used))} free of ${Math.floor(total * ratio)}`;
  return undefined;
}

/** Splits the hosts that are asked about, all or one, into those that fit and the reasons of the others. */
export function fitting(hosts: readonly HostState[], wanted: Wanted, ratios: Ratios): Choice {
  const choice: Choice = { hosts: [], why: {} };
  for (const host of asked(hosts, wanted)) {
    const why = whyNot(host, wanted, ratios);
    if (why === undefined) choice.hosts.push(host);
    else choice.why[host.host] = why;
  }
  return choice;
}

/** All hosts, or the one asked for. */
export const asked = <H extends { host: string }>(hosts: readonly H[], { host }: { host: string | null }): H[] =>
  hosts.filter((one) => host === null || one.host === host);

/** The hosts that are down, as they would be if they came back: one that starts again or was cut off may in a moment. */
export const ifBack = <H extends { up: boolean }>(hosts: readonly H[]): H[] =>
  hosts.filter(({ up }) => !up).map((host) => ({ ...host, up: true, stopped: false }));

/** `zone`, or `zone:host` where an admin asked, as the row has it; `:host` is in any zone. */
export function parseZone(text: string | null): { zone: string | null; host: string | null } {
  if (text === null || text === '') return { zone: null, host: null };
  const at = text.indexOf(':');
  if (at < 0) return { zone: text, host: null };
  return { zone: text.slice(0, at) || null, host: text.slice(at + 1) || null };
}

/** For the instance's owner and the log. */
export function noValidHostText(wanted: Wanted, why: Record<string, string>): string {
  const reasons = Object.entries(why).map(([host, reason]) => `${host}: ${reason}`);
  const what = `${wanted.vcpus} vcpus, ${wanted.memory_mb} MB, ${wanted.local_gb} GB${wanted.zone === null ? '' : ` in zone ${wanted.zone}`}`;
  const none =
    wanted.host === null
      ? 'There is no compute host at all; start nova-compute'
      : `There is no compute host ${wanted.host}`;
  return `no valid host for ${what}. ${reasons.length === 0 ? none : reasons.join('; ')}`;
}
