import type { LaneLimits } from "./engine.js";
import type { StepCostModel } from "./simulated-cost.js";
import { SimulatedLane, type SimulatedLaneOptions } from "./simulated-engine.js";
import type { SimulatedModel } from "./simulated-model.js";
import { SimulatedPool } from "./simulated-pool.js";

export interface SimulatedEngineOptions {
  readonly model: SimulatedModel;
  readonly cost: StepCostModel;
  readonly contextTokens: number;
  readonly blockTokens: number;
  readonly totalBlocks: number;
}

/** A simulated engine: one model, one KV pool, and the lanes opened on it. */
export class SimulatedEngine {
  readonly pool: SimulatedPool;
  readonly #lanes = new Map<number, SimulatedLane>();

  constructor(readonly options: SimulatedEngineOptions) {
    const { totalBlocks, blockTokens, cost } = options;
    this.pool = new SimulatedPool(totalBlocks, blockTokens, cost.tokenMs / cost.contextMs);
  }

  /**
   * Opens lane number `lane`. If it was open before, its holder is dead: its step ends, as a device's does
   * whoever waits for it, and what it owned or was handed is given back. `stepCost`: what its steps cost, if not what all do.
   */
  open(
    lane: number,
    limits: Pick<LaneLimits, "maxRows" | "maxBatchTokens">,
    disturbances: Pick<SimulatedLaneOptions, "slowdown" | "begin" | "failure"> = {},
    stepCost: StepCostModel = this.options.cost,
  ): SimulatedLane {
    this.#lanes.get(lane)?.close();
    const { model, contextTokens, blockTokens } = this.options;
    const opened = new SimulatedLane(this.pool, {
      lane,
      limits: { contextTokens, vocabulary: model.vocabulary, blockTokens, ...limits },
      model,
      cost: stepCost,
      ...disturbances,
    });
    this.#lanes.set(lane, opened);
    return opened;
  }
}
