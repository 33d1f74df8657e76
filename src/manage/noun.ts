import type { RequestContext } from '../common/context.ts';
import type { NovaDb } from '../common/db/connect.ts';
import { InvalidInput } from '../common/errors.ts';
import type { Flags } from '../common/flags.ts';
import type { RpcBus } from '../common/rpc/bus.ts';

/**
 * `nova-manage <noun> <verb> [arguments]`. A file of this folder exports one Noun, and nouns.ts names it:
 *
 *   export const roleCommands: Noun = {
 *     name: 'role',
 *     summary: 'What a user may do',
 *     verbs: {
 *       add: verb({
 *         summary: 'Give a role to a user, in one project or everywhere',
 *         args: { user: text('Name of the user'), role: text('Name of the role'), project: optional(text('Name of the project')) },
 *         run: async (m, { user, role, project }) => { ... m.out(`...`); },
 *       }),
 *     },
 *   };
 */

/** What a verb works with. */
export interface Manage {
  readonly flags: Flags;
  /** Schema checked (and made, for a new SQLite file) unless the verb says otherwise. */
  readonly db: NovaDb;
  /** The operator: an administrator of no project. */
  readonly ctx: RequestContext;
  /** Connected at the first call; closed for the verb. Casts need none: their worker finds the job in the table. */
  bus(): Promise<RpcBus>;
  /** One line (or several) for standard output. */
  out(line: string): void;
  /** One line (or several) for standard error. */
  warn(line: string): void;
}

export interface Arg<T> {
  readonly help: string;
  /** `place`: by its place or as --name=VALUE. `named`: as --name=VALUE only. `switch`: --name or --no-name. */
  readonly how: 'place' | 'named' | 'switch';
  readonly required: boolean;
  /** Names that other releases of Nova had for it, as --name=VALUE. */
  readonly also?: readonly string[];
  /** What it is when left out. */
  readonly absent: T;
  /** @throws InvalidInput, in words that follow `name: ` */
  parse(text: string): T;
}
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- arguments of any type, each parsed by its own rule
export type Args = Readonly<Record<string, Arg<any>>>;
export type ArgValues<A extends Args> = { readonly [K in keyof A]: A[K] extends Arg<infer T> ? T : never };

export interface Verb {
  /** One line, without a full stop. */
  readonly summary: string;
  /** More, for --help. */
  readonly details?: string;
  /** In the order of their places. */
  readonly args: Args;
  /** False for a verb that works with a database of any schema version, or with none. */
  readonly needs_schema: boolean;
  /** True for a verb that may be a cloud's first: where there is no SQLite file yet it makes one, or needs none. */
  readonly may_be_first: boolean;
  /** @returns the exit code where it is another than 0 */
  run(m: Manage, args: Readonly<Record<string, unknown>>): Promise<number | void>;
}

export interface Noun {
  readonly name: string;
  readonly summary: string;
  readonly verbs: Readonly<Record<string, Verb>>;
  /** What the noun does without a verb: `nova-manage explain i-0000000a`. */
  readonly itself?: Verb;
}

/** Declares a verb, so that `run` knows its arguments' types. */
export function verb<A extends Args>(declared: {
  summary: string;
  details?: string;
  args?: A;
  needs_schema?: boolean;
  may_be_first?: boolean;
  run(m: Manage, args: ArgValues<A>): Promise<number | void>;
}): Verb {
  const { run, args = {}, needs_schema = true, may_be_first = false, ...rest } = declared;
  return { ...rest, args, needs_schema, may_be_first, run: (m, values) => run(m, values as ArgValues<A>) };
}

const place = <T>(help: string, parse: (text: string) => T): Arg<T> => ({
  help,
  how: 'place',
  required: true,
  absent: undefined as T, // never seen: a required argument is there
  parse,
});

export const text = (help: string): Arg<string> => place(help, (given) => given);

export const integer = (help: string, bounds: { min?: number; max?: number } = {}): Arg<number> =>
  place(help, (given) => {
    const { min = 0, max = Number.MAX_SAFE_INTEGER } = bounds;
    const value = Number(given);
    if (!/^-?\d+$/.test(given) || value < min || value > max)
      throw new InvalidInput(`'${given}' is not a whole number from ${min} to ${max}`);
    return value;
  });

export const word = <W extends string>(help: string, words: readonly W[]): Arg<W> =>
  place(help, (given) => {
    const found = words.find((one) => one === given);
    if (found === undefined) throw new InvalidInput(`'${given}' is not one of ${words.join(', ')}`);
    return found;
  });

/** Nova's T and F, and the longer spellings. */
export const yesNo = (help: string): Arg<boolean> =>
  place(help, (given) => {
    if (/^(t|true|y|yes|1)$/i.test(given)) return true;
    if (/^(f|false|n|no|0)$/i.test(given)) return false;
    throw new InvalidInput(`'${given}' is not T or F`);
  });

/** The number of `i-0000000a` (with prefix `i`), or a decimal number. */
export const numberOf = (prefix: string, help: string): Arg<number> => place(help, (given) => parseId(prefix, given));

/** @throws InvalidInput */
export function parseId(prefix: string, given: string): number {
  const hex = new RegExp(`^${prefix}-([0-9a-f]{1,8})$`, 'i').exec(given)?.[1];
  const id = hex === undefined ? Number(/^\d{1,10}$/.test(given) ? given : NaN) : parseInt(hex, 16);
  if (!Number.isInteger(id)) throw new InvalidInput(`'${given}' is neither like ${prefix}-0000000a nor a number`);
  return id;
}

/** May be left out. */
export function optional<T>(arg: Arg<T>): Arg<T | undefined>;
export function optional<T>(arg: Arg<T>, absent: T): Arg<T>;
export function optional<T>(arg: Arg<T>, absent?: T): Arg<T | undefined> {
  return { ...arg, required: false, absent };
}

/** Has no place: --name=VALUE only. */
export const named = <T>(arg: Arg<T>): Arg<T> => ({ ...arg, how: 'named' });

/** Takes it by other names as well. */
export const alsoCalled = <T>(names: readonly string[], arg: Arg<T>): Arg<T> => ({
  ...arg,
  help: `${arg.help} (also ${names.map((name) => `--${name}`).join(', ')})`,
  also: names,
});

/** --name or --no-name; false when left out. */
export const onOff = (help: string): Arg<boolean> => ({
  ...yesNo(help),
  how: 'switch',
  required: false,
  absent: false,
});
