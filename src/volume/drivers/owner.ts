import { Conflict } from '../../common/errors.ts';
import type { BytesOwner } from './driver.ts';

/** Whether bytes with this token beside them (null: with none) are its own. */
export const isOwn = (found: string | null, { token, made }: BytesOwner): boolean =>
  found === null ? made : found === token;

/** What is to be made is there, and not whole and its own. */
export const notOwn = (name: string, where: string, flag: string): Conflict =>
  new Conflict(
    `bytes of the name ${name} are at ${where} already, which this cloud did not make for it: ` +
      `move them away, or set ${flag} to names that nothing there has`,
  );

export const VOLUME_NAMES = '--volume_name_template';
export const SNAPSHOT_NAMES = '--snapshot_name_template';
