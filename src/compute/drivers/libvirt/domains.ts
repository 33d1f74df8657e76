import { PowerState } from '../../logic/power_state.ts';
import { METADATA_URI } from './domain_xml.ts';
import type { Virsh } from './virsh.ts';

export interface Domain {
  name: string;
  uuid: string;
  state: PowerState;
  /** Made by a nova-compute with our instances_path, under the name that it has now. */
  ours: boolean;
}

/** A domain that has a process: it must be stopped before it can be forgotten. */
export const isActive = (domain: Domain): boolean =>
  domain.state !== PowerState.SHUTOFF && domain.state !== PowerState.CRASHED;

/** Words of `virsh domstate`, whose codes are Nova's own. Source: libvirt's virDomainState. */
const STATES: Record<string, PowerState> = {
  'no state': PowerState.NOSTATE,
  running: PowerState.RUNNING,
  idle: PowerState.BLOCKED,
  paused: PowerState.PAUSED,
  'in shutdown': PowerState.SHUTDOWN,
  'shut off': PowerState.SHUTOFF,
  crashed: PowerState.CRASHED,
  pmsuspended: PowerState.SUSPENDED,
};
/** libvirt builds a domain paused; until it lets it go, it is in no state of its own. */
const STARTING = { word: 'paused (starting up)', state: PowerState.PAUSED, reason: 11 };
const CODES = new Set<number>(Object.values(STATES));

function asState(code: number, reason: number): PowerState {
  if (!CODES.has(code) || (code === STARTING.state && reason === STARTING.reason)) return PowerState.NOSTATE;
  return code as PowerState;
}

/** From `virsh domstate --reason`, such as `shut off (destroyed)`. */
function wordState(text: string): PowerState {
  if (text === STARTING.word) return PowerState.NOSTATE;
  return STATES[text.replace(/ \(.*/, '')] ?? PowerState.NOSTATE;
}

/** Asks libvirt about domains, and says which are ours. */
export class Domains {
  readonly #virsh: Virsh;
  readonly #instances_path: string;
  /** By uuid and name, since a domain's metadata stays as it was made: each domain is asked for it once. */
  readonly #ours = new Map<string, boolean>();

  constructor(virsh: Virsh, instances_path: string) {
    this.#virsh = virsh;
    this.#instances_path = instances_path;
  }

  /** All of ours, in one virsh; in one more, those that were not seen before are asked whose they are. */
  async list(): Promise<Domain[]> {
    const [names = '', stats = ''] = await this.#virsh.ask([
      ['list', '--all', '--uuid', '--name'],
      ['domstats', '--state', '--nowait'],
    ]);
    const states = parseStates(stats);
    const there = names.split('\n').flatMap((line) => {
      const [, uuid, name] = /^\s*([0-9a-f-]{36})\s+(.*\S)\s*$/.exec(line) ?? [];
      const state = name === undefined ? undefined : states.get(name);
      return uuid === undefined || name === undefined || state === undefined ? [] : [{ uuid, name, state }];
    });
    await this.#learn(there);
    return there.map((domain) => ({ ...domain, ours: true })).filter((domain) => this.#ours.get(key(domain)));
  }

  /** The domain of this name, whoever made it. */
  async find(name: string): Promise<Domain | undefined> {
    const [uuid = '', state = '', metadata = ''] = await this.#virsh.ask([
      ['domuuid', '--domain', name],
      ['domstate', '--domain', name, '--reason'],
      ['metadata', '--domain', name, '--uri', METADATA_URI],
    ]);
    if (uuid === '' || state === '') return undefined;
    return { name, uuid, state: wordState(state), ours: this.#isOurs(name, metadata) };
  }

  async #learn(there: readonly { uuid: string; name: string }[]): Promise<void> {
    const unknown = there.filter((domain) => !this.#ours.has(key(domain)));
    const keep = new Set(there.map(key));
    for (const known of this.#ours.keys()) if (!keep.has(known)) this.#ours.delete(known);
    if (unknown.length === 0) return;
    const answers = await this.#virsh.ask(unknown.map(({ uuid }) => ['metadata', uuid, '--uri', METADATA_URI]));
    for (const [i, domain] of unknown.entries())
      this.#ours.set(key(domain), this.#isOurs(domain.name, answers[i] ?? ''));
  }

  #isOurs(name: string, metadata: string): boolean {
    const said = (attribute: string) =>
      unescape(new RegExp(` ${attribute}=["']([^"']*)["']`).exec(metadata)?.[1] ?? '');
    return said('name') === name && said('instances_path') === this.#instances_path;
  }
}

const key = ({ uuid, name }: { uuid: string; name: string }): string => `${uuid} ${name}`;

/** `virsh domstats --state` as name to state. */
export function parseStates(stats: string): Map<string, PowerState> {
  const states = new Map<string, PowerState>();
  for (const block of stats.split(/^Domain: /m)) {
    const name = /^'(.*)'$/m.exec(block)?.[1];
    const code = /^\s*state\.state=(\d+)/m.exec(block)?.[1];
    const reason = /^\s*state\.reason=(\d+)/m.exec(block)?.[1];
    if (name !== undefined && code !== undefined) states.set(name, asState(Number(code), Number(reason)));
  }
  return states;
}

const NAMED: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
const unescape = (text: string): string =>
  text.replace(/&(?:#(\d+)|(\w+));/g, (all, code?: string, name?: string) =>
    code === undefined ? (NAMED[name ?? ''] ?? all) : String.fromCharCode(Number(code)),
  );
