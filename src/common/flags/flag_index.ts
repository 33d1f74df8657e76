import { readFileSync, statSync } from 'node:fs';
import type { FlagDef } from './define.ts';

/** A flag as the index of the whole suite holds it; a computed default is null there. */
export interface IndexedFlag extends FlagDef<unknown> {
  /** Where it is declared, e.g. `src/common/core_flags.ts`; every place, if the same flag is declared in several. */
  readonly modules: readonly string[];
  /** False for a flag of Nova that the suite accepts and no daemon reads. */
  readonly read: boolean;
}

/** Written by scripts/flag_index.ts after each build. */
export interface FlagIndex {
  readonly flags: Readonly<Record<string, IndexedFlag>>;
  /** Of each executable: its main module, and all modules that can be loaded from there. */
  readonly binaries: Readonly<Record<string, { main: string; modules: readonly string[] }>>;
}

const DIST = new URL('../../../', import.meta.url);

/** The index of this build; undefined after a bare `tsc`, when there is none or it may lack the newest flags. */
export function loadIndex(dist: URL = DIST): FlagIndex | undefined {
  const file = new URL('flag_index.json', dist);
  const written = changedAt(file);
  if (written === undefined || written < (changedAt(new URL('.tsbuildinfo', dist)) ?? 0)) return undefined;
  return JSON.parse(readFileSync(file, 'utf8')) as FlagIndex;
}

const changedAt = (file: URL): number | undefined => statSync(file, { throwIfNoEntry: false })?.mtimeMs;
