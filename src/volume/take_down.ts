import type { Flags } from '../common/flags.ts';
import type { Log } from '../common/log.ts';
import { Tgt } from './drivers/tgt/tgt.ts';

/**
 * Ends what nova-volume left running on this host: its tgtd. nova-volume must not run. Doing it again changes nothing.
 * @returns the targets that stay, and tgtd with them, since somebody has a session
 */
export const takeDownVolumes = (deps: { flags: Flags; log: Log }): Promise<string[]> => new Tgt(deps).end();
