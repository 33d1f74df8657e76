import { isDeepStrictEqual } from 'node:util';
import { Coalesced } from '../../common/coalesced.ts';
import type { RequestContext } from '../../common/context.ts';
import type { NovaDb } from '../../common/db/connect.ts';
import { firewallRows } from '../../common/db/guest_firewall.ts';
import { sourceGroupsOf } from '../../common/db/security_groups.ts';
import { boolean, defineFlags, type Flags, type FlagValues } from '../../common/flags.ts';
import type { Log } from '../../common/log.ts';
import type { RpcBus } from '../../common/rpc/bus.ts';
import type { FirewallDriver } from '../drivers/driver.ts';
import { computeClient } from '../rpc.ts';
import { instanceFirewall, type InstanceFirewall } from '../logic/instance_firewall.ts';

export const guestFirewallFlags = defineFlags({
  allow_project_net_traffic: boolean(
    true,
    'Guests of one network reach each other, whatever their security groups say',
  ),
  allow_same_net_traffic: boolean(true, "Diablo's name of --allow_project_net_traffic: either turned off is off"),
  use_ipv6: boolean(false, 'Give networks and guests IPv6 as well'),
});

/** What the database says of a host's guests by now. */
export async function wantedFirewall(
  db: NovaDb,
  host: string,
  { allow_project_net_traffic, allow_same_net_traffic, use_ipv6 }: FlagValues<typeof guestFirewallFlags>,
): Promise<InstanceFirewall> {
  const same_net = allow_project_net_traffic && allow_same_net_traffic;
  return instanceFirewall(await firewallRows(db, host), { allow_project_net_traffic: same_net, use_ipv6 });
}

export interface GuestFirewallDeps {
  db: NovaDb;
  flags: Flags;
  log: Log;
  bus: RpcBus;
  host: string;
  /** Null: nothing is enforced here. */
  firewall: FirewallDriver | null;
}

/**
 * The security groups of this host's guests, in force. What holds is in the database, so that every call does the same:
 * read, compute, apply. Without a driver it does nothing.
 */
export class GuestFirewall {
  readonly #d: GuestFirewallDeps;
  readonly #flags: FlagValues<typeof guestFirewallFlags>;
  readonly #compute: ReturnType<typeof computeClient>;
  readonly #refresh: Coalesced;
  /** Of the daemon: work that serves many callers does not end with one of them. */
  #signal = new AbortController().signal;
  /** What this process last brought about. */
  #applied: InstanceFirewall | undefined;
  /** Whether the next run looks at the host, whatever was applied. */
  #look = true;
  #taps: readonly string[] = [];

  constructor(deps: GuestFirewallDeps) {
    this.#d = deps;
    this.#flags = deps.flags.read(guestFirewallFlags);
    this.#compute = computeClient(deps.bus);
    this.#refresh = new Coalesced(() => this.#bring());
  }

  /** Guests that run are under their rules when it returns. @throws BackendUnavailable */
  async initHost(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    if (this.#d.firewall === null) return;
    await this.#d.firewall.initHost(signal);
    await this.repair();
  }

  /** What the database says by now is in force when it returns. @throws BackendUnavailable */
  async refresh(): Promise<void> {
    if (this.#d.firewall !== null) await this.#refresh.run();
  }

  /** The same, after a look at what the host really has: somebody may have changed it. @throws BackendUnavailable */
  async repair(): Promise<void> {
    await this.#d.firewall?.filterBridges(this.#signal);
    this.#look = true;
    await this.refresh();
    await this.plugged();
  }

  /** After a guest started, when its cards are in the bridge. Without this it runs well, but does not reach its own floating address. */
  async plugged(): Promise<void> {
    try {
      await this.#d.firewall?.reflect(this.#taps, this.#signal);
    } catch (err) {
      this.#d.log.warn({ err }, 'guests do not reach their own floating addresses until the next period');
    }
  }

  async #bring(): Promise<void> {
    const { db, host, firewall } = this.#d;
    const wanted = await wantedFirewall(db, host, this.#flags);
    const before = this.#look ? undefined : this.#applied;
    this.#look = false;
    if (isDeepStrictEqual(wanted, before)) return;
    this.#applied = undefined;
    await firewall?.apply(wanted, this.#signal, before);
    this.#taps = wanted.taps;
    this.#applied = wanted;
  }

  /** Before a guest starts: its rules are there, and hosts whose guests let its groups in know its address. */
  async join(ctx: RequestContext, instance_id: number): Promise<void> {
    await this.refresh();
    await this.#tellMembers(ctx, instance_id);
  }

  /** A guest gave its addresses back. What fails here is put right by the next period. */
  async leave(ctx: RequestContext, instance_id: number): Promise<void> {
    try {
      await this.refresh();
    } catch (err) {
      this.#d.log.warn({ err, instance_id }, 'rules of a guest that is gone stay until the next period');
    }
    await this.#tellMembers(ctx, instance_id);
  }

  async #tellMembers(ctx: RequestContext, instance_id: number): Promise<void> {
    const { db, bus, log } = this.#d;
    for (const security_group_id of bus.connected ? await sourceGroupsOf(db, instance_id) : [])
      try {
        await this.#compute.everywhere.refreshSecurityGroupMembers(ctx, { security_group_id });
      } catch (err) {
        log.info({ err, security_group_id }, 'hosts were not told of new members; they look by themselves');
      }
  }
}
