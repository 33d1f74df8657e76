import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { guestImage } from '../../../../scripts/guest_image.ts';
import { sleep } from '../../../../src/common/clock.ts';
import { Flags } from '../../../../src/common/flags.ts';
import { makeLog } from '../../../../src/common/log.ts';
import { makeComputeDriver } from '../../../../src/compute/classes.ts';
import type { ComputeDriver, FetchImage, GuestImage, GuestSpec } from '../../../../src/compute/drivers/driver.ts';
import { atEnd, type Scope } from '../../../rigs/tmp.ts';
import { boots, type DriverRig } from '../../../unit/compute/drivers/shared.ts';
import { aGuestSpec, aNic } from '../../../unit/compute/drivers/specs.ts';
import { until } from '../../../until.ts';
import type { SpawnAlone } from './spawn_alone.ts';

const never = new AbortController().signal;

export interface RealRig extends DriverRig {
  instances_path: string;
  /** Spawns the guest in a process of its own, which is killed `after_ms` later. */
  killedSpawn(spec: GuestSpec, after_ms: number): Promise<void>;
  /** Waits until the console says it. @returns all that it said */
  says(name: string, words: string | RegExp): Promise<string>;
  /** The whole-disk form of the tiny guest, which needs no kernel. */
  wholeDisk: GuestImage;
}

/** A driver with real guests in `dir`; what is left of them at the end is destroyed. */
export async function aRealRig(scope: Scope, dir: string, flags: Record<string, unknown>): Promise<RealRig> {
  const tiny = await guestImage(console.log);
  const instances_path = join(dir, 'instances');
  const log = makeLog({ name: 'drivers', file: join(dir, 'driver.log') });
  const make = async (): Promise<ComputeDriver> => {
    const made = await makeComputeDriver({
      flags: Flags.of({ instances_path, soft_reboot_timeout: 60, ...flags }),
      log,
    });
    await made.initHost(never);
    return made;
  };
  const driver = await make();
  atEnd(scope, async () => {
    for (const { name } of await driver.listInstances()) await driver.destroy(name, never);
    await rm(instances_path, { recursive: true });
  });
  const paths = [tiny.rootfs, tiny.kernel, tiny.ramdisk, tiny.disk];
  const [image, kernel, ramdisk, wholeDisk] = paths.map((path, i) => anImageOf(path, i, i === 3 ? 'qcow2' : 'raw')) as [
    GuestImage,
    GuestImage,
    GuestImage,
    GuestImage,
  ];
  const fetch: FetchImage = (wanted, path) => copyFile(paths[wanted.id] ?? '', path);
  const waitFor = async (name: string, what: string, done: (text: string) => boolean): Promise<string> => {
    let text = '';
    const look = async () => {
      text = await driver.getConsoleOutput(name, 1 << 20);
      return done(text) && text;
    };
    return until(`${what} of ${name}`, look, () => `Its console ends with\n${text.slice(-2000)}`);
  };
  return {
    driver,
    restarted: make,
    spec: (over: Partial<GuestSpec> = {}) =>
      aGuestSpec({ image, kernel, ramdisk, nics: [aNic({ address: '10.77.0.10', gateway: '10.77.0.1' })], ...over }),
    fetch,
    up: async (name, times) => void (await waitFor(name, `boot ${times}`, (text) => boots(text) >= times)),
    instances_path,
    killedSpawn: (spec, after_ms) =>
      killedSpawn({ flags: { instances_path, ...flags }, spec, paths: { ...paths } }, after_ms),
    says: (name, words) =>
      waitFor(name, String(words), (text) => (typeof words === 'string' ? text.includes(words) : words.test(text))),
    wholeDisk,
  };
}

async function killedSpawn(what: SpawnAlone, after_ms: number): Promise<void> {
  const program = join(import.meta.dirname, 'spawn_alone.js');
  const child = spawn(process.execPath, [program, JSON.stringify(what)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  await sleep(after_ms);
  const ended = child.exitCode === null ? once(child, 'exit') : undefined;
  child.kill('SIGKILL');
  await ended;
}

function anImageOf(path: string, id: number, disk_format: string): GuestImage {
  const checksum = createHash('sha256').update(readFileSync(path)).digest('hex');
  return { id, checksum, size_bytes: statSync(path).size, disk_format };
}
