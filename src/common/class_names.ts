import { ClassNotFound } from './errors.ts';

/** Nova's dotted class name to a loader of our class; only the chosen file is loaded. */
export type ClassTable<T> = Record<string, () => Promise<T>>;

/** @throws ClassNotFound naming the flag, the value and the known names */
export async function loadClass<T>(table: ClassTable<T>, name: string, flag: string): Promise<T> {
  const load = Object.hasOwn(table, name) ? table[name] : undefined;
  if (!load) throw new ClassNotFound(`--${flag}=${name}: not a known class. Known: ${Object.keys(table).join(', ')}`);
  return load();
}
