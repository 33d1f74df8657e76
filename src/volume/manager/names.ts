import { createHash } from 'node:crypto';
import { nameFlags } from '../../common/core_flags.ts';
import type { Snapshot } from '../../common/db/snapshots.ts';
import type { Volume } from '../../common/db/volumes.ts';
import type { Flags } from '../../common/flags.ts';
import type { BytesOwner, SnapshotSpec, VolumeSpec } from '../drivers/driver.ts';
import { idOfName, nameOf } from '../logic/names.ts';

/** What volumes and snapshots are called at the store. */
export class StoreNames {
  readonly #volume: string;
  readonly #snapshot: string;
  constructor(flags: Flags) {
    const { volume_name_template, snapshot_name_template } = flags.read(nameFlags);
    this.#volume = volume_name_template;
    this.#snapshot = snapshot_name_template;
  }

  volume(row: Volume): VolumeSpec {
    return { id: row.id, name: nameOf(this.#volume, row.id), size: row.size, ...ownerOf('volume', row) };
  }
  snapshot(row: Snapshot): SnapshotSpec {
    const { id, volume_id, volume_size: size } = row;
    const volume = { id: volume_id, name: nameOf(this.#volume, volume_id), size };
    return { id, name: nameOf(this.#snapshot, id), volume, size, ...ownerOf('snapshot', row) };
  }

  /** Undefined: the name is none of ours. */
  volumeId = (name: string): number | undefined => idOfName(this.#volume, name);
  snapshotId = (name: string): number | undefined => idOfName(this.#snapshot, name);
}

/** Of what a row never changes; a database that is made anew gives the same number again, but at another moment. */
function ownerOf(kind: 'volume' | 'snapshot', row: Volume | Snapshot): BytesOwner {
  const { id, created_at, project_id, user_id, provider_location } = row;
  const digest = createHash('sha256').update(JSON.stringify([kind, id, created_at, project_id, user_id]));
  return { token: `nova-${digest.digest('hex').slice(0, 32)}`, made: provider_location !== null };
}
