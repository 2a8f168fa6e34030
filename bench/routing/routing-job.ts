import { type Summary, summarize } from "#streamserve/report/statistics.js";
import { ROUTING_SCENARIOS } from "./scenarios.js";
import { type RouterConfig, simulateRouting } from "./simulate.js";

/** One run: plain data, for a thread of its own. */
export interface RoutingJob {
  /** Its name. */
  readonly scenario: string;
  readonly pairs: number;
  readonly count: number;
  readonly seed: number;
  readonly router: RouterConfig;
}

export interface RoutingFigures {
  readonly firstTokenMs: Summary;
  readonly tokenMs: Summary;
  readonly cachedShare: number;
}

/** The job of a worker thread. Throws what `simulateRouting` throws. */
export default function playRouting({ scenario, pairs, count, seed, router }: RoutingJob): RoutingFigures {
  const played = ROUTING_SCENARIOS.find(({ name }) => name === scenario)!;
  const run = simulateRouting(played, played.requests(pairs, count, seed), pairs, router);
  const { firstTokenMs, tokenMs, cachedShare } = run;
  return { firstTokenMs: summarize(firstTokenMs), tokenMs: summarize(tokenMs), cachedShare };
}
