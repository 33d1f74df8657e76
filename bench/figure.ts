/** One line of the result: what `--json` writes and the table prints. */
export interface Figure {
  name: string;
  value: number;
  unit: string;
  /** The same work done with the bare library, measured in the same run; null where there is none. */
  limit: number | null;
  /** Of `value` to `limit`, each pair of neighbouring runs taken alone. */
  ratio: number | null;
  /** The bound that docs/benchmarks.md demands, of the value or of the ratio. */
  floor: number | null;
  /** Null: nothing is demanded. */
  ok: boolean | null;
}

/** What is demanded: of the ratio or of the value, at least or at most that much. */
export type Floor = { of: 'ratio' | 'value'; at_least: number } | { of: 'ratio' | 'value'; at_most: number };

export interface Measured {
  value: number;
  limit?: number;
  ratio?: number;
}

export function figure(name: string, unit: string, measured: Measured, floor?: Floor): Figure {
  const { value, limit = null } = measured;
  const ratio = measured.ratio ?? (limit === null ? null : value / limit);
  return {
    name,
    value,
    unit,
    limit,
    ratio,
    floor: floor ? bound(floor) : null,
    ok: floor ? holds(floor, value, ratio) : null,
  };
}

const bound = (floor: Floor): number => ('at_least' in floor ? floor.at_least : floor.at_most);

function holds(floor: Floor, value: number, ratio: number | null): boolean {
  const got = floor.of === 'value' ? value : ratio;
  if (got === null) throw new Error('a floor of a ratio needs a limit');
  return 'at_least' in floor ? got >= floor.at_least : got <= floor.at_most;
}

/** The middle one, or the mean of the two in the middle. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1];
  const high = sorted[Math.floor(middle)];
  if (low === undefined || high === undefined) throw new Error('the median of no numbers');
  return (low + high) / 2;
}

/**
 * Measures ours and the limit in turn, so that what else the machine does hits both: medians of each, and the median of the
 * ratios of neighbours. Every second round begins with the limit.
 */
export async function interleaved(
  rounds: number,
  ours: () => Promise<number>,
  limit: () => Promise<number>,
): Promise<Required<Measured>> {
  const values: number[] = [];
  const limits: number[] = [];
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 1) limits.push(await limit());
    values.push(await ours());
    if (round % 2 === 0) limits.push(await limit());
  }
  const ratios = values.map((value, i) => value / (limits[i] as number));
  return { value: median(values), limit: median(limits), ratio: median(ratios) };
}
