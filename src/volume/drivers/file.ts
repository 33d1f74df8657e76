import type { VolumeDriverDeps } from './driver.ts';
import { FileStore } from './file_store.ts';
import { IscsiDriver } from './iscsi.ts';

/** Sparse files of this host, exported over iSCSI: the embedded default. */
export class FileISCSIDriver extends IscsiDriver {
  constructor(deps: VolumeDriverDeps) {
    super(new FileStore(deps), deps);
  }
}
