import { planOf } from "./random-plan.js";
import { runPlan } from "./run.js";
import type { RunResult } from "./run-result.js";

export interface SeedJob {
  readonly from: number;
  readonly to: number;
  /** See `planOf`. */
  readonly requests?: number | undefined;
}

/** Plays seeds `from` to `to`: the job of a worker thread. Stops at the first violation. */
export default function playSeeds({ from, to, requests }: SeedJob): RunResult[] {
  const results: RunResult[] = [];
  for (let seed = from; seed <= to; seed++) {
    const result = runPlan(planOf(seed, requests));
    results.push(result);
    if (result.failure) break;
  }
  return results;
}
