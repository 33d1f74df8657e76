import { createHmac } from 'node:crypto';
import { join } from 'node:path';
import { connectDb, type NovaDb } from '../src/common/db/connect.ts';
import { syncDb } from '../src/common/db/migrate.ts';
import { startDaemon, type Daemon, type FlagFile } from '../test/rigs/daemon.ts';
import { freePort } from '../test/rigs/free_port.ts';
import { tempDir, type Scope } from '../test/rigs/tmp.ts';
import { ACCESS, SECRET } from './seed.ts';
import type { Ask } from './workers/http_get.ts';

export interface CloudSpec {
  /** Executables, in the order of their start. */
  daemons: readonly string[];
  flags?: FlagFile;
  /** Default: a new SQLite file. */
  sql_connection?: string;
  /** Fills the database before the daemons start. */
  seed(db: NovaDb): Promise<void>;
}

/** Our daemons on fake hosts, as a user of the APIs sees them. */
export interface Cloud {
  daemons: Daemon[];
  sql_connection: string;
  /** A GET of the OpenStack API as the user, with a token. */
  openstack(user: string, path: string): Promise<Ask>;
  /** A GET of the EC2 API as the user, signed; good for an hour. */
  ec2(user: string, action: string, params?: Record<string, string>): Ask;
  /** A request of the S3 API as the user, signed; good for an hour. @param path `/bucket/key` */
  s3(user: string, path: string, put?: { body_bytes: number }): Ask;
}

export const sqliteFile = (scope: Scope): string => `sqlite:///${join(tempDir(scope, 'bench'), 'nova.sqlite')}`;

export async function startCloud(scope: Scope, spec: CloudSpec): Promise<Cloud> {
  const sql_connection = spec.sql_connection ?? sqliteFile(scope);
  await seeded(sql_connection, spec.seed);
  const flags = await cloudFlags(sql_connection);
  const daemons: Daemon[] = [];
  for (const name of spec.daemons)
    daemons.push(await startDaemon(scope, name, { flags: { ...flags, ...spec.flags }, timeout_ms: 60_000 }));
  const [ec2, osapi] = [flags.ec2_listen_port, flags.osapi_listen_port].map((port) => `127.0.0.1:${port}`);
  return {
    daemons,
    sql_connection,
    openstack: (user, path) => openstackAsk(`http://${osapi}`, user, path),
    s3: (user, path, put) => s3Ask(`http://127.0.0.1:${flags.s3_port}`, user, path, put),
    ec2: (user, action, params = {}) => ec2Ask(ec2 ?? '', user, { Action: action, ...params }),
  };
}

async function seeded(sql_connection: string, seed: (db: NovaDb) => Promise<void>): Promise<void> {
  const db = await connectDb(sql_connection);
  try {
    await syncDb(db);
    await seed(db);
  } finally {
    await db.destroy();
  }
}

/** Real daemons whose hosts are fake; the quotas are out of the way. */
export const cloudFlags = async (sql_connection: string) => ({
  sql_connection,
  fake_rabbit: true,
  host: 'bench',
  my_ip: '127.0.0.1',
  connection_type: 'fake',
  volume_driver: 'nova.volume.driver.FakeISCSIDriver',
  fake_network: true,
  network_manager: 'nova.network.manager.FlatManager',
  enabled_apis: 'ec2,osapi',
  ec2_listen: '127.0.0.1',
  ec2_listen_port: await freePort(),
  osapi_listen: '127.0.0.1',
  osapi_listen_port: await freePort(),
  s3_listen: '127.0.0.1',
  s3_port: await freePort(),
  quota_instances: -1,
  quota_cores: -1,
  quota_ram: -1,
});

async function openstackAsk(origin: string, user: string, path: string): Promise<Ask> {
  const answer = await fetch(`${origin}/v1.1`, { headers: { 'X-Auth-User': user, 'X-Auth-Key': ACCESS(user) } });
  const token = answer.headers.get('x-auth-token');
  if (token === null) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
  return { origin, path: `/v1.1/${user}${path}`, headers: { 'X-Auth-Token': token } };
}

/** Signature version 2. */
function ec2Ask(host: string, user: string, params: Record<string, string>): Ask {
  const path = '/services/Cloud/';
  const sent: Record<string, string> = {
    ...params,
    AWSAccessKeyId: ACCESS(user),
    Expires: new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, ''),
    SignatureMethod: 'HmacSHA256',
    SignatureVersion: '2',
    Version: '2009-04-04',
  };
  const query = Object.keys(sent)
    .sort()
    .map((name) => `${name}=${encodeURIComponent(sent[name] ?? '')}`)
    .join('&');
  const signature = createHmac('sha256', SECRET(user)).update(`GET\n${host}\n${path}\n${query}`).digest('base64');
  return { origin: `http://${host}`, path: `${path}?${query}&Signature=${encodeURIComponent(signature)}`, headers: {} };
}

/** S3's own version 2, in the query. */
function s3Ask(origin: string, user: string, path: string, put?: { body_bytes: number }): Ask {
  const expires = String(Math.floor(Date.now() / 1000) + 3600);
  const text = `${put ? 'PUT' : 'GET'}\n\n\n${expires}\n${path}`;
  const signature = createHmac('sha1', SECRET(user)).update(text).digest('base64');
  const query = `AWSAccessKeyId=${ACCESS(user)}&Expires=${expires}&Signature=${encodeURIComponent(signature)}`;
  return { origin, path: `${path}?${query}`, headers: {}, ...(put ? { method: 'PUT', ...put } : {}) };
}
