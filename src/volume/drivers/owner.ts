import { Conflict } from '../../common/errors.ts';
import type { BytesOwner, SnapshotSpec, VolumeSpec } from './driver.ts';

/** Whether bytes with this token beside them (null: with none) are its own. */
export const isOwn = (found: string | null, { token, made }: BytesOwner): boolean =>
  found === null ? made : found === token;

/** What is to be made is there, under this name of the store, and not whole and its own. */
export function notOwn(name: string, where: string, spec: VolumeSpec | SnapshotSpec): Conflict {
  const flag = 'volume' in spec ? '--snapshot_name_template' : '--volume_name_template';
  return new Conflict(
    `bytes of the name ${name} are at ${where} already, which this cloud did not make for it: ` +
      `move them away, or set ${flag} to names that nothing there has`,
  );
}
