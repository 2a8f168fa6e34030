import type { NativeLane } from "#streamserve/engine/native-engine.js";
import type { Truth } from "./truth.js";

/** How near log-probabilities come to the truth, over all positions that count. */
export interface Closeness {
  /** Mean Kullback-Leibler divergence from the truth, in nats. */
  readonly divergence: number;
  readonly perplexity: number;
  /** ln of the perplexity over the truth's, and the standard error of that: how much of it may be chance. */
  readonly excess: { readonly mean: number; readonly error: number };
  /** Share of positions at which the likeliest next id is the truth's. */
  readonly sameChoice: number;
}

/** Of an engine of ours. Blocks the thread while it computes every window. */
export function ourCloseness(lane: NativeLane, truth: Truth): Closeness {
  const { vocabulary } = lane.limits;
  let divergence = 0;
  let nll = 0;
  let same = 0;
  const excesses: number[] = [];
  for (const [window, ids] of truth.windows.entries()) {
    const scores = lane.score(ids, truth.from);
    for (let row = 0; row < truth.rows; row++) {
      const own = scores.subarray(row * vocabulary, (row + 1) * vocabulary);
      const compared = truth.compare(window, row, own);
      divergence += compared.divergence;
      if (compared.sameChoice) same++;
      const next = ids[truth.from + row + 1]!;
      nll -= own[next]!;
      excesses.push(truth.logprob(window, row, next) - own[next]!);
    }
  }
  const count = excesses.length;
  return {
    divergence: divergence / count,
    perplexity: Math.exp(nll / count),
    excess: { mean: mean(excesses), error: standardError(excesses) },
    sameChoice: same / count,
  };
}

/** From what `llama-perplexity --kl-divergence` says; undefined where it says something else. */
export function peerCloseness(said: string): Closeness | undefined {
  const read = (pattern: RegExp) => Number(pattern.exec(said)?.[1] ?? Number.NaN);
  const divergence = read(/Mean\s+KLD:\s*(-?[\d.]+)/);
  const perplexity = read(/Mean PPL\(Q\)\s*:\s*([\d.]+)/);
  const excess = /Mean ln\(PPL\(Q\)\/PPL\(base\)\)\s*:\s*(-?[\d.]+) ±\s*([\d.]+)/.exec(said);
  const [excessMean, excessError] = [Number(excess?.[1] ?? Number.NaN), Number(excess?.[2] ?? Number.NaN)];
  const sameChoice = read(/Same top p:\s*([\d.]+)/) / 100;
  return [divergence, perplexity, excessMean, excessError, sameChoice].every(Number.isFinite)
    ? { divergence, perplexity, excess: { mean: excessMean, error: excessError }, sameChoice }
    : undefined;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardError(values: readonly number[]): number {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}
