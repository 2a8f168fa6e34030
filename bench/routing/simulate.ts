import type { Config } from "#streamserve/config/schema.js";
import { BenchError } from "../bench-error.js";
import { a800Pairs, servePairs } from "./pairs.js";
import type { RoutedRequest, RoutingScenario } from "./scenarios.js";

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
  const config = a800Pairs(pairs, {
    router,
    // Admission stays out of it: all are served.
    scheduler: { interactive: { ttftMs: 0, tpotMs: 0 } },
    speculation: { maxDepth: 0 },
  });
  const served = servePairs(config, requests, { slowness: scenario.slowness, draftability: 0 });
  const failed = served.filter(({ outcome }) => outcome !== "done");
  if (failed.length > 0) {
    throw new BenchError(`${scenario.name}: ${failed.length} failed (${failed[0]!.outcome}).`);
  }
  const sum = (of: (one: (typeof served)[number]) => number) =>
    served.reduce((total, one) => total + of(one), 0);
  return {
    firstTokenMs: served.map(({ firstTokenMs }) => firstTokenMs),
    tokenMs: served.map(({ tokenMs }) => tokenMs).filter(Number.isFinite),
    cachedShare: sum((one) => one.cachedTokens) / sum((one) => one.promptTokens),
    requests: requests.length,
  };
}
