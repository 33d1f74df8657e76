import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** What ends and says so: a test's `t`, or `{ after }` of node:test for a whole file. */
export interface Scope {
  after(fn: () => Promise<void>): void;
}

const endings = new WeakMap<Scope, Array<() => Promise<void>>>();

/**
 * Runs `fn` when the scope ends, the last registered first (node:test runs `t.after` first to last, which would take
 * a folder away under the server that writes to it). Every one runs, whatever the others throw.
 */
export function atEnd(scope: Scope, fn: () => Promise<void>): void {
  const known = endings.get(scope);
  if (known) return void known.push(fn);
  const list = [fn];
  endings.set(scope, list);
  scope.after(async () => {
    const errors: unknown[] = [];
    for (const end of list.reverse()) await end().catch((err: unknown) => errors.push(err));
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1)
      throw new AggregateError(errors, `${errors.length} rigs did not end well: ${errors.join('; ')}`);
  });
}

const folders = new Set<string>();
process.on('exit', () => folders.forEach(removeFolder));

/** A new empty folder, gone when the scope ends or this process exits. NOVA_TEST_KEEP=1 keeps it and prints where it is. */
export function tempDir(scope: Scope, name = 'test'): string {
  // Short, since unix sockets inside may have paths of 107 bytes only.
  const folder = mkdtempSync(join(tmpdir(), `nova-${name}-`));
  folders.add(folder);
  if (process.env['NOVA_TEST_KEEP']) console.log(`# keeping ${folder}`);
  atEnd(scope, async () => removeFolder(folder));
  return folder;
}

function removeFolder(folder: string): void {
  if (!folders.delete(folder) || process.env['NOVA_TEST_KEEP']) return;
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

/** The names of all files in a folder and those below it. */
export const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).flatMap((one) => (one.isFile() ? [one.name] : []));

/** The folder that holds package.json. */
export function projectRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}
