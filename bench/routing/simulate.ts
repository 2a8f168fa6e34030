import { type Config, configSchema } from "#streamserve/config/schema.js";
import { GREEDY } from "#streamserve/engine/engine.js";
import { A800_7B } from "#streamserve/engine/simulated-cost.js";
import { House } from "#streamserve/simulate/house.js";
import { BenchError } from "../bench-error.js";
import { type RoutedRequest, type RoutingScenario, VOCABULARY } from "./scenarios.js";

/** The router of a run, and what it may do. */
export type RouterConfig = Partial<Config["router"]>;

export interface RoutingRun {
  /** Milliseconds to the first token, and mean milliseconds a further token, of each request. */
  readonly firstTokenMs: number[];
  readonly tokenMs: number[];
  /** Share of prompt tokens that were found in a cache. */
  readonly cachedShare: number;
  readonly requests: number;
}

/** KV tokens of a pair's pool: some 60 GB of an A800 at 512 KiB a token. */
const POOL_TOKENS = 120_000;
const CONTEXT_TOKENS = 16_384;
/** A run whose virtual clock passes the last arrival by so much is stuck. */
const PATIENCE_MS = 600_000;

/**
 * Serves the requests with the real actors over simulated A800 pairs, each with a KV pool of its own. Speculation is
 * off: what is compared is routing.
 */
export function simulateRouting(
  scenario: RoutingScenario,
  requests: readonly RoutedRequest[],
  pairs: number,
  router: RouterConfig,
): RoutingRun {
  const config = configSchema.parse({
    pairs,
    engine: { kvTokens: POOL_TOKENS * pairs, contextTokens: CONTEXT_TOKENS },
    prefill: { maxRows: 16, maxBatchTokens: 2048 },
    decode: { maxRows: 128, maxBatchTokens: 512 },
    // Admission stays out of it: all are served.
    scheduler: {
      maxWaiting: 100_000,
      maxRunning: 100_000,
      interactive: { ttftMs: 0, tpotMs: 0 },
    },
    // A CPU's defaults would mislead it for the first requests.
    router: { unknownTokenMs: 0.1, unknownStepMs: 9, rowShare: 0.01, ...router },
    speculation: { maxDepth: 0 },
    runtime: { ringBytes: 1 << 22, promptSlabBytes: 1 << 28 },
  });
  const house = new House({
    config,
    model: { seed: 7, vocabulary: VOCABULARY, draftability: 0 },
    cost: A800_7B,
    contextTokens: CONTEXT_TOKENS,
    ownPools: true,
    simulation: { seed: 1 },
    disturbances: ({ name }) => {
      const factor = scenario.slowness?.(Number(name.split(".")[1] ?? 0)) ?? 1;
      return { slowdown: () => factor };
    },
  });
  const firstTokenMs: number[] = [];
  const tokenMs: number[] = [];
  let prompts = 0;
  let cached = 0;
  let left = requests.length;
  const failures: string[] = [];
  const sim = house.simulation;
  for (const request of requests) {
    sim.at(1 + request.atMs, () => {
      house.gateway.generate(
        {
          prompt: request.prompt,
          maxTokens: request.outputTokens,
          sampling: GREEDY,
          class: "interactive",
          deadlineMs: 0,
          credit: Number.POSITIVE_INFINITY,
        },
        {
          tokens: () => {},
          done: ({ timings, outputTokens, promptTokens, cachedTokens }) => {
            left--;
            prompts += promptTokens;
            cached += cachedTokens;
            firstTokenMs.push(timings.firstTokenMs);
            if (outputTokens > 1) {
              tokenMs.push((timings.totalMs - timings.firstTokenMs) / (outputTokens - 1));
            }
          },
          failed: (error) => {
            left--;
            failures.push(error.code);
          },
        },
      );
    });
  }
  const until = (requests.at(-1)?.atMs ?? 0) + PATIENCE_MS;
  while (left > 0 && sim.now < until && sim.step());
  if (left > 0 || failures.length > 0) {
    throw new BenchError(
      `${scenario.name}: ${left} requests did not end and ${failures.length} failed (${failures[0] ?? "none"}).`,
    );
  }
  return { firstTokenMs, tokenMs, cachedShare: cached / prompts, requests: requests.length };
}
