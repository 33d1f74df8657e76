import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { coreFlags, dbFlags, endpointFlags, nameFlags, rabbitFlags, serviceFlags } from './core_flags.ts';
import { errorText, FlagsError } from './errors.ts';
import { BadValue, convert, inForm } from './flags/convert.ts';
import type { FlagDef, FlagDefs, FlagValues, Kind } from './flags/define.ts';
import { FlagsExit } from './flags/exit.ts';
import { loadIndex, type FlagIndex } from './flags/flag_index.ts';
import { helpText, helpXml, type Value } from './flags/help.ts';
import { scan, type Asked, type Occurrence } from './flags/scan.ts';
import { shown } from './flags/secrets.ts';
import { substitute } from './flags/substitute.ts';

/** gflags semantics: flags are declared where they are read, with `defineFlags`, and read once, with `flags.read`. */
export { FlagsExit } from './flags/exit.ts';
export {
  boolean,
  computedString,
  defineFlags,
  enumeration,
  float,
  integer,
  list,
  multistring,
  string,
  type FlagDef,
  type FlagDefs,
  type FlagValues,
} from './flags/define.ts';

const CORE: FlagDefs = { ...coreFlags, ...dbFlags, ...endpointFlags, ...nameFlags, ...rabbitFlags, ...serviceFlags };

export interface LoadOptions {
  /** Name of the executable, e.g. `nova-compute`. */
  binary: string;
  /** Read when the command line names no flagfile; one that is missing is an error. For nova-dhcpbridge's FLAGFILE. */
  flagfile?: string | undefined;
  /** Otherwise the first of these that exists. Default: nova.conf beside the executable, here, and in /etc/nova. */
  default_flagfiles?: readonly string[];
  /** All flags of the suite; undefined: a flag that nobody knows cannot be told from one of another daemon. */
  index?: FlagIndex | undefined;
  env?: NodeJS.ProcessEnv;
  /** Takes a warning line; default standard error. */
  warn?: (line: string) => void;
}

/**
 * Reads a command line (without node and script) and the flagfiles it names. Values are checked when they are read.
 * @throws FlagsError, one line that names flag, value and where it stands; FlagsExit for --help and --version
 */
export function loadFlags(argv: readonly string[], options: LoadOptions): Flags {
  const index = 'index' in options ? options.index : loadIndex();
  const known: FlagDefs = { ...index?.flags, ...CORE };
  const scanned = scan(argv, {
    first: firstFlagfile(argv, options),
    kinds: new Map(Object.entries(known).map(([name, def]): [string, Kind] => [name, def.kind])),
    complete: index !== undefined,
    env: options.env ?? process.env,
    warn: options.warn ?? ((line) => process.stderr.write(`${line}\n`)),
  });
  const flags = Flags.parsed(scanned.occurrences, scanned.rest, known);
  if (scanned.asked) throw answer(scanned.asked, options.binary, index, (name) => flags.effective(name));
  if (scanned.unknown.length > 0) throw new FlagsError(scanned.unknown.join('; '));
  return flags;
}

/** Source: Nova 2011.3 nova/utils.py default_flagfile. */
function firstFlagfile(argv: readonly string[], options: LoadOptions): { path: string; source: string } | undefined {
  if (argv.some((item) => /^--?flagfile(=|$)/.test(item))) return undefined;
  if (options.flagfile !== undefined) return { path: options.flagfile, source: 'environment FLAGFILE' };
  const beside = join(dirname(process.argv[1] ?? '.'), 'nova.conf');
  const path = (options.default_flagfiles ?? [beside, 'nova.conf', '/etc/nova/nova.conf']).find((file) =>
    existsSync(file),
  );
  return path === undefined ? undefined : { path, source: 'default flagfile' };
}

function answer(asked: Asked, binary: string, index: FlagIndex | undefined, value: Value): FlagsExit {
  if (asked === 'version') {
    const file = new URL('../../../package.json', import.meta.url);
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
    return new FlagsExit(`${binary} ${version}\n`, 0);
  }
  if (index === undefined)
    return new FlagsExit(`USAGE: ${binary} [flags]\n\nThe list of flags is made by npm run build.\n`, 1);
  if (asked === 'helpxml') return new FlagsExit(helpXml(index, binary, value), 1);
  return new FlagsExit(helpText(index, binary, value, asked === 'helpshort'), 1); // gflags ends with 1 after help
}

/** A flag's effective value, and where it was set: `default`, `command line`, file:line. */
export interface Effective {
  value: unknown;
  source: string;
}

/** The flags a process was started with. */
export class Flags {
  /** What followed the flags on the command line. */
  readonly rest: readonly string[];
  readonly #occurrences: readonly Occurrence[];
  readonly #given: Readonly<Record<string, unknown>>;
  /** What `$name` may stand for: all flags known at the start, and those read since. */
  readonly #known: Record<string, FlagDef<unknown>>;

  private constructor(
    occurrences: readonly Occurrence[],
    rest: readonly string[],
    given: Readonly<Record<string, unknown>>,
    known: FlagDefs,
  ) {
    this.#occurrences = occurrences;
    this.rest = rest;
    this.#given = given;
    this.#known = { ...known };
  }

  /** For tests: these values, defaults for the rest. */
  static of(given: Record<string, unknown> = {}): Flags {
    return new Flags([], [], given, CORE);
  }
  static parsed(occurrences: readonly Occurrence[], rest: readonly string[], known: FlagDefs): Flags {
    return new Flags(occurrences, rest, {}, known);
  }

  /** The values of declared flags; it does not matter whether they were declared before or after the start. @throws FlagsError */
  read<D extends FlagDefs>(defs: D): FlagValues<D> {
    Object.assign(this.#known, defs);
    const values: Record<string, unknown> = {};
    for (const name of Object.keys(defs)) values[name] = this.effective(name).value;
    return values as FlagValues<D>;
  }

  /** Where a flag's value comes from, also when it cannot be used. */
  source(name: string): string {
    const given = Object.hasOwn(this.#given, name) && this.#given[name] !== undefined;
    return given ? 'given' : (this.#said(name, this.#definition(name)).at(-1)?.source ?? 'default');
  }

  /** What was set, other than to its default, and is a flag of Nova that no daemon reads: `--ajax_console_proxy_port (nova.conf:3)`. */
  idle(): string[] {
    return Object.entries(this.#known).flatMap(([name, def]) => {
      if (!('read' in def) || def.read !== false) return [];
      const last = this.#said(name, def).at(-1);
      return last === undefined || last.text === String(def.default ?? '') ? [] : [`--${name} (${last.source})`];
    });
  }

  /** The value of any flag known at the start, or read since. @throws FlagsError */
  effective(name: string): Effective {
    return this.#effective(name, [name]);
  }

  /** `trail`: the flags whose values led here, so that one which refers to itself is noticed. */
  #effective(name: string, trail: readonly string[]): Effective {
    const def = this.#definition(name);
    const given = Object.hasOwn(this.#given, name) ? this.#given[name] : undefined;
    const said = this.#said(name, def);
    const last = said.at(-1);
    const source = this.source(name);
    const raw = given !== undefined ? given : last === undefined ? def.default : last.text;
    try {
      if (raw === undefined) throw new BadValue(`needs a value, --${name}=...`);
      if (last !== undefined && def.kind === 'multistring')
        return { value: said.map(({ text }) => text ?? ''), source };
      const value = typeof raw === 'string' && source !== 'default' ? convert(def, raw) : raw;
      if (def.kind !== 'string' || typeof value !== 'string') return { value, source };
      return {
        value: inForm(
          def,
          substitute(value, (other) => this.#text(other, trail)),
        ),
        source,
      };
    } catch (err) {
      if (!(err instanceof BadValue)) throw err;
      const safe = shown(name, def, raw);
      // Of a secret not even the part after a dollar is shown.
      const why =
        typeof raw === 'string' && safe !== raw
          ? 'has a $ that begins no flag; a literal dollar is $$'
          : errorText(err);
      throw new FlagsError(`--${name}${raw === undefined ? '' : `=${safe}`}: ${why} (${source})`);
    }
  }

  #definition(name: string): FlagDef<unknown> {
    const def = Object.hasOwn(this.#known, name) ? this.#known[name] : undefined;
    if (def === undefined) throw new FlagsError(`--${name}: no such flag`);
    return def;
  }

  /** What `$name` stands for. */
  #text(name: string, trail: readonly string[]): string {
    if (trail.includes(name)) throw new BadValue(`refers to itself: $${[...trail.slice(1), name].join(', $')}`);
    if (!Object.hasOwn(this.#known, name)) throw new BadValue(`$${name} is not a known flag; a literal dollar is $$`);
    const { value } = this.#effective(name, [...trail, name]);
    if (value === null) throw new BadValue(`$${name} has no value`);
    return String(value);
  }

  /** Where a flag is mentioned, in order; --noname with its name unknown at the start counts as a false. */
  #said(name: string, def: FlagDef<unknown>): Occurrence[] {
    if (def.kind !== 'boolean') return this.#occurrences.filter((said) => said.name === name);
    return this.#occurrences.flatMap((said) => {
      if (said.name === name) return [{ ...said, text: said.text ?? 'true' }];
      return said.name === `no${name}` && said.text === undefined ? [{ ...said, text: 'false' }] : [];
    });
  }
}
