/** How a hypervisor reaches a volume; what nova-volume answers to nova-compute. */
export type VolumeConnection =
  | {
      driver_volume_type: 'iscsi';
      /** `address:port` of the storage host. */
      target_portal: string;
      /** `iqn.2010-10.org.openstack:volume-0000000a` */
      target_iqn: string;
      target_lun: number;
      /** CHAP of this attachment alone. Never in a log or on a command line. */
      auth_username: string;
      auth_password: string;
    }
  /** The fake driver's: nothing is there to connect to. */
  | { driver_volume_type: 'fake' };

/** One volume of a guest, as a hypervisor driver needs it. */
export interface GuestVolume {
  volume_id: number;
  /** What the guest sees as the disk's serial: `vol-0000000a` (20 characters at most). */
  serial: string;
  /** As the user named it, without `/dev/`: `vdb`, `sdc`. Guests name disks in the order they come, so look for the serial. */
  device: string;
  /** GiB. */
  size_gb: number;
  /** The guest boots from it, instead of a disk made of its image. */
  boot: boolean;
  connection: VolumeConnection;
}
