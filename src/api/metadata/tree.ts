import { ec2InstanceId } from '../../common/db/instances.ts';
import { ec2ImageId } from '../../common/db/images.ts';
import type { InstanceFacts, MpiHost } from '../../common/db/metadata_lookup.ts';
import { NAME, type Folder } from './walk.ts';

/** Nova's names for disks of an instance that was not given its own. */
const BLOCK_DEVICES: Folder = { ami: 'sda1', ephemeral0: 'sda2', root: '/dev/sda1', swap: 'sda3' };

/**
 * What stands below a version. A null is a leaf that is not there.
 * @param mpi hosts of the instance's project; only needed by who asks for `meta-data/mpi`
 * Source: Nova 2011.3 nova/api/ec2/cloud.py, get_metadata
 */
export function metadataTree(facts: InstanceFacts, mpi: readonly MpiHost[] = []): Folder {
  const image = (id: number | null, format: string): string | null => (id === null ? null : ec2ImageId(id, format));
  return {
    'user-data': facts.user_data === null ? null : Buffer.from(facts.user_data, 'base64'),
    'meta-data': {
      'ami-id': ec2ImageId(facts.image_id),
      'ami-launch-index': String(facts.launch_index),
      'ami-manifest-path': 'FIXME', // Nova's word; AWS's tools expect the entry
      'block-device-mapping': BLOCK_DEVICES,
      hostname: facts.hostname,
      'instance-action': 'none',
      'instance-id': ec2InstanceId(facts.id),
      'instance-type': facts.instance_type,
      'kernel-id': image(facts.kernel_id, 'aki'),
      'local-hostname': facts.hostname,
      'local-ipv4': facts.local_ipv4,
      mpi: mpiFolder(mpi),
      placement: { 'availability-zone': facts.availability_zone ?? 'unknown zone' },
      'public-hostname': facts.hostname,
      'public-ipv4': facts.public_ipv4 ?? '',
      'public-keys': publicKeys(facts),
      'ramdisk-id': image(facts.ramdisk_id, 'ari'),
      'reservation-id': facts.reservation_id,
      'security-groups': facts.security_groups,
    },
  };
}

function publicKeys({ key_name, key_data }: InstanceFacts): Folder | null {
  if (key_name === null || key_data === null) return null;
  return { 0: { [NAME]: label(key_name), 'openssh-key': key_data } };
}

/** Python's `splitlines` ends a line at these too, which a name may have within. */
const LINE_ENDS = '\\u0085\\u2028\\u2029';
const UNLISTABLE = new RegExp(`[${LINE_ENDS}]|/$`, 'g');
const NO_LEAF = new RegExp(`[${LINE_ENDS}/=]|^\\.\\.?$`);

/** A name as a listing shows it behind `0=`, where nobody asks by it: on one line, and not ending as a folder's does. */
const label = (name: string): string => name.replace(UNLISTABLE, encodeURIComponent);

/**
 * One leaf a key pair: a machine file for mpirun. Not AWS. Key pairs whose name no path can end with have none: a `/` would
 * part it, and cloud-init asks for `N/openssh-key` where it reads `N=`. At the first entry that is listed but not there it
 * throws all metadata away, in every guest of the project.
 */
function mpiFolder(hosts: readonly MpiHost[]): Folder {
  const by_key: Record<string, string[]> = Object.create(null) as Record<string, string[]>;
  for (const { key_name, address, vcpus } of hosts) {
    const name = key_name ?? 'None';
    if (!NO_LEAF.test(name)) (by_key[name] ??= []).push(`${address} slots=${vcpus}`);
  }
  return by_key;
}
