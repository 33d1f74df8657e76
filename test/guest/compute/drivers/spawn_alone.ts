import { copyFile } from 'node:fs/promises';
import { Flags } from '../../../../src/common/flags.ts';
import { silentLog } from '../../../../src/common/log.ts';
import { makeComputeDriver } from '../../../../src/compute/classes.ts';
import type { GuestSpec } from '../../../../src/compute/drivers/driver.ts';

/** A program of its own that says `begin` and spawns one guest, so that a test can kill it meanwhile. */
export interface SpawnAlone {
  flags: Record<string, unknown>;
  spec: GuestSpec;
  /** Image id to path. */
  paths: Record<number, string>;
}

const { flags, spec, paths } = JSON.parse(process.argv[2] ?? '') as SpawnAlone;
const driver = await makeComputeDriver({ flags: Flags.of(flags), log: silentLog });
process.stdout.write('begin\n');
await driver.spawn(spec, (image, path) => copyFile(paths[image.id] ?? '', path), new AbortController().signal);
