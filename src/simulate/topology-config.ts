import { type Config, configSchema } from "../config/schema.js";
import type { Topology } from "./plan.js";

/** The configuration that gives the real deployment a plan's topology; whatever a plan does not set is the default. */
export function configOf(topology: Topology): Config {
  const { pairs, totalBlocks, blockTokens, contextTokens, prefill, decode, ringBytes } = topology;
  return configSchema.parse({
    pairs,
    engine: { kvTokens: totalBlocks * blockTokens, blockTokens, contextTokens },
    prefill,
    decode,
    scheduler: {
      maxWaiting: topology.maxWaiting,
      maxRunning: topology.maxRunning,
      ...topology.scheduler,
    },
    router: { ...topology.router },
    speculation: { maxDepth: topology.maxDepth },
    runtime: { ringBytes, promptSlabBytes: topology.promptSlabBytes },
  });
}
