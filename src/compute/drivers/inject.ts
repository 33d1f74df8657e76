import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { execute } from '../../common/execute.ts';
import { BackendUnavailable, errorText, InvalidInput } from '../../common/errors.ts';
import { interfacesFile } from '../logic/interfaces_file.ts';
import type { GuestSpec } from './driver.ts';
import { firstBytes } from './files.ts';

/** A file for the guest's root file system; `append` keeps what is there. */
export interface InjectedFile {
  path: string;
  text: string;
  mode: number;
  /** Of the folder that it lies in. */
  dir_mode: number;
  append: boolean;
}

/** What a guest must find on its disk because no DHCP and no metadata service will tell it. */
export function filesToInject(spec: GuestSpec): InjectedFile[] {
  const files: InjectedFile[] = [];
  if (spec.nics.some((nic) => nic.injected))
    files.push({
      path: '/etc/network/interfaces',
      text: interfacesFile(spec.nics),
      mode: 0o644,
      dir_mode: 0o755,
      append: false,
    });
  if (spec.key_data !== null)
    files.push({
      path: '/root/.ssh/authorized_keys',
      text: `\n${spec.key_data.trim()}\n`,
      mode: 0o600,
      dir_mode: 0o700,
      append: true,
    });
  return files;
}

/** Whether a raw image is one ext2, ext3 or ext4 file system, not a partitioned disk. */
export async function isExt(path: string): Promise<boolean> {
  const magic = await firstBytes(path, 2, 1024 + 56);
  return magic.length === 2 && magic.readUInt16LE() === 0xef53;
}

/** Where Debian keeps the programs of e2fsprogs, which is not on the PATH of users without root. */
const withSbin = () => ({ LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` });

/**
 * Has a raw ext image that nothing uses yet fill so many bytes. Source: Nova 2011.3 nova/virt/disk.py, extend.
 * @throws ProcessExecutionError when e2fsprogs did not do it; the image is then not to be used
 */
export async function growExt(image: string, bytes: number, signal: AbortSignal): Promise<void> {
  const options = { signal, env: withSbin(), timeout_ms: 600_000 };
  await truncate(image, bytes);
  await execute(['e2fsck', '-f', '-p', image], { ...options, ok: [0, 1] });
  await execute(['resize2fs', image], options);
}

/**
 * Writes files into a raw ext image that nothing uses yet. Nova mounted the image as root, and a link in it could lead
 * the write to the host's own files; debugfs works inside the image's bytes alone, where no link leads out.
 * @throws ProcessExecutionError, BackendUnavailable when debugfs did not do it; the image is then not to be used
 */
export async function injectFiles(image: string, files: readonly InjectedFile[], signal: AbortSignal): Promise<void> {
  const dir = `${image}.inject`;
  const disk = `../${basename(image)}`;
  const env = withSbin();
  const debugfs: Debugfs = async (args) =>
    (await execute(['debugfs', ...args, disk], { cwd: dir, signal, env })).stdout;
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { mode: 0o700 });
  try {
    // Replays the journal: a write beside one that is still to be replayed would be lost, or break the file system.
    await execute(['e2fsck', '-p', disk], { cwd: dir, signal, env, ok: [0, 1], timeout_ms: 600_000 });
    const script: string[] = [];
    const wanted: string[] = [];
    for (const [i, file] of files.entries()) {
      const before = file.append ? await debugfs(['-R', `cat ${file.path}`]) : '';
      wanted.push(before + file.text);
      await writeFile(join(dir, String(i)), before + file.text);
      script.push(...(await missingFolders(file.path, debugfs)), ...writing(file, String(i)));
    }
    await writeFile(join(dir, 'script'), `${script.join('\n')}\n`);
    await debugfs(['-w', '-f', 'script']);
    for (const [i, file] of files.entries())
      if ((await debugfs(['-R', `cat ${file.path}`])) !== wanted[i])
        throw new BackendUnavailable(`debugfs did not write ${file.path}; is the image's file system full?`);
    await execute(['e2fsck', '-fn', disk], { cwd: dir, signal, env, timeout_ms: 600_000 });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

type Debugfs = (args: string[]) => Promise<string>;

/** Commands for the folders that are not there. A mkdir of one that is there would break the file system (1.47.0). */
async function missingFolders(path: string, debugfs: Debugfs): Promise<string[]> {
  const folders: string[] = [];
  for (let dir = dirname(path); dir !== '/'; dir = dirname(dir)) folders.unshift(dir);
  const missing: string[] = [];
  for (const folder of folders) {
    if (missing.length === 0 && /Type: directory/.test(await debugfs(['-R', `stat ${folder}`]))) continue;
    // Fields between slashes, the fifth is the name; a link that leads nowhere has a name and no type.
    const names = missing.length > 0 ? '' : await debugfs(['-R', `ls -p ${dirname(folder)}`]);
    if (names.split('\n').some((line) => line.split('/')[5] === basename(folder)))
      throw new InvalidInput(`${folder} in the image is no folder`);
    missing.push(folder);
  }
  return missing.map((folder) => `mkdir ${folder}`);
}

const writing = (file: InjectedFile, source: string): string[] => [
  `set_inode_field ${dirname(file.path)} mode 04${file.dir_mode.toString(8).padStart(4, '0')}`,
  `rm ${file.path}`,
  `write ${source} ${file.path}`,
  `set_inode_field ${file.path} mode 010${file.mode.toString(8).padStart(4, '0')}`,
  `set_inode_field ${file.path} uid 0`,
  `set_inode_field ${file.path} gid 0`,
];

/** One sentence for the log when files cannot be written: the guest boots without, as it did with Nova. */
export const notInjected = (files: readonly InjectedFile[], why: unknown): string =>
  `${files.map((file) => file.path).join(' and ')} not written into the disk: ${errorText(why)}`;
