import { errorText } from '../errors.ts';
import type { FlagDef } from './define.ts';
import type { FlagIndex, IndexedFlag } from './flag_index.ts';
import { asText, shown } from './secrets.ts';

/** What a flag is worth in this process, and who said so. */
export type Value = (name: string) => { value: unknown; source: string };
type Named = [name: string, flag: IndexedFlag];

const PARSER_FLAGS = `  --flagfile: Reads flags from this file, one a line, as if they stood here; # and // begin a comment
  --fromenv: Takes these flags, comma separated, from the environment: FLAGS_name
  --[no]help: Shows this help
  --[no]helpshort: Shows the flags of this daemon's own modules
  --[no]helpxml: Shows this help as XML
  --tryfromenv: As --fromenv, for those that are in the environment
  --undefok: Accepts these flags, comma separated, although no daemon knows them
  --[no]version: Shows the version`;

/** The flags that `binary` can read, by module, each module's in order of name. */
export function flagsByModule(index: FlagIndex, binary: string): Map<string, Named[]> {
  const modules = new Map<string, Named[]>((index.binaries[binary]?.modules ?? []).map((module) => [module, []]));
  for (const [name, flag] of Object.entries(index.flags).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!flag.read) continue;
    const module = flag.modules.find((declaring) => modules.has(declaring));
    if (module !== undefined) modules.get(module)?.push([name, flag]);
  }
  for (const [module, flags] of modules) if (flags.length === 0) modules.delete(module);
  return modules;
}

/** Modules in the folder of the binary's main: what makes this daemon different from the others. */
const isOwn = (index: FlagIndex, binary: string, module: string): boolean => {
  const folder = index.binaries[binary]?.main.replace(/[^/]+$/, '');
  return folder !== undefined && module.startsWith(folder);
};

/** `--help`; with `short`, `--helpshort`. */
export function helpText(index: FlagIndex, binary: string, value: Value, short = false): string {
  const parts = [`USAGE: ${binary} [flags]`, 'flags:'];
  for (const [module, flags] of flagsByModule(index, binary)) {
    if (short && !isOwn(index, binary, module)) continue;
    parts.push(`${module}:\n${flags.map(([name, flag]) => describe(name, flag, value)).join('\n')}`);
  }
  if (!short) parts.push(`every daemon:\n${PARSER_FLAGS}`);
  return `${parts.join('\n\n')}\n`;
}

function describe(name: string, flag: IndexedFlag, value: Value): string {
  const lines = [`  --${flag.kind === 'boolean' ? '[no]' : ''}${name}: ${flag.help}`];
  lines.push(`    (default: ${defaultText(flag)})`);
  const type = typeText(flag);
  if (type) lines.push(`    (${type})`);
  const set = setText(name, flag, value);
  if (set) lines.push(`    (${set})`);
  return lines.join('\n');
}

/** A default in words for a reader: what it is worked out from, `none`, or the value in quotes. */
export function defaultText(flag: FlagDef<unknown>): string {
  if (flag.computed !== undefined) return flag.computed;
  return flag.default === null ? 'none' : `'${asText(flag.default)}'`;
}

function typeText(flag: FlagDef<unknown>): string | undefined {
  const { min, max } = flag;
  const range = min === undefined && max === undefined ? '' : ` in the range [${min ?? '-...'}, ${max ?? '...'}]`;
  switch (flag.kind) {
    case 'integer':
      return `an integer${range}`;
    case 'float':
      return `a number${range}`;
    case 'list':
      return 'a comma separated list';
    case 'multistring':
      return 'repeat this flag for a list';
    case 'enum':
      return `one of ${flag.words?.join(', ')}`;
    default:
      return undefined;
  }
}

/** Undefined for a flag left at its default. A value that cannot be used is said to be so, since help must always work. */
function setText(name: string, flag: IndexedFlag, value: Value): string | undefined {
  try {
    const set = value(name);
    return set.source === 'default' ? undefined : `now: '${shown(name, flag, set.value)}', ${set.source}`;
  } catch (err) {
    return errorText(err);
  }
}

const XML_TYPES: Partial<Record<string, string>> = { boolean: 'bool', integer: 'int', multistring: 'multi string' };

/** `--helpxml`, in the shape of python-gflags. */
export function helpXml(index: FlagIndex, binary: string, value: Value): string {
  const flags = [...flagsByModule(index, binary)].flatMap(([module, named]) =>
    named.map(([name, flag]) => xmlFlag(name, flag, module, isOwn(index, binary, module), value)),
  );
  const head = `  <program>${escape(binary)}</program>\n  <usage>USAGE: ${escape(binary)} [flags]</usage>`;
  return `<?xml version="1.0"?>\n<AllFlags>\n${head}\n${flags.join('\n')}\n</AllFlags>\n`;
}

function xmlFlag(name: string, flag: IndexedFlag, module: string, own: boolean, value: Value): string {
  const element = (tag: string, text: string) => `    <${tag}>${escape(text)}</${tag}>`;
  return [
    '  <flag>',
    ...(own ? [element('key', 'yes')] : []),
    element('file', module),
    element('name', name),
    element('meaning', flag.help),
    ...(flag.words ?? []).map((word) => element('enum_value', word)),
    element('default', flag.computed ?? asText(flag.default)),
    element('current', currentText(name, flag, value)),
    element('type', XML_TYPES[flag.kind] ?? flag.kind),
    '  </flag>',
  ].join('\n');
}

function currentText(name: string, flag: IndexedFlag, value: Value): string {
  try {
    return shown(name, flag, value(name).value);
  } catch (err) {
    return errorText(err);
  }
}

const escape = (text: string): string =>
  text
    // XML 1.0 has no way to write these.
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
