/** What a path may lead to: a text, raw bytes, lines, a folder, or nothing. */
export type Leaf = string | Buffer | readonly string[] | null;
export interface Folder {
  readonly [name: string]: Leaf | Folder;
}
/** A key of a folder, never listed: the folder's entry is then `key=NAME` instead of `key/`. */
export const NAME = '_name';

/** The path's parts; empty ones do not count. */
export const splitPath = (path: string): string[] => path.split('/').filter((part) => part !== '');

/**
 * Goes down from `root`. What follows a leaf is ignored: `ami-id/foo` is `ami-id`.
 * @returns undefined where nothing is. Source: Nova 2011.2 nova/api/ec2/metadatarequesthandler.py, lookup and print_data
 */
export function walk(root: Folder, parts: readonly string[]): string | Buffer | undefined {
  let here: Leaf | Folder = root;
  for (const part of parts) {
    if (!isFolder(here)) break;
    if (part === NAME || !Object.hasOwn(here, part)) return undefined;
    here = here[part] ?? null;
  }
  return print(here);
}

const isFolder = (value: Leaf | Folder): value is Folder =>
  typeof value === 'object' && value !== null && !Buffer.isBuffer(value) && !Array.isArray(value);

function print(value: Leaf | Folder): string | Buffer | undefined {
  if (value === null) return undefined;
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value;
  if (!isFolder(value)) return value.join('\n');
  return Object.entries(value)
    .filter(([key, child]) => key !== NAME && child !== null)
    .map(([key, child]) => {
      if (!isFolder(child)) return key;
      const name = child[NAME];
      return typeof name === 'string' ? `${key}=${name}` : `${key}/`;
    })
    .join('\n');
}
