import type { PairSignals } from "./pair-signals.js";

/** What is asked of the router. */
export interface RouteQuery {
  /** Prompt tokens. */
  readonly promptTokens: number;
  /** Output tokens expected. */
  readonly outputTokens: number;
  /** KV blocks it may need. */
  readonly blocks: number;
  /** Prompt tokens that each pool is expected to hold, by pool; absent: none. */
  readonly cached?: ArrayLike<number>;
}

export interface SplitConstants {
  /** Rows in a step; more share steps in turn. */
  readonly maxRows: number;
  /** New tokens in a prefill step. */
  readonly stepTokens: number;
  /** Cost of moving a KV block between the lanes of a pair, in milliseconds; 0 in one pool. */
  readonly handOffBlockMs: number;
  /** A lane that is so much overdue with a step is taken to be that much later, in milliseconds. */
  readonly staleMs: number;
  /** What a missing KV block costs in waiting, in milliseconds. */
  readonly missingBlockMs: number;
  /** Weight of what the rows already in a lane lose beside what the new one gets. */
  readonly othersShare: number;
  /** Weight of how far a pair's time per token is above the mean of all, squared, as a share of that mean. */
  readonly unevenShare: number;
}

/** Lateness of which nothing new is heard is half as much after this time, in milliseconds: some requests' life. */
const LATE_HALF_MS = 1000;

/**
 * What a request would cost on the usual way through each pair: its prompt in the prefill lane, its output in the decode
 * lane. One pass over the columns of what is known, in which all that is the same for every pair is worked out once: a
 * decision among hundreds of pairs is mostly this.
 */
export class SplitPrices {
  /** Prompt tokens to compute, by pair. */
  readonly uncached: Float64Array;
  /** Predicted wait, computation and hand-off until the first token, in milliseconds, by pair. */
  readonly firstMs: Float64Array;
  /** The output, in milliseconds, by pair. What the rows already there lose counts beside what this one gets. */
  readonly outputMs: Float64Array;
  /** Mean over the pairs of the time per token that one more row would have, at the last decision; 0: none yet. */
  #meanTokenMs = 0;

  /** `pools[pair]`: the KV pool of that pair. */
  constructor(
    readonly signals: PairSignals,
    readonly pools: Uint32Array,
    readonly constants: SplitConstants,
  ) {
    this.uncached = new Float64Array(pools.length);
    this.firstMs = new Float64Array(pools.length);
    this.outputMs = new Float64Array(pools.length);
  }

  /** Fills in the columns of the pairs `from` to `to`, the last not among them. */
  work(query: RouteQuery, now: number, from = 0, to = this.pools.length): void {
    this.#countUncached(query, from, to);
    this.#workFirst(query, now, from, to);
    this.#workOutput(query, now, from, to);
  }

  /**
   * How much longer a pair's decode lane is predicted to stand still, in milliseconds: as long again as its step is
   * overdue. 0 where nothing is due.
   */
  stillMs(pair: number, now: number): number {
    const { signals } = this;
    const { decodeSince, decodePace, prefillPace, rows, context } = signals;
    const overdue = now - decodeSince[pair]! - this.constants.staleMs;
    if (!(overdue > 0)) return 0;
    const prompt = Math.min(signals.directAhead[pair]!, this.constants.stepTokens);
    const step = signals.decodeStepMs(rows[pair]!, context[pair]!) + (prompt / 1000) * prefillPace.firstMs;
    return Math.max(0, overdue - step * decodePace.factor(pair));
  }

  #countUncached({ promptTokens, cached }: RouteQuery, from: number, to: number): void {
    const { uncached, pools } = this;
    if (cached === undefined) uncached.fill(promptTokens, from, to);
    else for (let pair = from; pair < to; pair++) uncached[pair] = promptTokens - cached[pools[pair]!]!;
  }

  #workFirst({ promptTokens, blocks }: RouteQuery, now: number, from: number, to: number): void {
    const { uncached, firstMs } = this;
    const { handOffBlockMs, missingBlockMs, staleMs, stepTokens } = this.constants;
    const {
      ahead,
      blocksSent,
      spare,
      prefillAt,
      prefillSince,
      lateMs,
      missedFirst,
      prefillPace: pace,
    } = this.signals;
    const missed = missedFirst.any;
    const { factors, fixedMs } = pace;
    const tokenMs = pace.firstMs / 1000;
    // A prompt attends to half of itself on average.
    const attendMs = (promptTokens * pace.secondMs) / 2e6;
    const moveMs = blocks * handOffBlockMs;
    for (let pair = from; pair < to; pair++) {
      const waiting = ahead[pair]!;
      const own = uncached[pair]!;
      const tokens = waiting + own;
      const steps = Math.ceil(tokens / stepTokens);
      let ms = (tokens * tokenMs + steps * fixedMs + own * attendMs) * factors[pair]! + moveMs;
      const missing = blocks + blocksSent[pair]! - spare[pair]!;
      if (missing > 0) ms += missing * missingBlockMs;
      const overdue = now - prefillSince[pair]! - staleMs;
      if (overdue > 0) {
        const step = Math.min(waiting, stepTokens) * tokenMs + fixedMs;
        ms += Math.max(0, overdue - step * factors[pair]!);
      }
      const late = lateMs[pair]!;
      if (late > 0) ms += (late * LATE_HALF_MS) / (LATE_HALF_MS + now - prefillAt[pair]!);
      if (missed) ms += missedFirst.aboveMs(pair, now);
      firstMs[pair] = ms;
    }
  }

  /**
   * What a time per token above the mean of all pairs costs besides, a token. A sum of delays forgets its tail: a pair
   * whose answers all are slow would be worth a cached prefix to every request, one by one.
   */
  unevenMs(tokenMs: number): number {
    const mean = this.#meanTokenMs;
    const above = tokenMs - mean;
    return above > 0 && mean > 0 ? (this.constants.unevenShare * above * above) / mean : 0;
  }

  #workOutput({ promptTokens, outputTokens }: RouteQuery, now: number, from: number, to: number): void {
    const { outputMs } = this;
    const { maxRows, othersShare, staleMs, stepTokens } = this.constants;
    const {
      alive,
      decodeSince,
      directAhead,
      missedTokens,
      prefillPace,
      requests,
      rowContext,
      drawn,
      decodePace: pace,
    } = this.signals;
    const { factors, fixedMs } = pace;
    const rowMs = pace.firstMs;
    const contextMs = pace.secondMs / 1000;
    const ownMs = contextMs * promptTokens;
    const others = othersShare * (rowMs + ownMs);
    const promptMs = prefillPace.firstMs / 1000;
    const perToken = 1 / outputTokens;
    const missed = missedTokens.any;
    let sum = 0;
    let living = 0;
    for (let pair = from; pair < to; pair++) {
      const rows = requests[pair]!;
      const speed = factors[pair]! / drawn[pair]!;
      let step = fixedMs + rowMs * (rows + 1) + contextMs * rowContext[pair]!;
      let delay = others * rows;
      if (rows >= maxRows) {
        // What does not fit a step waits for others in turn.
        step += (fixedMs * (rows + 1 - maxRows)) / maxRows;
        delay += (fixedMs * othersShare * rows) / maxRows;
      }
      let own = (step + ownMs) * speed;
      if (missed) own += missedTokens.aboveMs(pair, now);
      const overdue = now - decodeSince[pair]! - staleMs;
      if (overdue > 0) {
        const prompt = Math.min(directAhead[pair]!, stepTokens) * promptMs;
        own += Math.max(0, overdue - (step + prompt) * factors[pair]!) * perToken;
      }
      outputMs[pair] = outputTokens * (own + delay * speed + this.unevenMs(own));
      if (alive[pair] !== 3) continue;
      sum += step * speed;
      living++;
    }
    // A look at one pair says nothing of the others.
    if (living > 0 && to - from === this.pools.length) this.#meanTokenMs = sum / living;
  }
}
