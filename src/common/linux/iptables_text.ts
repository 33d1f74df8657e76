import { isDeepStrictEqual } from 'node:util';
import type { Difference } from '../difference.ts';

/**
 * From what `iptables-save -t TABLE` says and what we want, the text for one `iptables-restore --noflush`.
 *
 * Three kinds of chain:
 *   own      `B-PREROUTING`, ...: ours alone (B is the binary's name). Emptied and filled anew, in the one atomic restore.
 *   shared   `nova-filter-top`, `nova-postrouting-bottom`: of all nova daemons. Never emptied; our jump is put in once.
 *   built-in `FORWARD`, ...: the host's. Only our jumps are touched; other people's rules and chains stay as they are.
 *
 * Nothing is written when the table already is as wanted, so counters live on and applying twice changes nothing.
 * Rules are kept in iptables-save's own spelling (`-d 10.0.0.1/32`, `-p tcp -m tcp`), which is what makes them comparable.
 */
export interface WantedTable {
  table: 'filter' | 'nat' | 'mangle';
  /** Own chains, without the binary's name, and their rules without `-A CHAIN`. `$NAME` in a rule is our chain NAME. */
  chains: Record<string, readonly string[]>;
  /** Chains that all nova daemons share, by full name, and our rules in them. */
  shared: Record<string, readonly string[]>;
  /** Our rules at the head of the built-in chains. */
  builtin: Record<string, HeadRule[]>;
}

/** The rules of one daemon on one host: the tables in the order in which they are applied. */
export interface Tables {
  v4: WantedTable[];
  v6: WantedTable[];
  /** Of ebtables: what bridges do with frames. */
  frames?: WantedTable[];
}

export interface HeadRule {
  rule: string;
  /**
   * `first`: before every other rule. `any`: somewhere. `last`: after the jumps of every nova daemon
   * (`after` matches them).
   */
  place: 'first' | 'any' | 'last';
  after?: RegExp;
}

/** What there is: each chain's rules in order, without `-A CHAIN`. */
export type TableRules = Map<string, string[]>;

/** Reads `iptables-save -t TABLE`. */
export function parseSave(text: string): TableRules {
  const chains: TableRules = new Map();
  for (const line of text.split('\n')) {
    const chain = /^:(\S+) /.exec(line)?.[1];
    if (chain !== undefined) chains.set(chain, chains.get(chain) ?? []);
    const [, of, rule] = /^(?:\[\d+:\d+\] )?-A (\S+) (.*)$/.exec(line) ?? [];
    if (of === undefined || rule === undefined) continue;
    const rules = chains.get(of) ?? [];
    chains.set(of, rules);
    rules.push(rule.trim());
  }
  return chains;
}

/** @returns the text for iptables-restore, or null when there is nothing to do */
export function restoreText(current: TableRules, binary: string, wanted: WantedTable): string | null {
  const own = ownChains(binary, wanted);
  const stale = [...current.keys()].filter((chain) => chain.startsWith(`${binary}-`) && !own.has(chain));
  const { declared, lines } = fill(current, own);

  for (const [chain, rules] of Object.entries(wanted.shared)) {
    if (!current.has(chain)) declared.push(`:${chain} - [0:0]`);
    lines.push(...putInOnce(chain, current.get(chain) ?? [], inOwnNames(binary, rules)));
  }
  for (const [chain, rules] of Object.entries(wanted.builtin)) {
    const head = rules.map((one) => ({ ...one, rule: inOwnName(binary, one.rule) }));
    lines.push(...headLines(chain, current.get(chain) ?? [], head));
  }
  const rest = new Map([...current].filter(([chain]) => !own.has(chain))); // own chains are right by now
  lines.push(...removeChains(rest, stale));
  if (declared.length === 0 && lines.length === 0) return null;
  return [`*${wanted.table}`, ...declared, ...lines, 'COMMIT', ''].join('\n');
}

/**
 * From a table as it was brought about to the wanted one without a look at the host, as far as only rules in chains of our
 * own change: nobody else writes those, and the jumps to them stay as they are.
 * @returns the text for iptables-restore, null when nothing changes, or undefined when the host must be looked at
 */
export function refillText(before: WantedTable, binary: string, wanted: WantedTable): string | null | undefined {
  const around = ({ chains, ...rest }: WantedTable) => ({ ...rest, names: Object.keys(chains) });
  if (!isDeepStrictEqual(around(before), around(wanted))) return undefined;
  const changed = (name: string, rules: readonly string[]) => !sameRules(before.chains[name], rules);
  const chains = Object.fromEntries(Object.entries(wanted.chains).filter(([name, rules]) => changed(name, rules)));
  const { declared, lines } = fill(new Map(), ownChains(binary, { ...wanted, chains }));
  return declared.length === 0 ? null : [`*${wanted.table}`, ...declared, ...lines, 'COMMIT', ''].join('\n');
}

/** Empties and fills those of our own chains whose rules are others. */
function fill(current: TableRules, own: Map<string, string[]>): { declared: string[]; lines: string[] } {
  const declared: string[] = [];
  const lines: string[] = [];
  for (const [chain, rules] of own) {
    if (sameRules(current.get(chain), rules)) continue;
    declared.push(`:${chain} - [0:0]`); // declaring a chain that exists empties it
    lines.push(...rules.map((rule) => `-A ${chain} ${rule}`));
  }
  return { declared, lines };
}

/**
 * Takes away all that `binary` has in a table; a shared chain goes with the last daemon that used it.
 * @returns the text for iptables-restore, or null when nothing of ours is there
 */
export function removalText(
  current: TableRules,
  binary: string,
  wanted: Pick<WantedTable, 'table' | 'shared'>,
): string | null {
  const ours = [...current.keys()].filter((chain) => chain.startsWith(`${binary}-`));
  const emptied = Object.keys(wanted.shared).filter((chain) =>
    current.get(chain)?.every((rule) => ours.some((own) => jumpsTo(rule, own))),
  );
  const lines = removeChains(current, [...ours, ...emptied]);
  return lines.length === 0 ? null : [`*${wanted.table}`, ...lines, 'COMMIT', ''].join('\n');
}

/**
 * Whether a restore took: every own chain holds as many rules as were asked for and our jumps are in place. Not a
 * comparison of text, since another version of iptables may spell a rule differently.
 * @returns what is missing, or null
 */
export function whatIsMissing(current: TableRules, binary: string, wanted: WantedTable): string | null {
  for (const [chain, rules] of ownChains(binary, wanted)) {
    const found = current.get(chain)?.length;
    if (found !== rules.length)
      return `chain ${chain} has ${found ?? 'not been made'}${found === undefined ? '' : ` of ${rules.length} rules`}`;
  }
  const fixed = { ...wanted, chains: {} };
  const rest = restoreText(new Map([...current].filter(([chain]) => !chain.startsWith(`${binary}-`))), binary, fixed);
  return rest === null ? null : `in table ${wanted.table} still to do: ${rest.split('\n').slice(1, -2).join('; ')}`;
}

/**
 * The same comparison as restoreText, in words: nothing where that has nothing to do.
 * @param name of the table for an operator, `iptables table nat`
 */
export function tableDifferences(name: string, current: TableRules, binary: string, wanted: WantedTable): Difference[] {
  if (restoreText(current, binary, wanted) === null) return [];
  const own = ownChains(binary, wanted);
  const found = [...own].flatMap(([chain, rules]) =>
    chainDifferences(`${name} chain ${chain}`, current.get(chain), rules),
  );
  for (const [chain, rules] of current)
    if (chain.startsWith(`${binary}-`) && !own.has(chain))
      found.push({
        what: `${name} chain ${chain}`,
        expected: 'no such chain, since what it was for is gone',
        found: `a chain of ${rules.length} rules`,
        repair: 'removes it and the jumps to it',
      });
  for (const [chain, rules] of Object.entries(wanted.shared))
    for (const rule of inOwnNames(binary, rules))
      found.push(...onceDifferences(`${name} chain ${chain}`, current.get(chain) ?? [], rule));
  for (const [chain, rules] of Object.entries(wanted.builtin)) {
    const head = rules.map((one) => ({ ...one, rule: inOwnName(binary, one.rule) }));
    const have = current.get(chain) ?? [];
    if (headIsRight(have, head)) continue;
    const what = `${name} chain ${chain}`;
    const once = head.flatMap(({ rule }) => onceDifferences(what, have, rule));
    const moved = { what, expected: head.map(({ rule }) => rule).join(', then '), found: 'them in other places', repair: 'puts them in order' }; // prettier-ignore
    found.push(...(once.length > 0 ? once : [moved]));
  }
  return found;
}

function chainDifferences(what: string, have: readonly string[] | undefined, want: readonly string[]): Difference[] {
  if (have === undefined)
    return [{ what, expected: `a chain of ${want.length} rules`, found: 'no such chain', repair: 'makes it' }];
  if (sameRules(have, want)) return [];
  const missing = want.filter((rule) => !have.includes(rule));
  const extra = have.filter((rule) => !want.includes(rule));
  if (missing.length + extra.length === 0)
    return [
      { what, expected: `${want.length} rules`, found: 'them in another order, or twice', repair: 'fills it anew' },
    ];
  return [
    ...missing.map((rule) => ({ what, expected: rule, found: 'no such rule', repair: 'adds it' })),
    ...extra.map((rule) => ({ what, expected: 'no such rule', found: rule, repair: 'takes it away' })),
  ];
}

function onceDifferences(what: string, have: readonly string[], rule: string): Difference[] {
  const times = have.filter((one) => one === rule).length;
  if (times === 1) return [];
  const found = times === 0 ? 'no such rule' : `it ${times} times`;
  return [{ what, expected: `${rule} once`, found, repair: times === 0 ? 'adds it' : 'takes the others away' }];
}

function ownChains(binary: string, wanted: WantedTable): Map<string, string[]> {
  // Nova dropped doubled rules too: two networks on one bridge ask for the same ones
  return new Map(
    Object.entries(wanted.chains).map(([name, rules]) => [
      `${binary}-${name}`,
      [...new Set(inOwnNames(binary, rules))],
    ]),
  );
}

const inOwnNames = (binary: string, rules: readonly string[]): string[] => rules.map((rule) => inOwnName(binary, rule));

const inOwnName = (binary: string, rule: string): string =>
  rule.replace(/\$([\w-]+)/g, (_all, name: string) => `${binary}-${name}`);

const sameRules = (have: readonly string[] | undefined, want: readonly string[]): boolean =>
  have !== undefined && have.length === want.length && have.every((rule, i) => rule === want[i]);

/** Our rules in a shared chain: added where missing, doubles taken out. */
function putInOnce(chain: string, have: readonly string[], want: readonly string[]): string[] {
  return want.flatMap((rule) => {
    const times = have.filter((one) => one === rule).length;
    if (times === 0) return [`-A ${chain} ${rule}`];
    return Array.from({ length: times - 1 }, () => `-D ${chain} ${rule}`);
  });
}

/** Leaves a chain alone whose head is right; else takes our rules out and puts them in again at their places. */
function headLines(chain: string, have: readonly string[], want: readonly HeadRule[]): string[] {
  if (headIsRight(have, want)) return [];
  const ours = new Set(want.map((one) => one.rule));
  const foreign = have.filter((rule) => !ours.has(rule));
  const removed = have.filter((rule) => ours.has(rule)).map((rule) => `-D ${chain} ${rule}`);
  const head = want.filter((one) => one.place !== 'last');
  const last = want.filter((one) => one.place === 'last');
  const lastSeen = (after: RegExp | undefined) => (after ? foreign.findLastIndex((rule) => after.test(rule)) + 1 : 0);
  return [
    ...removed,
    ...head.map((one, i) => `-I ${chain} ${i + 1} ${one.rule}`),
    ...last.map((one, i) => `-I ${chain} ${head.length + lastSeen(one.after) + i + 1} ${one.rule}`),
  ];
}

function headIsRight(have: readonly string[], want: readonly HeadRule[]): boolean {
  return want.every(({ rule, place, after }) => {
    const at = have.indexOf(rule);
    if (at < 0 || have.lastIndexOf(rule) !== at) return false;
    if (place === 'first') return at === 0;
    if (place === 'any') return true;
    return have.findLastIndex((one) => want.some((w) => w.place !== 'last' && w.rule === one) || after?.test(one)) < at;
  });
}

/** Takes chains away: first every jump to them from chains that stay, then their rules, then they themselves. */
function removeChains(current: TableRules, gone: readonly string[]): string[] {
  const going = new Set(gone.filter((chain) => current.has(chain)));
  const jumps = [...current].flatMap(([chain, rules]) =>
    going.has(chain)
      ? []
      : rules.filter((rule) => [...going].some((to) => jumpsTo(rule, to))).map((rule) => `-D ${chain} ${rule}`),
  );
  return [...jumps, ...[...going].map((chain) => `-F ${chain}`), ...[...going].map((chain) => `-X ${chain}`)];
}

/** Whole words: removing `inst-1` must not take the jumps to `inst-10` along, as Nova's substring match did. */
const jumpsTo = (rule: string, chain: string): boolean => {
  const words = rule.split(/\s+/);
  return words.some((word, i) => (word === '-j' || word === '-g') && words[i + 1] === chain);
};
