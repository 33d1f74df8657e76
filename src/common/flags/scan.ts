import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { errorText, FlagsError } from '../errors.ts';
import type { Kind } from './define.ts';
import { abbreviations, nearest } from './nearest.ts';

/**
 * Reads a command line and its flagfiles into occurrences, in order: a flagfile expands where it is named, so the last
 * word wins whoever says it. Values stay text: what they mean is decided when a flag is read, which may be later.
 * Source: Nova 2011.2 nova/flags.py over python-gflags. yargs' parser does not fit: it loses the order between flags
 * and where each came from, strips quotes, and takes --node_availability_zone for "no" de_availability_zone.
 */
export interface Occurrence {
  name: string;
  /** Undefined when the flag stood alone and its kind is unknown. */
  text: string | undefined;
  /** `command line`, `environment FLAGS_name`, or file:line. */
  source: string;
}
export type Asked = 'help' | 'helpshort' | 'helpxml' | 'version';
export interface Scan {
  occurrences: Occurrence[];
  /** What follows the first item that is no flag, or `--`. */
  rest: string[];
  asked: Asked | undefined;
  /** One line per flag that no daemon knows, except those allowed by --undefok. */
  unknown: string[];
}
export interface ScanOptions {
  /** A flagfile read before the command line, and who named it. */
  first?: { path: string; source: string } | undefined;
  kinds: ReadonlyMap<string, Kind>;
  /** Whether `kinds` holds every flag of the suite, so that one outside it is misspelt. */
  complete: boolean;
  env: NodeJS.ProcessEnv;
  warn: (line: string) => void;
}

/** The parser's own flags. */
const OWN: [string, Kind][] = [
  ['flagfile', 'string'],
  ['undefok', 'string'],
  ['fromenv', 'string'],
  ['tryfromenv', 'string'],
  ['help', 'boolean'],
  ['helpshort', 'boolean'],
  ['helpxml', 'boolean'],
  ['version', 'boolean'],
];
const HELP_SHORT_NAMES = new Set(['h', '?']);
const isFlag = (item: string): boolean => item.startsWith('-') && item.length > 1;

/** @throws FlagsError for what is no flag of any meaning; unknown names are left in `unknown` for the caller to judge */
export function scan(argv: readonly string[], options: ScanOptions): Scan {
  const scanner = new Scanner(options);
  if (options.first) scanner.flagfile(options.first.path, options.first.source);
  scanner.commandLine(argv);
  return scanner.result();
}

interface Named {
  name: string;
  kind: Kind | undefined;
  text: string | undefined;
}

class Scanner {
  readonly #options: ScanOptions;
  readonly #kinds: Map<string, Kind>;
  readonly #occurrences: Occurrence[] = [];
  readonly #unknown: { name: string; line: string }[] = [];
  readonly #undefok = new Set<string>();
  #rest: string[] = [];
  #asked: Asked | undefined;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#kinds = new Map([...options.kinds, ...OWN]);
  }

  result(): Scan {
    const unknown = this.#unknown.filter(({ name }) => !this.#undefok.has(name)).map(({ line }) => line);
    return { occurrences: this.#occurrences, rest: this.#rest, asked: this.#asked, unknown };
  }

  commandLine(argv: readonly string[]): void {
    for (let i = 0; i < argv.length; i++) {
      const item = argv[i] as string;
      if (item === '--' || !isFlag(item)) {
        this.#rest = argv.slice(item === '--' ? i + 1 : i);
        return;
      }
      const flag = this.#named(item, 'command line');
      if (flag === undefined) continue;
      if (flag.text === undefined && flag.kind !== undefined) flag.text = argv[++i];
      this.#take(flag, 'command line', []);
    }
  }

  /** One line is one item, after trimming. */
  flagfile(path: string, source: string, open: readonly string[] = []): void {
    if (open.includes(path)) {
      this.#options.warn(`Warning: Hit circular flagfile dependency: ${path} (${source})`);
      return;
    }
    const lines = readLines(path, source);
    for (const [i, line] of lines.entries()) {
      const item = line.trim();
      if (item === '' || item.startsWith('#') || item.startsWith('//')) continue;
      const here = `${path}:${i + 1}`;
      if (item === '--' || !isFlag(item)) throw new FlagsError(`${item}: not a flag, which begins with -- (${here})`);
      const space = /^(--?\w+)\s+(.*)$/.exec(item);
      if (space) throw new FlagsError(`${item}: in a flagfile write ${space[1]}=${space[2]} (${here})`);
      const flag = this.#named(item, here);
      if (flag) this.#take(flag, here, [...open, path]);
    }
  }

  /** The flag that an item means, with an abbreviation spelt out and --noname turned into a false; undefined if unknown. */
  #named(item: string, source: string): Named | undefined {
    const [, written, text] = /^--?([^=]*)(?:=(.*))?$/s.exec(item) as unknown as [string, string, string | undefined];
    let name = HELP_SHORT_NAMES.has(written) ? 'help' : written;
    if (!this.#isName(name)) {
      const meant = this.#options.complete ? abbreviations(name, this.#kinds) : [];
      if (meant.length !== 1) return this.#unknownFlag(written, text, meant, source);
      name = meant[0] as string;
    }
    const kind = this.#kinds.get(name);
    if (kind === undefined) {
      if (text !== undefined) throw new FlagsError(`--${name}=${text}: --${name} takes no value (${source})`);
      return { name: name.slice(2), kind: 'boolean', text: 'false' };
    }
    return { name, kind, text: kind === 'boolean' ? (text ?? 'true') : text };
  }

  /** Known as it stands, or a known boolean with `no` before it. */
  #isName(name: string): boolean {
    return this.#kinds.has(name) || (name.startsWith('no') && this.#kinds.get(name.slice(2)) === 'boolean');
  }

  #unknownFlag(name: string, text: string | undefined, meant: string[], source: string): Named | undefined {
    if (!this.#options.complete) return { name, kind: undefined, text };
    const names = (list: readonly string[]) => list.map((known) => `--${known}`).join(', ');
    const why =
      meant.length > 1 ? `ambiguous: ${names(meant)}` : `nearest known: --${nearest(name, this.#kinds.keys())}`;
    this.#unknown.push({ name, line: `unknown flag --${name} (${source}); ${why}` });
    return undefined;
  }

  #take({ name, kind, text }: Named, source: string, open: readonly string[]): void {
    if (text === undefined && kind !== undefined)
      throw new FlagsError(`--${name}: needs a value, --${name}=... (${source})`);
    switch (name) {
      case 'flagfile':
        return this.flagfile((text as string).replace(/^~(?=\/|$)/, homedir()), source, open);
      case 'undefok':
        for (const allowed of words(text)) this.#undefok.add(allowed).add(`no${allowed}`);
        return;
      case 'fromenv':
      case 'tryfromenv':
        for (const wanted of words(text)) this.#fromEnvironment(wanted, name === 'fromenv', source);
        return;
      case 'help':
      case 'helpshort':
      case 'helpxml':
      case 'version':
        this.#asked ??= name;
        return;
      default:
        this.#occurrences.push({ name, text, source });
    }
  }

  #fromEnvironment(name: string, required: boolean, source: string): void {
    const text = this.#options.env[`FLAGS_${name}`];
    if (text === undefined) {
      if (required) throw new FlagsError(`--fromenv=${name}: FLAGS_${name} is not in the environment (${source})`);
      return;
    }
    const from = `environment FLAGS_${name}`;
    const flag = this.#named(`--${name}=${text}`, from);
    if (flag) this.#take(flag, from, []);
  }
}

const words = (text: string | undefined): string[] =>
  (text ?? '')
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');

const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'this user may not',
};

function readLines(path: string, source: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch (err) {
    const why = UNREADABLE[String((err as NodeJS.ErrnoException).code)] ?? errorText(err);
    throw new FlagsError(`--flagfile=${path}: cannot be read: ${why} (${source})`, { cause: err });
  }
}
