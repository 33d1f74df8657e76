import { Parser } from 'yargs/helpers';
import { errorText, InvalidInput } from '../common/errors.ts';
import type { Arg, Args } from './noun.ts';

/** The command line does not fit the verb; the command ends with 2. */
export class UsageError extends InvalidInput {}

/** `--help` or `-h` stands among the words. */
export class HelpAsked {}

/** Words stay as they were written: numbers are not read, dots and dashes split nothing, `--secret -x` is a secret of -x. */
const VERBATIM = {
  'camel-case-expansion': false,
  'dot-notation': false,
  'nargs-eats-options': true,
  'parse-numbers': false,
  'strip-aliased': true,
};

/**
 * The words after the verb as its arguments: `--name=VALUE` or `--name VALUE` for any of them, `--name` and `--no-name`
 * for a switch, the other words by their place. A name may be shortened, and have - for _. A word that begins with - goes
 * by its place when it is a number, - alone, or stands behind --. An empty word for an argument that may be left out
 * leaves it out. @throws UsageError, HelpAsked
 */
export function parseArguments(args: Args, words: readonly string[]): Record<string, unknown> {
  const names = Object.keys(args);
  const switches = ['help', ...names.filter((name) => args[name]?.how === 'switch')];
  const values = names.filter((name) => args[name]?.how !== 'switch');
  const { argv, error } = Parser.detailed([...words], {
    alias: spellings([...names, 'help'], args),
    boolean: switches,
    string: values,
    narg: Object.fromEntries([...switches.map((name) => [name, 0]), ...values.map((name) => [name, 1])]),
    configuration: VERBATIM,
  });
  const { _: placed, ...given } = argv as { _: string[]; [name: string]: unknown };
  if (given['help'] !== undefined) throw new HelpAsked();
  for (const [name, value] of Object.entries(given)) {
    if (!names.includes(name)) throw unknownName(names, name);
    if (Array.isArray(value)) throw new UsageError(`--${name} is given twice`);
    if (values.includes(name) && typeof value !== 'string')
      throw new UsageError(`--${name} needs a value, --${name}=...`);
  }
  if (error) throw new UsageError(error.message); // a switch has a value
  const places = names.filter((name) => args[name]?.how === 'place' && !(name in given));
  const extra = placed[places.length];
  if (extra !== undefined) throw new UsageError(`'${extra}' is one argument too many`);
  for (const [i, value] of placed.entries()) given[places[i] as string] = value;
  return Object.fromEntries(Object.entries(args).map(([name, arg]) => [name, valueOf(name, arg, given[name])]));
}

/** Each name's other spellings, all of them, since the parser knows no shortened names. */
function spellings(names: readonly string[], args: Args): Record<string, string[]> {
  const meant = (word: string): string | undefined => {
    const [one, ...others] = matching(names, word);
    return others.length === 0 ? one : undefined;
  };
  const of = (name: string): string[] => {
    const short = Array.from(name, (_, i) => name.slice(0, i + 1)).filter((word) => meant(word) === name);
    return [...short, ...(args[name]?.also ?? [])]
      .flatMap((word) => [word, word.replaceAll('_', '-')])
      .filter((word) => word !== name);
  };
  return { ...Object.fromEntries(names.map((name) => [name, of(name)])), help: ['h'] };
}

function unknownName(names: readonly string[], written: string): UsageError {
  const meant = matching(names, written.replaceAll('-', '_'));
  const listed = (known: readonly string[]): string => known.map((name) => `--${name}`).join(', ');
  if (meant.length > 1) return new UsageError(`--${written} can mean ${listed(meant)}`);
  return new UsageError(
    `there is no --${written} here${names.length > 0 ? `, but ${listed(names)}` : ''}; flags stand before the category`,
  );
}

/** Those that `wanted` means: the one of exactly this name, else all that begin with it. Upper and lower case are one. */
export function matching(names: readonly string[], wanted: string): string[] {
  const word = wanted.toLowerCase();
  return names.includes(word) ? [word] : names.filter((name) => name.startsWith(word));
}

function valueOf(name: string, arg: Arg<unknown>, given: unknown): unknown {
  if (given === undefined || (given === '' && !arg.required)) {
    if (arg.required) throw new UsageError(`${name.toUpperCase()} is missing: ${lowerFirst(arg.help)}`);
    return arg.absent;
  }
  if (typeof given !== 'string') return given;
  try {
    return arg.parse(given);
  } catch (err) {
    if (err instanceof InvalidInput) throw new UsageError(`${name.toUpperCase()}: ${errorText(err)}`, { cause: err });
    throw err;
  }
}

const lowerFirst = (sentence: string): string =>
  /^[A-Z][a-z ]/.test(sentence) ? sentence.charAt(0).toLowerCase() + sentence.slice(1) : sentence;
