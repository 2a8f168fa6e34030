import type { Config } from "#streamserve/config/schema.js";
import { simulateServing } from "#streamserve/simulate/serving/simulate-serving.js";
import { BenchError } from "../bench-error.js";
import { a800Pairs, workloadOf } from "./pairs.js";
import { type RoutedRequest, type RoutingScenario, VOCABULARY } from "./scenarios.js";

/** The router of a run, and what it may do. */
export type RouterConfig = Partial<Config["router"]>;

export interface RoutingRun {
  /** Milliseconds to the first token, and mean milliseconds a further token, of each request. */
  readonly firstTokenMs: number[];
  readonly tokenMs: number[];
  /** Share of prompt tokens that were found in a cache. */
  readonly cachedShare: number;
}

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
  const { slowness } = scenario;
  const setup = a800Pairs(pairs, {
    router,
    // Admission stays out of it: all are served.
    scheduler: { interactive: { ttftMs: 0, tpotMs: 0 } },
    speculation: { maxDepth: 0 },
  });
  const { requests: served } = simulateServing(
    {
      ...setup,
      drawn: { vocabulary: VOCABULARY, draftability: 0 },
      ...(slowness && { slowness: (lane: string) => slowness(Number(lane.split(".")[1] ?? 0)) }),
    },
    workloadOf(requests),
  );
  const failed = served.filter(({ outcome }) => outcome !== "done");
  if (failed.length > 0) {
    throw new BenchError(`${scenario.name}: ${failed.length} failed (${failed[0]!.outcome}).`);
  }
  const sum = (of: (one: (typeof served)[number]) => number) =>
    served.reduce((total, one) => total + of(one), 0);
  return {
    firstTokenMs: served.map(({ ttftMs }) => ttftMs),
    tokenMs: served.map(({ tpotMs }) => tpotMs).filter(Number.isFinite),
    cachedShare: sum((one) => one.cachedTokens) / sum((one) => one.promptTokens),
  };
}
