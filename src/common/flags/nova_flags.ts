import type { FlagDefs } from './define.ts';
import { cactusDaemonFlags } from './nova/daemons.ts';
import { diabloFlags } from './nova/diablo.ts';
import { cactusOtherFlags } from './nova/others.ts';

/**
 * Every flag of Nova 2011.2 (285) and those that 2011.3 added (86), so that an operator's flagfile is accepted as it is.
 * One that this suite reads is declared again where it is read, and that declaration counts; the others have no effect.
 */
export const novaFlags: FlagDefs = { ...cactusDaemonFlags, ...cactusOtherFlags, ...diabloFlags };
