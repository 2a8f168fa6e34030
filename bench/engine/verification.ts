import { median } from "#streamserve/report/statistics.js";
import type { LaneWorkload } from "./workload.js";

export interface Verification {
  /** 0: a plain decode step. */
  readonly drafts: number;
  /** Median over all rounds of a step's milliseconds. */
  readonly stepMs: number;
  /** Median over rounds of (its median step / that round's median plain step). */
  readonly relative: number;
}

const DRAFTS = [0, 1, 2, 4, 8, 16];
const PROMPT_TOKENS = 128;
const STEPS = 20;

/** Times steps that verify drafts of one sequence, all depths in every round. */
export function timeVerification(lane: LaneWorkload, rounds: number): Verification[] {
  const byRound = Array.from({ length: rounds }, () =>
    DRAFTS.map((drafts) => median(lane.verify(drafts, PROMPT_TOKENS, STEPS))),
  );
  return DRAFTS.map((drafts, index) => ({
    drafts,
    stepMs: median(byRound.map((round) => round[index]!)),
    relative: median(byRound.map((round) => round[index]! / round[0]!)),
  }));
}
