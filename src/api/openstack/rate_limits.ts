import { boolean, defineFlags } from '../../common/flags.ts';

export const rateLimitFlags = defineFlags({
  // Nova had them on, ten POSTs a minute: fewer than one script makes that launches a few servers.
  osapi_rate_limits: boolean(false, "Refuse requests of the OpenStack API that come faster than Nova's rate limits"),
});

const UNIT_S = { SECOND: 1, MINUTE: 60, HOUR: 3600, DAY: 86_400 };

export interface RateLimit {
  verb: string;
  /** For people. */
  uri: string;
  /** Looked for in the path below version and project, with its query. */
  regex: string;
  value: number;
  unit: keyof typeof UNIT_S;
}

/** Source: Nova 2011.3 nova/api/openstack/limits.py, DEFAULT_LIMITS */
export const RATE_LIMITS: readonly RateLimit[] = [
  { verb: 'POST', uri: '*', regex: '.*', value: 10, unit: 'MINUTE' },
  { verb: 'POST', uri: '*/servers', regex: '^/servers', value: 50, unit: 'DAY' },
  { verb: 'PUT', uri: '*', regex: '.*', value: 10, unit: 'MINUTE' },
  { verb: 'GET', uri: '*changes-since*', regex: '.*changes-since.*', value: 3, unit: 'MINUTE' },
  { verb: 'DELETE', uri: '*', regex: '.*', value: 100, unit: 'MINUTE' },
];

export interface Refusal {
  limit: RateLimit;
  /** Until the same request would be taken. */
  wait_s: number;
}
export interface RateState extends RateLimit {
  remaining: number;
  /** UTC ISO: when the next one is taken. */
  next_available: string;
}

/** Of one user and limit: how full, in seconds, when last looked at; it drains by itself. */
interface Bucket {
  level_s: number;
  at_s: number;
}
const USERS = 10_000;

/**
 * A leaky bucket for each user and limit, in the memory of this process. It holds the seconds of the limit's unit; each
 * request pours in its share (a tenth of a minute, for ten a minute), a second runs out each second, and a request that
 * would make it overflow is refused.
 */
export class RateLimits {
  readonly #limits: readonly (RateLimit & { pattern: RegExp })[];
  /** The longest idle first. */
  readonly #users = new Map<string, Map<RateLimit, Bucket>>();
  constructor(limits: readonly RateLimit[] = RATE_LIMITS) {
    this.#limits = limits.map((limit) => ({ ...limit, pattern: new RegExp(limit.regex) }));
  }

  /** Counts a request. @returns why it is refused; of several reasons the one with the shortest wait, as Nova told it */
  count(user: string, verb: string, path: string, now: Date): Refusal | undefined {
    const buckets = this.#bucketsOf(user);
    const refusals = this.#limits
      .filter((limit) => limit.verb === verb && limit.pattern.test(path))
      .flatMap((limit) => {
        const bucket = drained(buckets.get(limit), now);
        const capacity_s = UNIT_S[limit.unit];
        const level_s = bucket.level_s + capacity_s / limit.value;
        const over_s = level_s - capacity_s;
        if (over_s > 1e-9) return [{ limit, wait_s: over_s }];
        buckets.set(limit, { ...bucket, level_s });
        return [];
      });
    return refusals.toSorted((a, b) => a.wait_s - b.wait_s)[0];
  }

  /** What a user has left of each limit. */
  states(user: string, now: Date): RateState[] {
    const buckets = this.#users.get(user);
    return this.#limits.map(({ pattern: _pattern, ...limit }, i) => {
      const key = this.#limits[i];
      const { level_s } = drained(key && buckets?.get(key), now);
      const capacity_s = UNIT_S[limit.unit];
      const share_s = capacity_s / limit.value;
      const wait_s = Math.max(0, level_s + share_s - capacity_s);
      const remaining = Math.floor((capacity_s - level_s) / share_s + 1e-9);
      return { ...limit, remaining, next_available: new Date(now.getTime() + wait_s * 1000).toISOString() };
    });
  }

  #bucketsOf(user: string): Map<RateLimit, Bucket> {
    const buckets = this.#users.get(user) ?? new Map<RateLimit, Bucket>();
    this.#users.delete(user);
    this.#users.set(user, buckets);
    for (const [idle] of this.#users) {
      if (this.#users.size <= USERS) break;
      this.#users.delete(idle);
    }
    return buckets;
  }
}

function drained(bucket: Bucket | undefined, now: Date): Bucket {
  const at_s = now.getTime() / 1000;
  if (bucket === undefined) return { level_s: 0, at_s };
  return { level_s: Math.max(0, bucket.level_s - Math.max(0, at_s - bucket.at_s)), at_s };
}
