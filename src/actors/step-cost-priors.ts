import type { Config } from "../config/schema.js";
import type { AssumedTimes } from "../policy/pair-signals.js";
import { type StepCostPrior, type StepPoint, straightLine } from "../policy/step-cost.js";
import type { Calibration } from "./calibrate.js";

/** What is assumed of steps before a lane has made any: by kind of lane. */
export interface StepCostPriors {
  readonly prefill: StepCostPrior;
  readonly decode: StepCostPrior;
}

/** Measured times of a kind of lane; a kind that was not measured goes by the configuration alone. */
export type Calibrations = Partial<Record<"prefill" | "decode", Calibration>>;

/** A time measured at start is believed up to so many times what the configuration has one expect, and down to its inverse. */
const BELIEVED = 4;

/**
 * Priors out of the configuration, and of measurements where there are some. What is assumed of context and rows is scaled
 * by how much faster or slower than assumed the measured steps were; what was measured of them counts within bounds of
 * that, since it is a small difference of two steps, and one of them may have been held up.
 */
export function stepCostPriors(config: Config, calibrations: Calibrations): StepCostPriors {
  const prior = (role: "prefill" | "decode"): StepCostPrior => {
    const { fixedMs, tokenMs, contextMs, attendMs, rowMs, sharedFactor, forgetting } = config.stepCost;
    const assumed = straightLine(fixedMs, tokenMs, config[role].maxBatchTokens);
    const points = calibrations[role]?.points ?? assumed;
    const scale = timeOf(points) / timeOf(assumed);
    const more = calibrations[role]?.more;
    const near = (expected: number, measured = expected) =>
      Math.min(BELIEVED * expected, Math.max(expected / BELIEVED, measured));
    return {
      points,
      contextMs: near(contextMs * scale, more?.contextMs),
      attendMs: near(attendMs * scale, more?.attendMs),
      rowMs: near(rowMs * scale, more?.rowMs),
      sharedFactor,
      forgetting,
    };
  };
  return { prefill: prior("prefill"), decode: prior("decode") };
}

/** The same as the router takes it: straight lines. */
export function assumedTimes({ prefill, decode }: StepCostPriors): AssumedTimes {
  const [prompt, row] = [lineOf(prefill.points), lineOf(decode.points)];
  return {
    prefillPace: {
      fixedMs: prompt.fixedMs,
      firstMs: 1000 * prompt.tokenMs,
      // From a thousand tokens attended to, to a million.
      secondMs: 1000 * prefill.attendMs,
    },
    decodePace: {
      fixedMs: row.fixedMs,
      firstMs: row.tokenMs + decode.rowMs,
      secondMs: decode.contextMs,
    },
  };
}

/** Through the least and the largest step. */
function lineOf(points: readonly StepPoint[]): { readonly fixedMs: number; readonly tokenMs: number } {
  const [from, to] = [points[0]!, points.at(-1)!];
  const tokenMs = (to.ms - from.ms) / Math.max(1, to.tokens - from.tokens);
  // Not 0: what is sure can't be learnt.
  return { fixedMs: Math.max(0.01 * from.ms, from.ms - tokenMs * from.tokens), tokenMs };
}

/** Milliseconds of the least step. */
function timeOf(points: readonly StepPoint[]): number {
  return points[0]!.ms;
}
