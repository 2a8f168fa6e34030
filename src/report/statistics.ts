/** Order statistics for measurements. All functions leave their arguments as they are. */

export interface Summary {
  readonly count: number;
  readonly mean: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * The p-th percentile (0..100) of values in ascending order, interpolated linearly between the two nearest
 * ranks. NaN for no values.
 */
export function percentile(ascending: readonly number[], p: number): number {
  if (ascending.length === 0) return Number.NaN;
  const rank = (Math.min(Math.max(p, 0), 100) / 100) * (ascending.length - 1);
  const below = ascending[Math.floor(rank)]!;
  const above = ascending[Math.ceil(rank)]!;
  return below + (above - below) * (rank - Math.floor(rank));
}

export function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

export function median(values: readonly number[]): number {
  return percentile(ascending(values), 50);
}

/**
 * The ascending values that are nearest to `values` in squares: neighbours that descend are averaged (pool adjacent
 * violators).
 */
export function ascendingFit(values: readonly number[]): number[] {
  const pools: { sum: number; count: number }[] = [];
  for (const value of values) {
    let pool = { sum: value, count: 1 };
    for (
      let last = pools.at(-1);
      last && last.sum / last.count > pool.sum / pool.count;
      last = pools.at(-1)
    ) {
      pool = { sum: last.sum + pool.sum, count: last.count + pool.count };
      pools.pop();
    }
    pools.push(pool);
  }
  return pools.flatMap(({ sum, count }) => Array<number>(count).fill(sum / count));
}

/** Mean and percentiles; every figure is NaN for no values. */
export function summarize(values: readonly number[]): Summary {
  const sorted = ascending(values);
  return {
    count: sorted.length,
    mean: sorted.reduce((sum, value) => sum + value, 0) / sorted.length,
    min: percentile(sorted, 0),
    p50: percentile(sorted, 50),
    p90: percentile(sorted, 90),
    p99: percentile(sorted, 99),
    max: percentile(sorted, 100),
  };
}

/** How much larger `ours` is than `theirs`, pair by pair: runs made one after the other share the machine's mood. */
export interface PairedRatio {
  readonly pairs: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Throws RangeError unless both hold the same number of runs, at least one. */
export function pairedRatio(ours: readonly number[], theirs: readonly number[]): PairedRatio {
  if (ours.length !== theirs.length || ours.length === 0) {
    throw new RangeError(`Paired runs differ in number: ${ours.length} and ${theirs.length}.`);
  }
  const ratios = ascending(ours.map((value, index) => value / theirs[index]!));
  return {
    pairs: ratios.length,
    median: percentile(ratios, 50),
    min: ratios[0]!,
    max: ratios[ratios.length - 1]!,
  };
}
