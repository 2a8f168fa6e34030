import { planOf } from "./random-plan.js";
import { runPlan } from "./run.js";
import type { RunResult } from "./run-result.js";

/** Plays seeds `from` to `to`: the job of a worker thread. Stops at the first violation. */
export default function playSeeds({ from, to }: { from: number; to: number }): RunResult[] {
  const results: RunResult[] = [];
  for (let seed = from; seed <= to; seed++) {
    const result = runPlan(planOf(seed));
    results.push(result);
    if (result.failure) break;
  }
  return results;
}
