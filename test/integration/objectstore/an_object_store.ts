import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DbAuthenticator } from '../../../src/common/auth/db_authenticator.ts';
import { connectDb, type NovaDb } from '../../../src/common/db/connect.ts';
import { syncDb } from '../../../src/common/db/migrate.ts';
import { Flags } from '../../../src/common/flags.ts';
import { silentLog } from '../../../src/common/log.ts';
import { s3Server } from '../../../src/objectstore/app.ts';
import { openStore, type Store } from '../../../src/objectstore/drivers/store.ts';
import { aProject } from '../../builders.ts';
import { findProgram } from '../../rigs/needs.ts';
import { atEnd, tempDir, type Scope } from '../../rigs/tmp.ts';

export interface ObjectStore {
  db: NovaDb;
  /** For files of the test's own. */
  dir: string;
  buckets_path: string;
  port: number;
  url: string;
  store: Store;
  images: Map<string, string>;
  /** Runs the AWS command line as ann of project apollo (or as another user of aProject). */
  aws(args: readonly string[], as?: string): Promise<{ stdout: string; stderr: string; code: number }>;
}

/** The object store on a port of its own; users ann (project apollo) and bob (project gemini). */
export async function anObjectStore(scope: Scope): Promise<ObjectStore> {
  const dir = tempDir(scope, 's3');
  const buckets_path = join(dir, 'buckets');
  const db = await connectDb('sqlite://');
  atEnd(scope, () => db.destroy());
  await syncDb(db);
  await aProject(db, 'apollo', 'ann');
  await aProject(db, 'gemini', 'bob');
  const store = openStore(buckets_path);
  const images = new Map<string, string>();
  const server = s3Server({
    store,
    authenticator: new DbAuthenticator({ db, flags: Flags.of() }),
    findImage: async (checksum) => images.get(checksum) ?? null,
    log: silentLog,
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(scope, async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const aws = (args: readonly string[], as = 'ann') => awsCommand(dir, url, args, as);
  return { db, dir, buckets_path, port, url, store, images, aws };
}

/** The project that aProject made the user for; that an administrator of the test's asks about. */
const PROJECTS: Record<string, string> = { ann: 'apollo', bob: 'gemini', sec: 'apollo' };
export const accessKey = (user: string): string => `${user}-access:${PROJECTS[user]}`;
export const secretKey = (user: string): string => `${user}-secret`;

export interface Ran {
  stdout: string;
  stderr: string;
  code: number;
}

export async function run(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  try {
    const { stdout, stderr } = await promisify(execFile)(command, args, {
      env: { PATH: process.env['PATH'], HOME: '/dev/null', ...env },
      timeout: 120_000,
      maxBuffer: 64 * 1024 * 1024,
    });
    return { stdout, stderr, code: 0 };
  } catch (err) {
    const failed = err as { stdout?: string; stderr?: string; code?: unknown };
    if (typeof failed.code !== 'number') throw err;
    return { stdout: failed.stdout ?? '', stderr: failed.stderr ?? '', code: failed.code };
  }
}

async function awsCommand(dir: string, url: string, args: readonly string[], user: string): Promise<Ran> {
  mkdirSync(dir, { recursive: true });
  const config = join(dir, 'aws.config');
  writeFileSync(config, '[default]\nregion = nova\nretry_mode = standard\ns3 =\n  addressing_style = path\n');
  return run(findProgram('aws') ?? 'aws', ['--endpoint-url', url, ...args], {
    AWS_CONFIG_FILE: config,
    AWS_ACCESS_KEY_ID: accessKey(user),
    AWS_SECRET_ACCESS_KEY: secretKey(user),
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_MAX_ATTEMPTS: '1',
  });
}
