import { createHash } from 'node:crypto';
import { access, chmod, constants, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute } from '../src/common/execute.ts';
import { errorText } from '../src/common/errors.ts';

/** Paths of the tiny test guest; see the head of tools/build-tiny-image for what it does and prints. */
export interface GuestImageFiles {
  dir: string;
  /** Kernel, ramdisk and root disk: aki, ari, ami. */
  kernel: string;
  ramdisk: string;
  rootfs: string;
  /** A whole disk with a boot loader. */
  disk: string;
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const builder = join(root, 'tools', 'build-tiny-image');

/**
 * Builds the test guest once, into `tiny/` of $NOVA_CACHE_DIR (default: `.cache` of the project); again only when
 * the builder has changed. Several processes may ask at once. It takes up to a minute and needs Debian's packages.
 * @param cache where it is built if it is not there yet and this user may not write the default folder
 */
export async function guestImage(
  say: (line: string) => void = () => undefined,
  { cache: other, signal }: { cache?: string; signal?: AbortSignal } = {},
): Promise<GuestImageFiles> {
  const usual = process.env['NOVA_CACHE_DIR'] ?? join(root, '.cache');
  const version = createHash('sha256')
    .update(await readFile(builder))
    .digest('hex');
  const is_usable = (await builtBy(join(usual, 'tiny'))) === version || (await canWrite(usual));
  const cache = is_usable ? usual : (other ?? usual);
  const dir = join(cache, 'tiny');
  if ((await builtBy(dir)) !== version) {
    say(`building the test guest into ${dir}`);
    await mkdir(cache, { recursive: true });
    const half_built = await mkdtemp(join(cache, 'tiny.'));
    try {
      await build(half_built, join(cache, 'debs'), say, signal);
      await writeFile(join(half_built, 'built_by'), version);
      await chmod(half_built, 0o755); // mkdtemp's 0700 would keep a hypervisor's own user out
      await rm(dir, { recursive: true, force: true });
      await rename(half_built, dir);
    } catch (err) {
      await rm(half_built, { recursive: true, force: true });
      if ((await builtBy(dir)) !== version) throw err; // else another process was faster, with the same bytes
    }
  }
  const file = (name: string) => join(dir, name);
  return {
    dir,
    kernel: file('vmlinuz'),
    ramdisk: file('initrd.img'),
    rootfs: file('rootfs.img'),
    disk: file('disk.qcow2'),
  };
}

async function builtBy(dir: string): Promise<string | undefined> {
  try {
    return await readFile(join(dir, 'built_by'), 'utf8');
  } catch {
    return undefined; // not built
  }
}

async function canWrite(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

async function build(out: string, debs: string, say: (line: string) => void, signal?: AbortSignal): Promise<void> {
  const ended = signal ? { signal } : {};
  const run = () => execute([builder, out], { env: { TINY_CACHE: debs }, timeout_ms: 600_000, ...ended });
  try {
    await run();
  } catch (err) {
    if (process.getuid?.() !== 0 || signal?.aborted) throw err;
    say(`${errorText(err).trim()}; once more after apt-get update`);
    await execute(['apt-get', '-qq', 'update'], { timeout_ms: 300_000, ...ended });
    await run();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { dir } = await guestImage((line) => console.log(`guest image: ${line}`));
  console.log(`guest image: ${dir}`);
}
