import { runPlan } from "./run.js";
import { describeFailure, type RunResult } from "./run-result.js";
import type { Scenario } from "./scenario.js";

export interface ScenarioResult {
  readonly results: readonly RunResult[];
  /** What went wrong, in full; undefined when all is well. */
  readonly wrong: string | undefined;
}

/** Plays all plans of a scenario; stops at the first violation. */
export function playScenario(scenario: Scenario): ScenarioResult {
  const results: RunResult[] = [];
  for (const plan of scenario.plans()) {
    const result = runPlan(plan);
    results.push(result);
    if (result.failure) return { results, wrong: describeFailure(result) };
  }
  return { results, wrong: scenario.judge?.(results) };
}
