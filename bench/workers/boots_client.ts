import { sleep } from '../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { median } from '../figure.ts';
import { timeOf } from '../load.ts';
import { get, type Ask } from './http_get.ts';
import { answerParent } from './worker.ts';

/** An instance that does not run by then never will. */
const PATIENCE_MS = 60_000;

let db: NovaDb;
let run_instances: Ask;

async function open({ sql_connection, ask }: { sql_connection: string; ask: Ask }): Promise<void> {
  db = await connectDb(sql_connection, { max_connections: 1 });
  run_instances = ask;
}

async function launched(): Promise<{ asked: number; running: number }> {
  const rows = await db
    .selectFrom('instances')
    .select((e) => ['vm_state', 'task_state', e.fn.countAll().as('n')])
    .groupBy(['vm_state', 'task_state'])
    .execute();
  const sum = (of: typeof rows) => of.reduce((total, row) => total + Number(row.n), 0);
  const failed = rows.find((row) => row.vm_state === 'error');
  if (failed) throw new Error(`${String(failed.n)} instances are in error`);
  return { asked: sum(rows), running: sum(rows.filter((row) => row.vm_state === 'active' && row.task_state === null)) };
}

/** From `count` RunInstances of one instance each, until the last one runs. @returns instances a second */
async function many({ count, in_flight }: { count: number; in_flight: number }): Promise<number> {
  const wanted = (await launched()).running + count;
  const begin = performance.now();
  await timeOf(count, in_flight, () => get(run_instances));
  for (;;) {
    if ((await launched()).running >= wanted) return (count * 1000) / (performance.now() - begin);
    if (performance.now() - begin > PATIENCE_MS) throw new Error(`of ${count} instances not all run after a minute`);
    await sleep(5);
  }
}

/** One at a time, from the request until it is seen running. @returns the median in milliseconds */
async function single({ count }: { count: number }): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    await get(run_instances);
    while (!(await lastRuns())) {
      if (performance.now() - begin > PATIENCE_MS) throw new Error('an instance does not run after a minute');
      await sleep(1);
    }
    times.push(performance.now() - begin);
  }
  return median(times);
}

async function lastRuns(): Promise<boolean> {
  const row = await db
    .selectFrom('instances')
    .select(['vm_state', 'task_state'])
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
  return row?.vm_state === 'active' && row.task_state === null;
}

answerParent({ open, many, single });
