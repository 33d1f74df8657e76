import type { Arg, Args, Noun, Verb } from './noun.ts';
import { table } from './table.ts';

const indented = (lines: readonly string[]): string[] => lines.map((line) => (line === '' ? '' : `    ${line}`));
const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', title, ...indented(lines)];

/** `NAME [DESCRIPTION] [--purge]` */
export function synopsis(args: Args): string {
  const one = ([name, arg]: [string, Arg<unknown>]): string => {
    const word = name.toUpperCase();
    const shape = { place: word, named: `--${name}=${word}`, switch: `--${name}` }[arg.how];
    return arg.required ? shape : `[${shape}]`;
  };
  return Object.entries(args).map(one).join(' ');
}

const line = (...words: string[]): string => words.filter((word) => word !== '').join(' ');

export function topHelp(nouns: readonly { names: readonly string[]; noun: Noun }[]): string {
  const rows = nouns.map(({ names, noun }) => [names.join(', '), noun.summary]);
  return [
    'NAME',
    ...indented(['nova-manage - look after a cloud']),
    ...section('SYNOPSIS', ['nova-manage [flags] category [action] [arguments]']),
    ...section('CATEGORIES', table(rows)),
    ...section('NOTES', [
      'Categories and actions may be shortened as long as one meaning is left, in upper or lower case.',
      'nova-manage category --help tells of its actions, nova-manage category action --help of their arguments.',
      'Flags stand before the category, --flagfile=FILE above all; nova-manage --helpshort lists them.',
    ]),
  ].join('\n');
}

export function nounHelp(noun: Noun): string {
  const rows = Object.entries(noun.verbs).map(([name, verb]) => [line(name, synopsis(verb.args)), verb.summary]);
  const own = noun.itself;
  return [
    'NAME',
    ...indented([`nova-manage ${noun.name} - ${noun.summary}`]),
    ...section('SYNOPSIS', [
      ...(own ? [line(`nova-manage [flags] ${noun.name}`, synopsis(own.args))] : []),
      ...(rows.length > 0 ? [`nova-manage [flags] ${noun.name} action [arguments]`] : []),
    ]),
    ...(own ? body(own) : []),
    ...section('ACTIONS', table(rows)),
  ].join('\n');
}

export function verbHelp(noun: Noun, name: string, verb: Verb): string {
  return [
    'NAME',
    ...indented([`nova-manage ${noun.name} ${name} - ${verb.summary}`]),
    ...section('SYNOPSIS', [line(`nova-manage [flags] ${noun.name} ${name}`, synopsis(verb.args))]),
    ...body(verb),
  ].join('\n');
}

function body(verb: Verb): string[] {
  const rows = Object.entries(verb.args).map(([name, arg]) => {
    const absent = arg.required || arg.absent === undefined || arg.how === 'switch' ? '' : ` (${String(arg.absent)})`;
    return [arg.how === 'place' ? name.toUpperCase() : `--${name}`, `${arg.help}${absent}`];
  });
  return [
    ...section('DESCRIPTION', verb.details === undefined ? [] : verb.details.trim().split('\n')),
    ...section('ARGUMENTS', table(rows)),
  ];
}
