import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import { impossibleObjective, type TimedStep } from "../policy/objectives.js";

/** Steps timed at start, by kind of lane; empty where nothing was timed. */
export interface TimedSteps {
  readonly prefill: readonly TimedStep[];
  readonly decode: readonly TimedStep[];
}

/**
 * Throws `config_invalid`, with the key in `details.key`, for a class that is promised what this machine can't
 * give to a single request: every one of them would be refused, or served late.
 */
export function checkPromises({ scheduler, speculation }: Config, steps: TimedSteps): void {
  for (const of of ["interactive", "offline"] as const) {
    const impossible = impossibleObjective(scheduler[of], steps, speculation.maxDepth);
    if (!impossible) continue;
    const key = `scheduler.${of}.${impossible.key}`;
    throw new StreamServeError(
      "config_invalid",
      `"${key}" can't be kept: ${impossible.why}. Allow more, or serve a smaller model.`,
      { key },
    );
  }
}
