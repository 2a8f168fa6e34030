import type { LaneEngine, LaneRole } from "../engine/engine.js";
import { type EngineInfo, NativeLane } from "../engine/native-engine.js";

export interface LaneResourceOptions {
  readonly engine: EngineInfo;
  /** Number of the lane in the engine. */
  readonly lane: number;
  readonly role: LaneRole;
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  /** Of lanes that decode: the draft model, if there is one. */
  readonly draft?: EngineInfo | undefined;
}

/** A lane's face of the engine, opened on the lane's thread; what an earlier incarnation left is reclaimed. */
export async function laneResources(options: LaneResourceOptions): Promise<LaneEngine> {
  return new NativeLane(options);
}
