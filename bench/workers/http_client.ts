import { nowText } from '../../src/common/clock.ts';
import { connectDb, type NovaDb } from '../../src/common/db/connect.ts';
import { median } from '../figure.ts';
import { ratePerSecond } from '../load.ts';
import { get, type Ask } from './http_get.ts';
import { answerParent } from './worker.ts';

/** The requests in turn, again and again. */
function rate({ asks, in_flight, ms }: { asks: Ask[]; in_flight: number; ms: number }): Promise<number> {
  let asked = 0;
  return ratePerSecond(in_flight, ms, () => get(asks[asked++ % asks.length] as Ask));
}

/**
 * Medians in milliseconds of two requests that take turns, `count` of each, one at a time.
 * @param changing their databases, written to before each request, so that no answer is one that was kept
 */
async function latencies({ asks, changing, count }: Pair): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let i = 0; i < 2 * count; i++) {
    const turn = ((i + (i >> 1)) & 1) as 0 | 1; // 0 1 1 0 0 1 1 0: neither always follows the other
    await change(await database(changing[turn]));
    const begin = performance.now();
    await get(asks[turn]);
    times[turn].push(performance.now() - begin);
  }
  return [median(times[0]), median(times[1])];
}

export interface Pair {
  asks: [Ask, Ask];
  changing: [string, string];
  count: number;
}

const change = (db: NovaDb) => db.updateTable('instances').set({ updated_at: nowText() }).where('id', '=', 1).execute();

const databases = new Map<string, NovaDb>();
async function database(url: string): Promise<NovaDb> {
  const db = databases.get(url) ?? (await connectDb(url));
  databases.set(url, db);
  return db;
}

answerParent({ rate, latencies });
