import { GREEDY, type Sampling } from "../engine/engine.js";
import { PROVISIONAL_CPU } from "../engine/simulated-cost.js";
import type { Plan } from "./plan.js";
import { EAGER, type PlannedRequest, type Topology } from "./plan.js";
import { Random } from "./random.js";
import type { RunResult } from "./run-result.js";

/** A named situation: what is played, and what must have come of it besides the invariants. */
export interface Scenario {
  readonly name: string;
  /** One line for `--list`. */
  readonly about: string;
  /** Row of the hazards table that it shows; undefined for scenarios of our own. */
  readonly hazard?: string;
  /** What the simulator can't show of the hazard, and which tests do. */
  readonly elsewhere?: string;
  readonly plans: () => readonly Plan[];
  /** What is wrong with the results (in the order of the plans), if anything. */
  readonly judge?: (results: readonly RunResult[]) => string | undefined;
}

export const TOPOLOGY: Topology = {
  pairs: 2,
  model: { seed: 77, vocabulary: 64, draftability: 0.8 },
  cost: PROVISIONAL_CPU,
  contextTokens: 512,
  blockTokens: 32,
  totalBlocks: 256,
  prefill: { maxRows: 16, maxBatchTokens: 256 },
  decode: { maxRows: 64, maxBatchTokens: 256 },
  maxWaiting: 1024,
  maxRunning: 256,
  maxDepth: 8,
  ringBytes: 1 << 18,
  promptSlabBytes: 1 << 22,
  stepNoise: 0.1,
};

export interface Uniform {
  readonly seed: number;
  readonly count: number;
  readonly everyMs: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
}

/** Requests of one size at even distances; `change` may alter each. */
export function uniform(
  { seed, count, everyMs, promptTokens, maxTokens }: Uniform,
  change: (request: PlannedRequest, number: number) => PlannedRequest = (request) => request,
): PlannedRequest[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, number) =>
    change(
      {
        atMs: number * everyMs,
        prompt: promptOf(random, promptTokens),
        maxTokens,
        sampling: samplingOf(number),
        class: "interactive",
        deadlineMs: 0,
        reader: EAGER,
      },
      number,
    ),
  );
}

export function promptOf(random: Random, tokens: number): number[] {
  return Array.from({ length: tokens }, () => random.between(0, TOPOLOGY.model.vocabulary - 1));
}

/** Log-probabilities are asked for: they show wrong KV at once. */
export function samplingOf(number: number): Sampling {
  return { ...GREEDY, seed: number + 1, logprobs: 0 };
}

export function plan(name: string, parts: Partial<Omit<Plan, "name">> & Pick<Plan, "requests">): Plan {
  return { name, seed: 1, topology: TOPOLOGY, faults: [], ...parts };
}

/** Of a result: how many requests ended in each way. */
export function outcomes(result: RunResult): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { outcome } of result.requests) {
    const key = outcome ?? "unended";
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}
