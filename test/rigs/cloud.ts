import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { execute } from '../../src/common/execute.ts';
import { startDaemon, flagFileText, type Daemon, type FlagFile } from './daemon.ts';
import type { Credentials } from './ec2_client.ts';
import { freePort } from './free_port.ts';
import { atEnd, projectRoot, tempDir, type Scope } from './tmp.ts';

export interface Cloud {
  ec2: Credentials;
  /** `http://127.0.0.1:PORT/v1.1/` and what the handshake wants. */
  openstack: { url: string; user: string; key: string; project: string };
  s3_port: number;
  /** `ami-0000000X`: a disk image of a few bytes, enough for the fake driver. */
  image: string;
  /** A look into the cloud's own database. */
  db: NovaDb;
  /** nova-api, nova-scheduler, nova-compute, nova-volume, nova-network; nova-all alone when all in one. */
  killable: Daemon[];
  flags: FlagFile;
  flagfile: string;
  /** The fake driver's guests, as JSON. */
  guests_file: string;
  /** The fake store's volumes, likewise. */
  volumes_file: string;
  /** `nova-manage WORDS` with the cloud's flagfile. @returns standard output. @throws ProcessExecutionError */
  manage(...words: string[]): Promise<string>;
}

export interface CloudOptions {
  /** A broker's flags: separate daemons over RabbitMQ; without it nova-all with the in-process bus. */
  broker?: { rabbit_host: string; rabbit_port: number };
  /** Default: SQLite in the cloud's folder. */
  sql_connection?: string;
  flags?: FlagFile;
}

/** A cloud with the fake driver and a fake network host: a user `ann` in project `apollo`, a network, an image. */
export async function aCloud(scope: Scope, { broker, sql_connection, flags = {} }: CloudOptions = {}): Promise<Cloud> {
  const dir = tempDir(scope, 'cloud');
  const [ec2_port, osapi_port, s3_port, metadata_port, identity_port] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const database = sql_connection ?? `sqlite:///${join(dir, 'nova.sqlite')}`;
  const guests_file = join(dir, 'guests.json');
  const volumes_file = join(dir, 'volumes.json');
  const all: FlagFile = {
    state_path: dir,
    host: 'node1',
    my_ip: '127.0.0.1',
    sql_connection: database,
    ...(broker ?? { fake_rabbit: true }),
    rabbit_retry_interval: 0,
    rabbit_retry_backoff: 1,
    ec2_listen: '127.0.0.1',
    ec2_listen_port: ec2_port,
    ec2_port,
    osapi_listen: '127.0.0.1',
    osapi_listen_port: osapi_port,
    osapi_port,
    identity_listen: '127.0.0.1',
    identity_listen_port: identity_port,
    identity_port,
    metadata_listen: '127.0.0.1',
    metadata_port,
    s3_listen: '127.0.0.1',
    s3_port,
    network_manager: 'nova.network.manager.FlatDHCPManager',
    fake_network: true,
    connection_type: 'fake',
    fake_driver_state: guests_file,
    volume_driver: 'nova.volume.driver.FakeISCSIDriver',
    fake_volume_state: volumes_file,
    ...flags,
  };
  const flagfile = join(dir, 'nova.flags');
  writeFileSync(flagfile, flagFileText(all));
  const manage = async (...words: string[]) =>
    (await execute([process.execPath, resolve(projectRoot(), 'bin/nova-manage'), `--flagfile=${flagfile}`, ...words]))
      .stdout;

  await manage('user', 'create', 'ann', 'ann-access', 'ann-secret');
  await manage('project', 'create', 'apollo', 'ann');
  await manage('network', 'create', '10.0.0.0/20', '1', '4096');
  writeFileSync(join(dir, 'disk.img'), 'a disk');
  const id = /\((\w{8})\)/.exec(await manage('image', 'image_register', join(dir, 'disk.img'), 'apollo'))?.[1];
  if (id === undefined) throw new Error('nova-manage image image_register printed no id');

  const binaries = broker
    ? ['nova-network', 'nova-volume', 'nova-compute', 'nova-scheduler', 'nova-api']
    : ['nova-all'];
  const killable: Daemon[] = [];
  for (const binary of binaries) killable.push(await startDaemon(scope, binary, { flags: all }));
  const db = await connectDb(database);
  atEnd(scope, () => db.destroy());
  return {
    ec2: { url: `http://127.0.0.1:${ec2_port}/services/Cloud`, access: 'ann-access:apollo', secret: 'ann-secret' },
    openstack: { url: `http://127.0.0.1:${osapi_port}/v1.1/`, user: 'ann', key: 'ann-access', project: 'apollo' },
    s3_port,
    image: `ami-${id}`,
    db,
    killable,
    flags: all,
    flagfile,
    guests_file,
    volumes_file,
    manage,
  };
}
