/** Declaring a flag: kind, default, help. What a text must look like to be a value of each kind is in convert.ts. */
export type Kind = 'string' | 'boolean' | 'integer' | 'float' | 'list' | 'multistring' | 'enum';

export interface FlagDef<T> {
  readonly kind: Kind;
  readonly default: T;
  readonly help: string;
  readonly min?: number;
  readonly max?: number;
  readonly words?: readonly string[];
  /** A string is made of these, once its $flags stand for their values: a regular expression of the whole, and the same in words. */
  readonly form?: { readonly pattern: string; readonly says: string };
  /** Says what a default is that depends on the machine, e.g. `the host name`. */
  readonly computed?: string;
}
export type FlagDefs = Readonly<Record<string, FlagDef<unknown>>>;
export type FlagValues<D extends FlagDefs> = { readonly [K in keyof D]: D[K] extends FlagDef<infer T> ? T : never };

interface Bounds {
  min?: number;
  max?: number;
}

type Form = Pick<FlagDef<string>, 'form'>;

export function string(value: string, help: string, form?: Form): FlagDef<string>;
export function string(value: null, help: string, form?: Form): FlagDef<string | null>;
export function string(value: string | null, help: string, form: Form = {}): FlagDef<string | null> {
  return { kind: 'string', default: value, help, ...form };
}
export const boolean = (value: boolean, help: string): FlagDef<boolean> => ({ kind: 'boolean', default: value, help });
export const integer = (value: number, help: string, bounds: Bounds = {}): FlagDef<number> => ({
  kind: 'integer',
  default: value,
  help,
  ...bounds,
});
export const float = (value: number, help: string, bounds: Bounds = {}): FlagDef<number> => ({
  kind: 'float',
  default: value,
  help,
  ...bounds,
});
export const list = (value: string[], help: string): FlagDef<string[]> => ({ kind: 'list', default: value, help });
export const multistring = (value: string[], help: string): FlagDef<string[]> => ({
  kind: 'multistring',
  default: value,
  help,
});
export const enumeration = <W extends string>(value: W, words: readonly W[], help: string): FlagDef<W> => ({
  kind: 'enum',
  default: value,
  help,
  words,
});

/** A string flag whose default depends on the machine; `computed` says how, for --help. Worked out at each read. */
export const computedString = (
  computed: string,
  value: () => string,
  help: string,
  form: Form = {},
): FlagDef<string> => ({
  kind: 'string',
  help,
  computed,
  ...form,
  get default() {
    return value();
  },
});

const BRAND = Symbol.for('nova.flags');

/** Declares flags. Export the result, else the index of all flags (scripts/flag_index.ts) cannot see them. */
export function defineFlags<D extends FlagDefs>(defs: D): D {
  return Object.defineProperty(defs, BRAND, { value: true });
}

/** Whether a module's export is a group of flags. */
export const isFlagDefs = (value: unknown): value is FlagDefs =>
  typeof value === 'object' && value !== null && BRAND in value;
