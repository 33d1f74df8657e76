import { randomBytes } from 'node:crypto';
import { chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { connectDb } from '../../src/common/db/connect.ts';
import { syncDb } from '../../src/common/db/migrate.ts';
import { execute } from '../../src/common/execute.ts';
import { findProgram } from './needs.ts';
import type { Host } from './netns.ts';
import { freePort } from './free_port.ts';
import { Program } from './program.ts';
import { atEnd, tempDir, type Scope } from './tmp.ts';

export interface Postgres {
  /** `postgresql://nova@ADDRESS:PORT/postgres`, for administration; there is no password. */
  url: string;
  /** Makes an empty database. @returns its URL, for --sql_connection */
  createDatabase(name?: string): Promise<string>;
  /** The same with our tables in it, as after `nova-manage db sync`. */
  createNovaDatabase(name?: string): Promise<string>;
  /** Ends at once, cutting every connection, with the data whole. */
  stop(): Promise<void>;
  start(): Promise<void>;
  restart(): Promise<void>;
  /** As if the process crashed; start() recovers from the log. */
  kill(): Promise<void>;
  /** Connections stay open and no new one is answered; those open go on, as each is a process of its own. */
  pause(): void;
  resume(): void;
}

/** Nothing is synced to disk: what was committed survives the server's crash, which is all that tests cause. */
const SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
  shared_buffers: '16MB',
  max_connections: '200',
  max_wal_size: '64MB',
  min_wal_size: '32MB',
  jit: 'off',
  dynamic_shared_memory_type: 'mmap', // in the data folder, so that a killed server leaves nothing in /dev/shm
  log_min_messages: 'warning',
};

/** PostgreSQL in a folder and on a port of its own. It takes about 2 s. */
export async function startPostgres(scope: Scope, { host }: { host?: Host } = {}): Promise<Postgres> {
  const dir = tempDir(scope, 'postgres');
  const data = join(dir, 'data');
  mkdirSync(data, { mode: 0o700 });
  const as_user = await postgresUser(dir, data);
  const initdb = [program('initdb'), '-D', data, '-U', 'nova', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
  await execute([...as_user, ...initdb], { cwd: dir });
  await execute(['sh', '-c', `echo 'host all all 198.18.0.0/16 trust' >>"$0/pg_hba.conf"`, data]);

  const address = host?.address ?? '127.0.0.1';
  const port = await freePort();
  const settings = { ...SETTINGS, port, listen_addresses: address, unix_socket_directories: dir };
  const own_ipc = as_user.length > 0 ? ['unshare', '--ipc'] : []; // else a killed server leaves its SysV segment
  const server = new Program({
    name: 'postgres',
    argv: [
      ...own_ipc,
      ...as_user,
      program('postgres'),
      '-D',
      data,
      ...Object.entries(settings).flatMap(([k, v]) => ['-c', `${k}=${v}`]),
    ],
    enter: host?.enter ?? [],
    log: join(dir, 'postgres.log'),
  });
  const url = (database: string) => `postgresql://nova@${address}:${port}/${database}`;
  const query = async (sql: string): Promise<boolean> => {
    const client = new Client({ connectionString: url('postgres'), connectionTimeoutMillis: 60_000 });
    client.on('error', () => undefined); // what failed rejects its own promise too
    try {
      await client.connect();
      await client.query(sql);
      return true;
    } finally {
      await client.end().catch(() => undefined);
    }
  };
  const postgres: Postgres = {
    url: url('postgres'),
    async createDatabase(name = `nova_${randomBytes(4).toString('hex')}`) {
      await query(`CREATE DATABASE "${name}"`);
      return url(name);
    },
    async createNovaDatabase(name) {
      const connection = await postgres.createDatabase(name);
      const db = await connectDb(connection);
      try {
        await syncDb(db);
      } finally {
        await db.destroy();
      }
      return connection;
    },
    start: () => server.start(() => query('SELECT 1')),
    stop: () => server.stop('SIGINT'),
    kill: () => server.killAndWaitForChildren(),
    pause: () => server.pause(),
    resume: () => server.resume(),
    async restart() {
      await postgres.stop();
      await postgres.start();
    },
  };
  atEnd(scope, () => server.stop('SIGQUIT')); // ends its children too, and keeps nothing
  await postgres.start();
  return postgres;
}

const program = (name: string): string => findProgram(name) ?? name;

/** PostgreSQL refuses to run as root: what to put before its commands, with the folders given to that user. */
async function postgresUser(...folders: string[]): Promise<string[]> {
  if (process.getuid?.() !== 0) return [];
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (what) => (await execute(['id', what, 'postgres'])).stdout.trim()),
  );
  for (const folder of folders) chownSync(folder, Number(uid), Number(gid));
  // A change of user takes the kernel's promise to end it with us away; it is asked for again.
  return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--pdeathsig', 'KILL', '--'];
}
