import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Looked at before PATH: what stands there under these names changes the user. The newest PostgreSQL first. */
const servers = (): string[] => [
  '/usr/lib/rabbitmq/bin',
  ...versions('/usr/lib/postgresql').map((v) => join(v, 'bin')),
];

/**
 * For a test's `skip`: false, or the reason why it cannot run here. `'root'` asks for uid 0, every other word for a
 * program.
 */
export function needs(...what: string[]): string | false {
  const missing = what.filter((word) => (word === 'root' ? process.getuid?.() !== 0 : !findProgram(word)));
  return missing.length > 0 && `needs ${missing.join(', ')}, which this machine or user has not: see scripts/setup`;
}

/** @returns the program's full path, or undefined */
export function findProgram(name: string): string | undefined {
  const folders = [...servers(), ...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function versions(folder: string): string[] {
  try {
    return readdirSync(folder)
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => join(folder, version));
  } catch {
    return []; // not installed
  }
}
