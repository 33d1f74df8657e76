import { randomUUID } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// No cgroups, AppArmor or user of its own: its folders are the bounds.
const QEMU_CONF = `user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
remember_owner = 0
namespaces = [ ]
stdio_handler = "file"
`;
const PLACES = {
  run: '/run/libvirt',
  lib: '/var/lib/libvirt',
  etc: '/etc/libvirt',
  cache: '/var/cache/libvirt',
  log: '/var/log/libvirt',
};

/** Longer, and the socket's path is more than the 107 bytes that the kernel takes. */
export const LIBVIRTD_DIR_MAX = 107 - '/run/libvirt-sock'.length;

export interface OwnLibvirtd {
  /** To be run in a mount namespace: folders of `dir` take the place of the machine's. */
  mounts: string[][];
  argv: string[];
  uri: string;
}

/**
 * What a libvirtd of one's own takes, beside the machine's and without touching it: in `dir` a folder for each that
 * libvirtd uses, with what was left there by one that ran before.
 */
export function ownLibvirtd(dir: string): OwnLibvirtd {
  const mounts = Object.entries(PLACES).map(([name, place]) => {
    const folder = join(dir, name);
    const is_new = !existsSync(folder);
    mkdirSync(folder, { recursive: true });
    if (name === 'etc' && is_new) writeConfig(folder);
    return ['sh', '-c', 'mkdir -p "$1" && mount --bind "$0" "$1"', folder, place];
  });
  return {
    mounts,
    argv: ['libvirtd', '--pid-file', join(dir, 'libvirtd.pid')],
    uri: ownLibvirtdUri(dir),
  };
}

/** For who is outside of its mount namespace; inside, `qemu:///system` is this one too. */
export const ownLibvirtdUri = (dir: string): string => `qemu+unix:///system?socket=${join(dir, 'run', 'libvirt-sock')}`;

function writeConfig(folder: string): void {
  cpSync('/etc/libvirt', folder, { recursive: true });
  rmSync(join(folder, 'qemu', 'networks', 'autostart'), { recursive: true, force: true });
  writeFileSync(join(folder, 'qemu.conf'), QEMU_CONF);
  // The id is how a migration knows that the other host is another.
  writeFileSync(join(folder, 'libvirtd.conf'), `auth_unix_rw = "none"\nhost_uuid = "${randomUUID()}"\n`);
}
