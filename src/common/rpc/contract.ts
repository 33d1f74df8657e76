import type { RequestContext } from '../context.ts';
import { RpcUnavailable } from '../errors.ts';
import type { RpcBus, Target } from './bus.ts';

/** The caller waits for the answer; asking twice is asking once. */
export interface CallSpec {
  kind: 'call';
  wire: string;
}
/** A job: survives every process, runs at least once. */
export interface CastSpec {
  kind: 'cast';
  wire: string;
  /** What it works on, `instance:12`: on one host the jobs of a resource run one after the other. */
  resource?: (args: never) => string;
  /** It aborts what else runs on its resource: delete wins. */
  wins: boolean;
  /** Claims before the job counts as failed. */
  max_attempts: number;
  /** Seconds that it waits for whoever does not answer; only then it counts as failed. */
  patience_s: number;
}
export type MethodSpec = CallSpec | CastSpec;

export const call = (wire: string): CallSpec => ({ kind: 'call', wire });
export const cast = (
  wire: string,
  options: Partial<Pick<CastSpec, 'resource' | 'wins' | 'max_attempts' | 'patience_s'>> = {},
): CastSpec => ({ kind: 'cast', wire, wins: false, max_attempts: 5, patience_s: 300, ...options });

/** Ready made `resource` for args that name an instance. */
export const ofInstance = (args: { instance_id: number }): string => instanceResource(args.instance_id);
export const instanceResource = (id: number): string => `instance:${id}`;

/** Every method of an RPC interface takes a context and one object of named arguments, as Nova's do on the wire. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the one place that speaks of methods of any shape
export type RpcInterface<T> = { [K in keyof T]: (ctx: RequestContext, args: any) => Promise<any> };

export interface Contract<T extends RpcInterface<T>> {
  readonly topic: string;
  readonly methods: { readonly [K in keyof T]: MethodSpec };
  /** Wire name to method name: the allow-list of what the queue can reach. */
  readonly by_wire: ReadonlyMap<string, keyof T & string>;
}

export function rpcContract<T extends RpcInterface<T>>(
  topic: string,
  methods: { [K in keyof T]: MethodSpec },
): Contract<T> {
  const by_wire = new Map<string, keyof T & string>();
  for (const name of Object.keys(methods) as (keyof T & string)[]) by_wire.set(methods[name].wire, name);
  return { topic, methods, by_wire };
}

/** One method at one target: called as a function when it is a call, handed to `castJob` when it is a cast. */
export interface RpcMethod<A, R> {
  (ctx: RequestContext, args: A): Promise<R>;
  readonly target: Target;
  readonly spec: MethodSpec;
}
export type RpcMethods<T> = {
  readonly [K in keyof T]: T[K] extends (ctx: RequestContext, args: infer A) => Promise<infer R>
    ? RpcMethod<A, R>
    : never;
};
/** Without `at`, whichever host takes it. */
export type RpcClient<T> = RpcMethods<T> & {
  at(host: string): RpcMethods<T>;
  /** Every worker of the topic; a nudge, never the only carrier of a fact. */
  readonly everywhere: RpcMethods<T>;
};

type Asks = Pick<RpcBus, 'call' | 'fanout'>;

export function rpcClient<T extends RpcInterface<T>>(contract: Contract<T>, bus: Asks): RpcClient<T> {
  const methods = (target: Target, how: 'one' | 'all'): RpcMethods<T> => {
    const made: Record<string, unknown> = {};
    for (const [name, spec] of Object.entries(contract.methods) as [string, MethodSpec][]) {
      const ask = (context: RequestContext, args: Record<string, unknown>): Promise<unknown> => {
        if (how === 'all') return bus.fanout(target.topic, { method: spec.wire, args, context });
        if (spec.kind === 'call')
          return bus.call(target, { method: spec.wire, args, context }, { signal: context.signal });
        throw new Error(`${contract.topic}.${spec.wire} is a cast: hand it to castJob inside a transaction`);
      };
      made[name] = Object.assign(ask, { target, spec });
    }
    return made as RpcMethods<T>;
  };
  const topic = contract.topic;
  return Object.assign(methods({ topic, host: null }, 'one'), {
    at: (host: string) => methods({ topic, host }, 'one'),
    everywhere: methods({ topic, host: null }, 'all'),
  });
}

/** For who only casts: a cast is a row, so no bus is needed. Its calls fail. */
export const castClient = <T extends RpcInterface<T>>(contract: Contract<T>): RpcClient<T> =>
  rpcClient(contract, NO_BUS);

const noBus = async (): Promise<never> => {
  throw new RpcUnavailable('this process has no message bus, and can only leave jobs');
};
const NO_BUS: Asks = { call: noBus, fanout: noBus };
