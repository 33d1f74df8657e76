import { DbAuthenticator } from '../common/auth/db_authenticator.ts';
import { endpointFlags, serviceFlags } from '../common/core_flags.ts';
import { runDaemon } from '../common/daemon.ts';
import { FlagsError, errorText } from '../common/errors.ts';
import { defineFlags, string } from '../common/flags.ts';
import { findStoredImage, imageFlags } from '../common/image/store.ts';
import { listen } from '../common/listen.ts';
import { Service, type Daemon, type Running } from '../common/service.ts';
import { s3Server } from './app.ts';
import { objectSource } from './drivers/object_source.ts';
import { openStore, type Store } from './drivers/store.ts';
import { ObjectstoreManager } from './manager/objectstore.ts';
import { objectstoreContract } from './rpc.ts';

export const objectstoreFlags = defineFlags({
  buckets_path: string('$state_path/buckets', 'Folder of the buckets; one nova-objectstore serves it'),
  s3_listen: string('0.0.0.0', 'Address the object store listens on, at --s3_port'),
});

export async function start(daemon: Daemon): Promise<Running> {
  const { flags, log, db } = daemon;
  const { buckets_path, s3_listen } = flags.read(objectstoreFlags);
  const { images_path } = flags.read(imageFlags);
  const store = openBuckets(buckets_path);
  const server = s3Server({
    store,
    authenticator: new DbAuthenticator({ db, flags }),
    findImage: (checksum) => findStoredImage(db, images_path, checksum),
    log,
  });
  const listening = await listen(server, s3_listen, flags.read(endpointFlags).s3_port, 's3_port', log);
  const manager = new ObjectstoreManager({ ...daemon, objects: objectSource(store), sweep: () => store.sweep() });
  const service = await Service.start({
    ...daemon,
    binary: 'nova-objectstore',
    contract: objectstoreContract,
    manager,
  });
  return {
    async stop() {
      await listening.close(flags.read(serviceFlags).graceful_stop_timeout * 1000);
      await service.stop();
    },
  };
}

/** @throws FlagsError */
function openBuckets(buckets_path: string): Store {
  try {
    return openStore(buckets_path);
  } catch (err) {
    throw new FlagsError(`--buckets_path=${buckets_path}: ${errorText(err)}. Give a folder that can be written`, {
      cause: err,
    });
  }
}

export const main = (): Promise<void> => runDaemon('nova-objectstore', start);
