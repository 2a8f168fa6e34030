import { loadHardware } from "#streamserve/simulate/serving/load-hardware.js";
import type { ServingSetup, Settings, Workload } from "#streamserve/simulate/serving/serving.js";
import type { RoutedRequest } from "./scenarios.js";

const A800 = loadHardware("a800-7b");

/** So many simulated pairs of A800s that admit whatever comes. */
export function a800Pairs(pairs: number, settings: Settings): ServingSetup {
  const scheduler = { maxWaiting: 100_000, maxRunning: 100_000, ...settings.scheduler };
  // Delays of messages are the same for all that are compared.
  const seed = 1;
  const objectives = { ttftMs: 0, tpotMs: 0 };
  return { hardware: A800, pairs, settings: { ...settings, scheduler }, objectives, seed };
}

/** The requests at their times, each with an answer of exactly its length. */
export function workloadOf(requests: readonly RoutedRequest[]): Workload {
  return {
    requests: requests.map(({ atMs, prompt, outputTokens }) => ({
      atMs,
      promptTokens: prompt.length,
      outputTokens,
      text: () => ({ prompt }),
    })),
  };
}
