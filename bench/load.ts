/** Keeps `in_flight` of `one` running for `ms`. @returns how many ended, a second */
export async function ratePerSecond(in_flight: number, ms: number, one: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  let done = 0;
  const lane = async () => {
    while (performance.now() - begin < ms) {
      await one();
      done++;
    }
  };
  await Promise.all(Array.from({ length: in_flight }, lane));
  return (done * 1000) / (performance.now() - begin);
}

/** Runs `one` `count` times, `in_flight` at once. @returns milliseconds from the first to the last */
export async function timeOf(count: number, in_flight: number, one: (n: number) => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  let next = 0;
  const lane = async () => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: in_flight }, lane));
  return performance.now() - begin;
}
