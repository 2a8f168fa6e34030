import type { Config } from "../config/schema.js";
import { type StepCostPrior, type StepPoint, straightLine } from "../policy/step-cost.js";
import type { Calibration } from "./calibrate.js";

/** What is assumed of steps before a lane has made any: by kind of lane. */
export interface StepCostPriors {
  readonly prefill: StepCostPrior;
  readonly decode: StepCostPrior;
}

/** Measured times of a kind of lane; a kind that was not measured goes by the configuration alone. */
export type Calibrations = Partial<Record<"prefill" | "decode", Calibration>>;

/**
 * Priors out of the configuration, and of measurements where there are some: the times of context and rows, which are
 * not measured, are scaled by how much faster or slower than assumed the measured steps were.
 */
export function stepCostPriors(config: Config, calibrations: Calibrations): StepCostPriors {
  const prior = (role: "prefill" | "decode"): StepCostPrior => {
    const { fixedMs, tokenMs, contextMs, attendMs, rowMs, sharedFactor, forgetting } = config.stepCost;
    const assumed = straightLine(fixedMs, tokenMs, config[role].maxBatchTokens);
    const points = calibrations[role]?.points ?? assumed;
    const scale = timeOf(points) / timeOf(assumed);
    return {
      points,
      contextMs: contextMs * scale,
      attendMs: attendMs * scale,
      rowMs: rowMs * scale,
      sharedFactor,
      forgetting,
    };
  };
  return { prefill: prior("prefill"), decode: prior("decode") };
}

/** Milliseconds of the least step. */
function timeOf(points: readonly StepPoint[]): number {
  return points[0]!.ms;
}
