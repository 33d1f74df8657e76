import type { NovaDb } from '../../common/db/connect.ts';
import type { Attempt } from '../../common/doctor.ts';
import type { Flags } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { Manager } from '../../common/manager.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import type { NetworkDriver } from '../drivers/driver.ts';
import type { NetworkRpc } from '../rpc.ts';

/** What every network manager is made of. */
export interface NetworkManagerDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  bus: RpcBus;
  host: string;
  driver: NetworkDriver;
}

export interface BringOptions {
  claim: boolean;
  attempt: Attempt;
}

/** The part of a manager that `nova-manage network doctor` runs, with a driver that looks or one that acts. */
export interface HostKeeper {
  /**
   * Brings this host to what the rows say, as at the daemon's start, and takes away what is left of networks that it does
   * not serve. @param claim whether a row may be written for an address of its own that the host lacks
   * @param attempt does each part
   * @returns why floating addresses cannot be as they should, or null
   */
  bringHost(options: BringOptions, signal: AbortSignal): Promise<string | null>;
}

export type NetworkManagerClass = new (deps: NetworkManagerDeps) => NetworkRpc & Manager & HostKeeper;
