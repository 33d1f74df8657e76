import { realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';

/**
 * Readable by its owner alone, also where there was a file of that name that others read: the mode of a write counts for a
 * new file only, so it is written aside. A pipe or a device is written to as it is.
 */
export function writeSecret(file: string, content: string | Buffer): void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there && !there.isFile()) return writeFileSync(file, content);
  const path = there ? realpathSync(file) : file;
  const aside = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(aside, content, { mode: 0o600, flag: 'wx' });
    renameSync(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
}
