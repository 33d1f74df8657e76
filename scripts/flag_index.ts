import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isFlagDefs, type FlagDef, type FlagDefs } from '../src/common/flags/define.ts';
import type { FlagIndex, IndexedFlag } from '../src/common/flags/flag_index.ts';

/**
 * Writes dist/flag_index.json after a build: every flag that some module declares, and which modules each executable
 * can load. It is how a daemon tells a flag of another daemon from a misspelt one without loading the other's code.
 */
export interface FlagGroup {
  /** As in the source tree, `src/common/core_flags.ts`. */
  module: string;
  defs: FlagDefs;
}

const NOVA_LISTS = 'src/common/flags/nova/';
const root = normalize(join(dirname(fileURLToPath(import.meta.url)), '../..'));
const moduleOf = (file: string): string => relative(join(root, 'dist'), file).replace(/\.js$/, '.ts');

/** Imports every module that declares flags. @throws Error when one does not export them */
export async function flagGroups(): Promise<FlagGroup[]> {
  const files = readdirSync(join(root, 'dist/src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js'))
    .map((name) => join(root, 'dist/src', name))
    .filter((file) => /(?<!function )defineFlags\(/.test(readFileSync(file, 'utf8')))
    .sort();
  const groups: FlagGroup[] = [];
  for (const file of files) {
    const exported = Object.values((await import(pathToFileURL(file).href)) as Record<string, unknown>);
    const declared = exported.filter(isFlagDefs);
    if (declared.length === 0) throw new Error(`${moduleOf(file)} declares flags and does not export them`);
    for (const defs of declared) groups.push({ module: moduleOf(file), defs });
  }
  return groups;
}

/** @throws Error when two modules declare a flag of one name differently */
export function indexFlags(groups: readonly FlagGroup[]): Record<string, IndexedFlag> {
  const flags: Record<string, IndexedFlag> = {};
  for (const { module, defs } of groups) {
    if (module.startsWith(NOVA_LISTS)) continue;
    for (const [name, def] of Object.entries(defs)) {
      const known = flags[name];
      if (known !== undefined && !alike(known, def))
        throw new Error(`--${name} is declared differently in ${known.modules.join(', ')} and ${module}`);
      flags[name] = { ...indexed(def), modules: [...new Set([...(known?.modules ?? []), module])], read: true };
    }
  }
  for (const { module, defs } of groups.filter((group) => group.module.startsWith(NOVA_LISTS)))
    for (const [name, def] of Object.entries(defs)) flags[name] ??= { ...indexed(def), modules: [module], read: false };
  return flags;
}

const indexed = (def: FlagDef<unknown>): FlagDef<unknown> =>
  def.computed === undefined ? def : { ...def, default: null }; // this machine's value is not the next one's

const alike = (known: IndexedFlag, def: FlagDef<unknown>): boolean => {
  const facts = ({ kind, default: value, computed, min, max, words, form }: FlagDef<unknown>) =>
    JSON.stringify([kind, value, computed, min, max, words, form]);
  return facts(known) === facts(indexed(def));
};

/** The executables of package.json, each with the modules that can be reached from it by any import. */
export function binaries(): FlagIndex['binaries'] {
  const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { bin: Record<string, string> };
  const found: Record<string, { main: string; modules: string[] }> = {};
  for (const [binary, path] of Object.entries(bin)) {
    // Not by its imports: nova-dhcpbridge is a shell script that starts node only when it must.
    const [, main] = /\.\.\/(dist\/[\w/]+\.js)/.exec(readFileSync(join(root, path), 'utf8')) ?? [];
    if (main === undefined) throw new Error(`${path} names no ../dist/...js`);
    const file = join(root, main);
    found[binary] = { main: moduleOf(file), modules: [...reach(file)].map(moduleOf).sort() };
  }
  return found;
}

function reach(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file) || !file.endsWith('.js')) return seen;
  let imports: string[];
  try {
    imports = importsOf(file);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return seen; // a package that is built without this service
    throw err;
  }
  seen.add(file);
  for (const imported of imports) reach(imported, seen);
  return seen;
}

/** Files that a module imports by a relative path, at start or later. */
function importsOf(file: string): string[] {
  const specifiers = readFileSync(file, 'utf8').matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"](\.[^'"]+)['"]/g);
  return [...specifiers].map(([, path]) => join(dirname(file), path as string));
}

export async function buildIndex(): Promise<FlagIndex> {
  const groups = await flagGroups();
  const flags = indexFlags(groups);
  const declaring = new Set(groups.map(({ module }) => module));
  const lean = Object.entries(binaries()).map(([binary, { main, modules }]) => {
    return [binary, { main, modules: modules.filter((module) => declaring.has(module)) }] as const;
  });
  return { flags, binaries: Object.fromEntries(lean) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const index = await buildIndex();
  writeFileSync(join(root, 'dist/flag_index.json'), JSON.stringify(index));
  process.exit(0); // a module that was imported may hold a timer or a handle
}
