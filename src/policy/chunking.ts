/**
 * How a prefill step's token budget is shared out. Shortest remaining work first, because it gives the least
 * mean time to first token; but every millisecond of waiting counts as work done, so that a long prompt is
 * overtaken only for a bounded time. Interactive prompts come before offline ones.
 */

export interface Prefilling {
  /** Prompt tokens that have not been computed. */
  readonly remaining: number;
  /** When it came to the lane, in milliseconds. */
  readonly since: number;
  readonly offline: boolean;
}

/**
 * Orders `items` in place for the next step: interactive before offline, then by remaining tokens less what the
 * wait is worth (`agingTokensPerMs`: prompt tokens a millisecond). All wait alike, so the order of two items
 * depends on when they came and needs no clock.
 */
export function orderPrefills<P extends Prefilling>(items: P[], agingTokensPerMs: number): P[] {
  return items.sort(
    (a, b) =>
      Number(a.offline) - Number(b.offline) ||
      a.remaining + a.since * agingTokensPerMs - (b.remaining + b.since * agingTokensPerMs),
  );
}

/** Tokens of the next chunk of one item: all that remains, as far as the step's budget goes. */
export function chunkTokens(remaining: number, budget: number): number {
  return Math.min(remaining, budget);
}
