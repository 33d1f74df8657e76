import { type TestContext } from 'node:test';
import { type RequestContext } from '../../../../src/common/context.ts';
import { writing, type NovaDb } from '../../../../src/common/db/connect.ts';
import { castJob } from '../../../../src/common/db/jobs.ts';
import { silentLog, type Log } from '../../../../src/common/log.ts';
import { cast, ofInstance, rpcClient, rpcContract } from '../../../../src/common/rpc/contract.ts';
import { JobWorker } from '../../../../src/common/rpc/job_worker.ts';
import { MemoryBus } from '../../../../src/common/rpc/memory_bus.ts';
import { aContext, aDatabase } from '../../../builders.ts';
import { until } from '../../../until.ts';

interface GuestRpc {
  run(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
  end(ctx: RequestContext, args: { instance_id: number }): Promise<void>;
}
const contract = rpcContract<GuestRpc>('guest', {
  run: cast('run', { resource: ofInstance, max_attempts: 2 }),
  end: cast('end', { resource: ofInstance, wins: true }),
});
export const client = rpcClient(contract, new MemoryBus());
export type Method = (ctx: RequestContext, args: { instance_id: number }) => Promise<void>;

export interface Rig {
  db: NovaDb;
  worker: JobWorker;
  failed: string[];
  ask(method: 'run' | 'end', instance_id: number): Promise<number>;
  /** Looks into the table until this job has one of the states. */
  settled(id: number, ...states: string[]): Promise<{ state: string; error: string | null; attempt: number }>;
  /** Until `run` was begun so often. */
  untilBegun(times: number): Promise<void>;
}

/** The worker of hostA for two methods, by its incarnation; `failed` has what came to onFailed. */
export async function aWorker(
  t: TestContext,
  methods: { run: Method; end?: Method },
  over: {
    incarnation?: string;
    db?: NovaDb;
    onFailed?: () => Promise<void>;
    log?: Log;
    lease_s?: number;
    poll_interval_s?: number;
  } = {},
): Promise<Rig> {
  const db = over.db ?? (await aDatabase(t));
  const failed: string[] = [];
  let begun = 0;
  const nothing: Method = async () => undefined;
  const entry = (run: Method, wins: boolean) => ({
    run: (ctx: RequestContext, args: Record<string, unknown>) => run(ctx, args as never),
    wins,
    patience_s: 300,
  });
  const worker = new JobWorker({
    db,
    log: over.log ?? silentLog,
    topic: 'guest',
    host: 'hostA',
    owner: `guest.hostA:${over.incarnation ?? 'one'}`,
    lease_s: over.lease_s ?? 30,
    methods: new Map([
      ['run', entry((ctx, args) => (begun++, methods.run(ctx, args)), false)],
      ['end', entry(methods.end ?? nothing, true)],
    ]),
    onFailed: async (_ctx, method, args, err) => {
      failed.push(`${method} ${String(args['instance_id'])}: ${err.message}`);
      await over.onFailed?.();
    },
    max_concurrent: 4,
    poll_interval_s: over.poll_interval_s ?? 1000,
  });
  t.after(() => worker.stop(0, 5000));
  return {
    db,
    worker,
    failed,
    ask: (method, instance_id) =>
      writing(db, (tx) => castJob(tx, aContext(), client.at('hostA')[method], { instance_id })),
    async untilBegun(times) {
      await until(`run was begun ${times} times`, () => begun >= times);
    },
    settled: (id, ...states) =>
      until(`job ${id} is ${states.join(' or ')}`, async () => {
        const job = db.selectFrom('jobs').select(['state', 'error', 'attempt']).where('id', '=', id);
        const row = await job.executeTakeFirstOrThrow();
        return states.includes(row.state) && row;
      }),
  };
}
