import { sleep } from '../clock.ts';
import type { Difference } from '../difference.ts';
import { needing, type Host } from './host.ts';

/** A set of addresses that rules match against, as the kernel is to have it. */
export interface AddressSet {
  /** At most 27 characters: a set that replaces another is `NAME-new` for a moment. */
  name: string;
  family: 'inet' | 'inet6';
  members: readonly string[];
}

const NEW = '-new';
/** The kernel lets go of a set some time after the last rule that used it. */
const DROP_ATTEMPTS = 10;
const DROP_PAUSE_MS = 50;

/** What there is: the members of each set. */
export type SetMembers = Map<string, Set<string>>;

/** Reads `ipset save`. */
export function parseSets(text: string): SetMembers {
  const sets: SetMembers = new Map();
  for (const line of text.split('\n')) {
    const [word, name = '', member = ''] = line.split(' ');
    if (word === 'create') sets.set(name, new Set());
    if (word === 'add') sets.get(name)?.add(member);
  }
  return sets;
}

/**
 * The text for `ipset restore` that makes these sets: a set that is there with other members is swapped for a new one,
 * so that no packet sees half of it. @returns null when all are as wanted
 */
export function setsText(current: SetMembers, wanted: readonly AddressSet[]): string | null {
  const lines = wanted.flatMap(({ name, family, members }) => {
    const have = current.get(name);
    if (have && have.size === new Set(members).size && members.every((member) => have.has(member))) return [];
    const fresh = `${name}${NEW}`;
    const create = (set: string) => `create ${set} hash:ip family ${family} maxelem 1048576 -exist`;
    return [
      ...(have ? [] : [create(name)]),
      create(fresh),
      `flush ${fresh}`,
      ...members.map((member) => `add ${fresh} ${member} -exist`),
      `swap ${fresh} ${name}`,
      `destroy ${fresh}`,
    ];
  });
  return lines.length === 0 ? null : lines.join('\n') + '\n';
}

/** What there is and is not wanted, and what is wanted and is not there, in words. */
export function setDifferences(current: SetMembers, wanted: readonly AddressSet[]): Difference[] {
  const keep = new Set(wanted.map(({ name }) => name));
  const found: Difference[] = [];
  for (const { name, members } of wanted) {
    const what = `ipset ${name}`;
    const have = current.get(name);
    if (!have) found.push({ what, expected: `${members.length} addresses`, found: 'no such set', repair: 'makes it' });
    else {
      const add = (address: string) => ({ what, expected: address, found: 'not in it', repair: 'adds it' });
      const drop = (address: string) => ({ what, expected: `not ${address}`, found: 'it is in it', repair: 'takes it out' }); // prettier-ignore
      found.push(...members.filter((one) => !have.has(one)).map(add));
      found.push(...[...have].filter((one) => !members.includes(one)).map(drop));
    }
  }
  for (const [name, members] of current)
    if (!keep.has(name))
      found.push({
        what: `ipset ${name}`,
        expected: 'no such set, since no rule uses it',
        found: `a set of ${members.size} addresses`,
        repair: 'destroys it',
      });
  return found;
}

/** The sets of a host whose names begin with `prefix`: nobody else's. */
export class IpSets {
  readonly #host: Host;
  readonly #prefix: string;
  constructor(host: Host, prefix: string) {
    this.#host = host;
    this.#prefix = prefix;
  }

  /** Before the rules that use them. @throws BackendUnavailable */
  async make(wanted: readonly AddressSet[], signal: AbortSignal): Promise<void> {
    const text = setsText(await this.#read(signal), wanted);
    if (text === null) return;
    await needing('making sets of addresses', this.#host.run(['ipset', 'restore'], { input: text, signal }));
  }

  /** What `make` and `drop` would change. */
  async look(wanted: readonly AddressSet[], signal: AbortSignal): Promise<Difference[]> {
    return setDifferences(await this.#read(signal), wanted);
  }

  /** After the rules that used them. @returns those that are still in use, and stay until the next time */
  async drop(wanted: readonly AddressSet[], signal: AbortSignal): Promise<string[]> {
    const keep = new Set(wanted.map(({ name }) => name));
    for (let attempt = 1; ; attempt++) {
      const stale = [...(await this.#read(signal)).keys()].filter((name) => !keep.has(name));
      if (stale.length === 0 || attempt > DROP_ATTEMPTS) return stale;
      for (const name of stale) await this.#host.run(['ipset', 'destroy', name], { ok: [0, 1], signal });
      await sleep(DROP_PAUSE_MS, signal);
    }
  }

  async #read(signal: AbortSignal): Promise<SetMembers> {
    const { stdout } = await needing('reading sets of addresses', this.#host.run(['ipset', 'save'], { signal }));
    return new Map([...parseSets(stdout)].filter(([name]) => name.startsWith(this.#prefix)));
  }
}
