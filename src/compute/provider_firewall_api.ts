import type { RequestContext } from '../common/context.ts';
import type { NovaDb } from '../common/db/connect.ts';
import { blockRange, providerRules, unblockRange } from '../common/db/provider_fw_rules.ts';
import { Conflict } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { RpcBus } from '../common/rpc/bus.ts';
import { ruleCidr } from './logic/security_rules.ts';
import { computeClient } from './rpc.ts';

/**
 * Ranges of addresses that no guest of the cloud hears from. In force on every compute host shortly after: a fanout tells
 * them, and their periodic pass finds what a lost message left undone. Source: Nova 2011.3 nova/api/ec2/admin.py.
 */
export class ProviderFirewallApi {
  readonly #db: NovaDb;
  readonly #bus: RpcBus;
  readonly #log: Log;
  readonly #compute: ReturnType<typeof computeClient>;

  constructor({ db, bus, log }: { db: NovaDb; bus: RpcBus; log: Log }) {
    this.#db = db;
    this.#bus = bus;
    this.#log = log;
    this.#compute = computeClient(bus);
  }

  /** @returns how many rules that made. @throws InvalidInput; Conflict when the range is blocked already */
  async block(ctx: RequestContext, range: string): Promise<number> {
    const cidr = ruleCidr(range);
    const added = await blockRange(this.#db, cidr);
    if (added === 0) throw new Conflict(`${cidr} is blocked already`);
    this.#log.info({ cidr, user_id: ctx.user_id }, 'traffic to all guests is blocked from here');
    await this.#changed(ctx);
    return added;
  }

  /** @returns the blocked ranges, sorted */
  async blocks(): Promise<string[]> {
    return [...new Set((await providerRules(this.#db)).map(({ cidr }) => cidr))].sort();
  }

  /** @returns how many rules went: 0 when the range was not blocked. @throws InvalidInput */
  async unblock(ctx: RequestContext, range: string): Promise<number> {
    const cidr = ruleCidr(range);
    const gone = await unblockRange(this.#db, cidr);
    if (gone === 0) return 0;
    this.#log.info({ cidr, user_id: ctx.user_id }, 'traffic is no longer blocked from here');
    await this.#changed(ctx);
    return gone;
  }

  /** A broker that is away delays the hosts until their next period, and the request is done all the same. */
  async #changed(ctx: RequestContext): Promise<void> {
    if (!this.#bus.connected) return;
    try {
      await this.#compute.everywhere.refreshProviderFwRules(ctx, {});
    } catch (err) {
      this.#log.info({ err }, 'hosts were not told of changed provider rules; they look by themselves');
    }
  }
}
