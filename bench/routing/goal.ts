import { type PairedRatio, pairedRatio } from "#streamserve/report/statistics.js";
import type { RoutingFigures } from "./routing-job.js";

/** A router's figures, a run for each seed. */
export interface Measured {
  readonly name: string;
  readonly runs: readonly RoutingFigures[];
}

/** Slowest first tokens, and slowest tokens after them. */
export const TAILS = [
  ["TTFT", ({ firstTokenMs }: RoutingFigures) => firstTokenMs.p99],
  ["TPOT", ({ tokenMs }: RoutingFigures) => tokenMs.p99],
] as const;

/** What FlowGuard may be behind the best substitute, and how much sooner it is to be than round robin in skewed scenarios. */
const BEHIND = 0.03;
const AHEAD = 1.5;

/** Whether FlowGuard's slowest percent is what is asked of it. */
export interface Verdict {
  /** Of which figure. */
  readonly tail: string;
  /** The substitute that FlowGuard does worst beside, by the median over seeds, and FlowGuard's figure over its. */
  readonly best: string;
  readonly overBest: PairedRatio;
  /** Round robin's figure over FlowGuard's. */
  readonly ahead: PairedRatio;
  readonly holds: boolean;
}

/**
 * Ratios are taken seed by seed, and their median decides: the best of several noisy substitutes on each seed would be
 * better than any of them. `ours` and all of `others` have the same seeds; one of them is round robin.
 */
export function judge(ours: Measured, others: readonly Measured[], skewed: boolean): Verdict[] {
  return TAILS.map(([tail, of]) => {
    const beside = (other: Measured) => pairedRatio(ours.runs.map(of), other.runs.map(of));
    const ratios = others.map((other) => ({ name: other.name, ratio: beside(other) }));
    const worst = ratios.reduce((most, one) => (one.ratio.median > most.ratio.median ? one : most));
    const roundRobin = others.find(({ name }) => name === "round robin")!;
    const ahead = pairedRatio(roundRobin.runs.map(of), ours.runs.map(of));
    // The slowest tokens are those of the fullest decode steps: where prompts are skewed no router changes these much.
    const enough = !skewed || tail !== "TTFT" || ahead.median >= AHEAD;
    const holds = worst.ratio.median <= 1 + BEHIND && enough;
    return { tail, best: worst.name, overBest: worst.ratio, ahead, holds };
  });
}
