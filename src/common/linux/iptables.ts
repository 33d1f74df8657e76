import type { Difference } from '../difference.ts';
import { BackendUnavailable, Conflict } from '../errors.ts';
import {
  parseSave,
  refillText,
  removalText,
  restoreText,
  tableDifferences,
  whatIsMissing,
  type TableRules,
  type Tables,
  type WantedTable,
} from './iptables_text.ts';
import { needing, Turns, type Host } from './host.ts';

type Layer = keyof Tables;
const LAYERS = ['v4', 'v6', 'frames'] as const;
const COMMAND = { v4: 'iptables', v6: 'ip6tables', frames: 'ebtables' } as const;
const OPTIONS = { v4: ['--noflush', '-w', '10'], v6: ['--noflush', '-w', '10'], frames: ['--noflush'] } as const;
const ATTEMPTS = 5;

/**
 * Brings a host's tables to what was computed: read, compare, one restore, read again. Another daemon or tool may change
 * the table in between; the restore is then refused whole (a rule that it deletes is gone) or leaves a doubled jump, and
 * the second reading finds it, so we begin again. Commands of this process run one at a time.
 */
export class Iptables {
  readonly #host: Host;
  readonly #binary: string;
  readonly #no_v6: readonly WantedTable[];
  readonly #turns = new Turns();
  /** Whether what an earlier process had of IPv6 was taken away. */
  #v6_is_gone = false;
  /** @param no_v6 tables of IPv6 that may hold rules of ours from when it was on, and should not any more */
  constructor(host: Host, binary: string, no_v6: readonly WantedTable[] = []) {
    this.#host = host;
    this.#binary = binary;
    this.#no_v6 = no_v6;
  }

  /**
   * @param before what this process brought about and trusts to be there still: chains of ours whose rules alone change are
   *   then filled without reading the table, which on a host of many rules is most of the time
   * @throws BackendUnavailable when the rules are not there afterwards, with the first that is missing
   */
  apply(tables: Tables, signal: AbortSignal, before?: Tables): Promise<void> {
    return this.#turns.take(async () => {
      for (const layer of LAYERS)
        for (const wanted of tables[layer] ?? []) {
          const former = before?.[layer]?.find(({ table }) => table === wanted.table);
          if (former && (await this.#refill(layer, former, wanted, signal))) continue;
          await this.#bring(layer, wanted, signal);
        }
      if (this.#v6_is_gone) return;
      for (const former of await this.#withOurs('v6', this.#no_v6, signal)) await this.#clear('v6', former, signal);
      this.#v6_is_gone = true;
    });
  }

  /** @returns whether that was all there is to do */
  async #refill(layer: Layer, before: WantedTable, wanted: WantedTable, signal: AbortSignal): Promise<boolean> {
    const text = refillText(before, this.#binary, wanted);
    if (typeof text !== 'string') return text === null;
    return (await this.#restore(layer, text, signal)) === null;
  }

  async #bring(layer: Layer, wanted: WantedTable, signal: AbortSignal): Promise<void> {
    let missing = '';
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const text = restoreText(await this.#read(layer, wanted.table, signal), this.#binary, wanted);
      if (text === null) return;
      const refused = await this.#restore(layer, text, signal);
      const after = await this.#read(layer, wanted.table, signal);
      const still = whatIsMissing(after, this.#binary, wanted);
      if (refused === null && still === null) return;
      missing = refused ?? still ?? '';
    }
    throw new BackendUnavailable(
      `${COMMAND[layer]} table ${wanted.table} is not as wanted after ${ATTEMPTS} attempts: ${missing}. ` +
        'Another program may be rewriting it, or the kernel lacks a match or target that the rules use',
    );
  }

  /** What `apply` would change. */
  look(tables: Tables, signal: AbortSignal): Promise<Difference[]> {
    return this.#turns.take(async () => {
      const found: Difference[] = [];
      for (const layer of LAYERS)
        for (const wanted of tables[layer] ?? []) {
          const name = `${COMMAND[layer]} table ${wanted.table}`;
          found.push(...tableDifferences(name, await this.#read(layer, wanted.table, signal), this.#binary, wanted));
        }
      for (const { table } of await this.#withOurs('v6', this.#no_v6, signal)) {
        const nothing = { table, chains: {}, shared: {}, builtin: {} };
        const there = await this.#read('v6', table, signal);
        found.push(...tableDifferences(`${COMMAND.v6} table ${table}`, there, this.#binary, nothing));
      }
      return found;
    });
  }

  /** The rules of one of our chains (without our name) as the host has them; none when it has no such chain. */
  async rules(layer: Layer, table: WantedTable['table'], chain: string, signal: AbortSignal): Promise<string[]> {
    const found = await this.#turns.take(() => this.#read(layer, table, signal));
    return found.get(`${this.#binary}-${chain}`) ?? [];
  }

  /** Takes all of this daemon's rules and chains away. */
  remove(tables: Tables, signal: AbortSignal): Promise<void> {
    return this.#turns.take(async () => {
      for (const layer of LAYERS)
        for (const wanted of await this.#withOurs(layer, tables[layer] ?? [], signal))
          await this.#clear(layer, wanted, signal);
    });
  }

  async #clear(layer: Layer, wanted: WantedTable, signal: AbortSignal): Promise<void> {
    let refused: string | null = null;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const text = removalText(await this.#read(layer, wanted.table, signal), this.#binary, wanted);
      if (text === null) return;
      refused = await this.#restore(layer, text, signal);
      if (refused === null) return;
    }
    throw new Conflict(
      `${COMMAND[layer]} table ${wanted.table}: rules not removed in ${ATTEMPTS} attempts: ${refused}`,
    );
  }

  /** Those of these tables that have chains of ours; none where the host has no such layer. */
  async #withOurs(layer: Layer, tables: readonly WantedTable[], signal: AbortSignal): Promise<readonly WantedTable[]> {
    if (layer !== 'v6' || tables.length === 0) return tables;
    const save = `${COMMAND[layer]}-save`;
    const program = await this.#host.run(['sh', '-c', 'command -v "$0"', save], { ok: [0, 1, 127], signal });
    if (program.exit_code !== 0) return [];
    // Asked for one table, a kernel without IPv6 refuses, and another makes it.
    const { stdout } = await needing('reading the tables of IPv6', this.#host.run([save], { ok: [0, 1, 3], signal }));
    const ours = new Set(
      stdout.split(/^\*/m).flatMap((text) => (text.includes(`\n:${this.#binary}-`) ? [/^\w+/.exec(text)?.[0]] : [])),
    );
    return tables.filter(({ table }) => ours.has(table));
  }

  async #read(layer: Layer, table: string, signal: AbortSignal): Promise<TableRules> {
    const command = `${COMMAND[layer]}-save`;
    const { stdout } = await needing(`reading table ${table}`, this.#host.run([command, '-t', table], { signal }));
    return parseSave(stdout);
  }

  /** @returns what iptables said when it refused the text, of which then nothing is in force */
  async #restore(layer: Layer, text: string, signal: AbortSignal): Promise<string | null> {
    const argv = [`${COMMAND[layer]}-restore`, ...OPTIONS[layer]];
    // ebtables knows no counters there, and the policy of every chain.
    const input = layer === 'frames' ? text.replace(/^(:\S+) - \[0:0\]$/gm, '$1 RETURN') : text;
    const { exit_code, stderr } = await this.#host.run(argv, { input, ok: [0, 1, 2, 3, 4], signal });
    if (exit_code === 0) return null;
    const line = /line (\d+)|: (\d+) failed/i
      .exec(stderr)
      ?.slice(1)
      .find((n) => n !== undefined);
    const culprit = line === undefined ? '' : ` (${text.split('\n')[Number(line) - 1] ?? ''})`;
    return `${stderr.trim()}${culprit}`;
  }
}
