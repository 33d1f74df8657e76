import type { VolumeDriverDeps } from './driver.ts';
import { IscsiDriver } from './iscsi.ts';
import { LvmStore } from './lvm_store.ts';

/** LVM, exported over iSCSI: Nova's default. Nova exported by ietd, which needs a kernel module; tgtd needs none. */
export class ISCSIDriver extends IscsiDriver {
  constructor(deps: VolumeDriverDeps) {
    super(new LvmStore(deps), deps);
  }
}
