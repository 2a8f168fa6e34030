import type { NativeLane } from "#streamserve/engine/native-engine.js";
import type { Truth } from "./truth.js";

/** How near log-probabilities come to the truth, over all positions that count. */
export interface Closeness {
  /** Mean Kullback-Leibler divergence from the truth, in nats. */
  readonly divergence: number;
  readonly perplexity: number;
  /** Share of positions at which the likeliest next id is the truth's. */
  readonly sameChoice: number;
}

/** Of an engine of ours. Blocks the thread while it computes every window. */
export function ourCloseness(lane: NativeLane, truth: Truth): Closeness {
  const { vocabulary } = lane.limits;
  let divergence = 0;
  let nll = 0;
  let same = 0;
  for (const [window, ids] of truth.windows.entries()) {
    const scores = lane.score(ids, truth.from);
    for (let row = 0; row < truth.rows; row++) {
      const own = scores.subarray(row * vocabulary, (row + 1) * vocabulary);
      const compared = truth.compare(window, row, own);
      divergence += compared.divergence;
      if (compared.sameChoice) same++;
      nll -= own[ids[truth.from + row + 1]!]!;
    }
  }
  const count = truth.windows.length * truth.rows;
  return { divergence: divergence / count, perplexity: Math.exp(nll / count), sameChoice: same / count };
}

/** From what `llama-perplexity --kl-divergence` says; undefined where it says something else. */
export function peerCloseness(said: string): Closeness | undefined {
  const read = (pattern: RegExp) => Number(pattern.exec(said)?.[1] ?? Number.NaN);
  const divergence = read(/Mean\s+KLD:\s*(-?[\d.]+)/);
  const perplexity = read(/Mean PPL\(Q\)\s*:\s*([\d.]+)/);
  const sameChoice = read(/Same top p:\s*([\d.]+)/) / 100;
  return [divergence, perplexity, sameChoice].every(Number.isFinite)
    ? { divergence, perplexity, sameChoice }
    : undefined;
}
