import { calibrate } from "#streamserve/actors/calibrate.js";
import { closeEngine, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";

/** Times steps of 1 to 32 tokens with the calibration that a start makes. */
export async function measureSteps(path: string, threads: number): Promise<(tokens: number) => number> {
  const engine = openEngine({ path, kvTokens: 1024, threads });
  const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: 32 });
  try {
    const { points } = calibrate(lane, "decode", 1000);
    const ms = new Map(points.map((point) => [point.tokens, point.ms]));
    return (tokens) => ms.get(tokens) ?? Number.POSITIVE_INFINITY;
  } finally {
    lane.close();
    closeEngine(engine.id);
  }
}
